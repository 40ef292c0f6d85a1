"""The lab: disposable hosts, with their image, machines, saved state and command line."""
