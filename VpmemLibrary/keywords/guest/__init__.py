"""Keywords on guests."""
