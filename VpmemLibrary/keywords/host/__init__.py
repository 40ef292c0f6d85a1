"""Keywords on a host."""
