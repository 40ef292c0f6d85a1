"""The ways to libvirt and into a guest."""
