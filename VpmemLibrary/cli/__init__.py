"""The command line ``vpmem``."""
