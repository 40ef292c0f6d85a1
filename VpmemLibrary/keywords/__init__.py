"""What a .robot file sees: one topic a module."""
