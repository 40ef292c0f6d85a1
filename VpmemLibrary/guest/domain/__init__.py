"""Domains: their definition and XML."""
