"""Keywords for a cloud: OpenStack with vPMEM."""
