"""Namespaces that are handed out to tenants."""
