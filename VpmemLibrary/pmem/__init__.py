"""What ndctl and daxctl know, on one host."""
