"""The objects that runs make on hosts: their marks, their removal, and the report of leaks."""
