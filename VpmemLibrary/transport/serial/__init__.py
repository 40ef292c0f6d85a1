"""Reach a guest over its serial console."""
