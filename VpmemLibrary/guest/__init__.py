"""A guest: its domain, its life, and the ways into it."""
