"""The things that runs make on hosts: marks, cleanup, leak report."""
