"""A guest reached over its serial console."""
