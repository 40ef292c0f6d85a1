"""The bytes of devices and files: patterns, where to write the patterns, and how to verify them."""
