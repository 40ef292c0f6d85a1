"""Inspect and change the media: info blocks, BTT, health, scrubs and injected errors."""
