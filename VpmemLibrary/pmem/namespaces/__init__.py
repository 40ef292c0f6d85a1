"""Plan, create, change and destroy namespaces."""
