"""Run commands on a host over SSH."""
