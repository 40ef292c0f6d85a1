"""Manage regions, their free room, and CXL regions."""
