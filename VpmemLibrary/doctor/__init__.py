"""What would break a run on one host, found before the run: the checks of ``vpmem doctor``."""
