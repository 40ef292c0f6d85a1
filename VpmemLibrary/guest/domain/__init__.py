"""Libvirt domains: their definition and their XML."""
