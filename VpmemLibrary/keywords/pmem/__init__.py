"""Keywords on regions, namespaces, labels and media."""
