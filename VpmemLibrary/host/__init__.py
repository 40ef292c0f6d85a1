"""Hosts: how to reach a host, and what is on the host."""
