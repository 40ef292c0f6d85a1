"""Leases: locks that the kernel of a host holds for a worker."""
