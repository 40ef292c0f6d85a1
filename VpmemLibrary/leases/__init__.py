"""Locks that a host's kernel holds for a worker."""
