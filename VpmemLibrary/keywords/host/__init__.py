"""Keywords for hosts."""
