"""Code that the keyword modules share."""
