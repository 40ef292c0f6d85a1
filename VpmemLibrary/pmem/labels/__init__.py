"""Read, check, write and save label areas and their labels."""
