"""A controller that has too little of something."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator


@contextlib.contextmanager
def no_descriptors(*, free: int = 0) -> Iterator[None]:
    """Leave this process only `free` descriptors that it could open, besides those that it has."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = [os.dup(0) for _ in range(free + 1)]
    for each in opened:
        os.close(each)
    resource.setrlimit(resource.RLIMIT_NOFILE, (opened[-1], limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
