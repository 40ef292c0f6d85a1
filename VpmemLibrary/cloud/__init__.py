"""The lab's cloud: a real OpenStack whose compute hosts are lab hosts."""
