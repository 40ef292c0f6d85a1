"""What keywords share."""
