"""Bytes: patterns, where they lie, and their proof."""
