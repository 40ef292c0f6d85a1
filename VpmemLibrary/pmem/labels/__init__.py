"""Label areas and the labels in them."""
