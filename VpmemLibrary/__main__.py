"""Run the command `vpmem` as `python -m VpmemLibrary`, with the Python of any environment."""

from __future__ import annotations

import sys

from VpmemLibrary.errors import UnsupportedError
from VpmemLibrary.extras import require_extra


def main() -> None:
    """Run the command `vpmem`. If its packages are not installed, say how to install them."""
    try:
        require_extra("cli", "The command vpmem")
    except UnsupportedError as error:
        sys.exit(str(error))
    from VpmemLibrary.cli.main import main as vpmem  # noqa: PLC0415  the import needs the extra

    vpmem(prog_name="vpmem")


if __name__ == "__main__":
    main()
