"""Running a command somewhere: on this machine, over SSH, on a serial console."""
