"""Run commands on a machine: on this machine, over SSH, or on a serial console."""
