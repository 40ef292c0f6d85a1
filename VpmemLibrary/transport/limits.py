"""Limits on the data from a guest, so that a guest cannot fill the memory of this process."""

from __future__ import annotations

from VpmemLibrary.sizes import MiB

MOST_OUTPUT = 16 * MiB
"""The most bytes of a command's output or of a file. The guest agent has the same limit (QEMU, qga/commands.c)."""
