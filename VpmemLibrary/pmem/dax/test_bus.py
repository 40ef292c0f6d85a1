"""Refuse to map the memory of a test bus.

The memory of a test bus comes from ``vmalloc``. If a program maps device DAX there, the kernel returns EFAULT or stops
with an oops, and the program can no longer be ended (kernel 6.12). A guest on such memory ends with SIGBUS.
"""

from __future__ import annotations

from VpmemLibrary.errors import UnsupportedError

TEST_BUS = "nfit_test"
"""The prefix of the provider of every test bus (a bus of the kernel's nfit_test module)."""

ON_TEST_BUS = r"""
on_test_bus() { case $(readlink -f "$1") in */nfit_test.*) ;; *) return 1 ;; esac; }
"""
"""A shell function. It returns whether a path in sysfs is a device of a test bus."""


def mapping_refused(node: str, host: str) -> UnsupportedError:
    """Return the error that refuses to map a device of a test bus.

    Args:
        node: The device or the namespace.
        host: The host's name.
    """
    return UnsupportedError(
        f"{node} on {host} is on a test bus ({TEST_BUS}), whose memory cannot be mapped: device DAX would crash the "
        "kernel, and a guest would end. Nothing was changed. Use a region of another bus, or a namespace of mode "
        "fsdax, sector or raw."
    )
