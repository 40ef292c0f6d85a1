"""Regions, the room in them, and CXL regions."""
