"""The disposable host: image, machine, saved state, command line."""
