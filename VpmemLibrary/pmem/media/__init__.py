"""What lies on the media: info blocks, BTT, health, scrubs, injected errors."""
