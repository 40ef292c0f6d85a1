"""Servers and flavors with persistent memory on real hosts, as in OpenStack Nova."""
