"""Run commands on a machine: on this machine, over SSH, or over a serial console."""
