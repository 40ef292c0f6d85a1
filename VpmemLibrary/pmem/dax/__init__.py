"""Manage device-DAX instances: their modes, their memory and dynamic regions."""
