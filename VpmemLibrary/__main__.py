"""`python -m VpmemLibrary`: the command `vpmem` of this very environment, wherever its scripts lie."""

from VpmemLibrary.cli.main import main

if __name__ == "__main__":
    main(prog_name="vpmem")
