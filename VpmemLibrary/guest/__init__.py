"""Guests: their domains, their lifecycle, the channels into them, and the views of their devices."""
