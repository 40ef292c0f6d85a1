"""Keep pages of a NUMA node that the kernel cannot move, print "pinned", and wait two minutes.

Usage: pin_memory.py NODE

The pages stay in a pipe as references. They are user memory, which the kernel allocates from the node's movable zone
first.
"""

import ctypes
import mmap
import os
import sys
import time

PAGE = 4096
SET_MEMPOLICY = 238  # its number on x86_64 (arch/x86/entry/syscalls/syscall_64.tbl)
MPOL_BIND = 2  # include/uapi/linux/mempolicy.h


class Piece(ctypes.Structure):
    """A piece of memory, as vmsplice takes it."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


libc = ctypes.CDLL(None, use_errno=True)
mask = ctypes.c_ulong(1 << int(sys.argv[1]))
if libc.syscall(SET_MEMPOLICY, MPOL_BIND, ctypes.byref(mask), 8 * ctypes.sizeof(mask)) != 0:
    sys.exit(f"set_mempolicy: {os.strerror(ctypes.get_errno())}")
memory = mmap.mmap(-1, 2 << 20)
for at in range(0, len(memory), PAGE):
    memory[at] = 1
piece = Piece(ctypes.addressof(ctypes.c_char.from_buffer(memory)), 1 << 16)
if libc.vmsplice(os.pipe()[1], ctypes.byref(piece), 1, 0) <= 0:
    sys.exit("vmsplice took no page")
print("pinned", flush=True)
time.sleep(120)
