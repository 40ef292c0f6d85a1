"""Manage one host's persistent memory with ndctl and daxctl."""
