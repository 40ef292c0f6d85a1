"""Write, verify and measure the bytes of devices and files."""
