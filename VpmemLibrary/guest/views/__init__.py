"""Independent readings of a guest's devices."""
