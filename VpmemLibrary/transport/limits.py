"""Limits on what a guest sends, so that a guest cannot fill the memory of this process."""

from __future__ import annotations

from VpmemLibrary.sizes import MiB

MOST_OUTPUT = 16 * MiB
"""Bytes of a command's output, or of a file: as many as the guest agent keeps (QEMU, qga/commands.c)."""
