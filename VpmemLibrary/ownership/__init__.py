"""What a run made: marks, cleanup, leak report."""
