"""The connections to libvirt, and the channels into a guest."""
