"""The checks of ``vpmem doctor``: find the problems of one host before a run fails because of them."""
