"""Independent views of a guest's devices."""
