"""A host: the ways to reach it, and what is on it."""
