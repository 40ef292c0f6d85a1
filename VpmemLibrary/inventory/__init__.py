"""Whose a namespace is: names, marks and cleanup."""
