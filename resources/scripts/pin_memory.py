"""Keep pages of memory that the kernel cannot move, print "pinned", and wait two minutes.

The pages stay in a pipe as references. They are user memory, which the kernel allocates from the movable zone first.
"""

import ctypes
import mmap
import os
import sys
import time

PAGE = 4096


class Piece(ctypes.Structure):
    """A piece of memory, as vmsplice takes it."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


memory = mmap.mmap(-1, 32 << 20)
for at in range(0, len(memory), PAGE):
    memory[at] = 1
piece = Piece(ctypes.addressof(ctypes.c_char.from_buffer(memory)), 1 << 16)
if ctypes.CDLL(None).vmsplice(os.pipe()[1], ctypes.byref(piece), 1, 0) <= 0:
    sys.exit("vmsplice took no page")
print("pinned", flush=True)
time.sleep(120)
