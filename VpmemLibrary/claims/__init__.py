"""Namespaces that tenants claim."""
