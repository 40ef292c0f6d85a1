"""Servers and flavors with persistent memory, as OpenStack Nova has them, on real hosts."""
