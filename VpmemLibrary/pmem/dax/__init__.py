"""Device DAX."""
