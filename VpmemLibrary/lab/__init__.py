"""The lab: disposable hosts, with their image, saved state, private network and command line."""
