"""The C library's allocator, told to keep what is freed, in large pages."""

import ctypes
import mmap
import os
from functools import cache

MMAP_MAX, TRIM_THRESHOLD = -4, -1
"""Settings of glibc's mallopt(3)."""
SHARE = 4
"""Large pages are asked for within the first of so many parts of the machine's memory."""


@cache
def keep_memory() -> bool:
    """Have the C library of this process keep what is freed; returns whether it can be told.

    Otherwise every large tensor is fetched from the system and given back, and its first use costs page faults: plain
    PyTorch then takes 1.35 to 2.4 times as long, and by how much depends on what was allocated before.

    Where the system gives large pages to who asks (Linux, /sys/kernel/mm/transparent_hugepage/enabled: madvise), they
    are asked for: a training step walks through tens of MiB, and looks up an address anew every 4 KiB otherwise.
    """
    try:
        library = ctypes.CDLL(None)
        mallopt = library.mallopt
    except AttributeError:  # a C library other than glibc
        return False
    kept = bool(mallopt(MMAP_MAX, 0)) and bool(mallopt(TRIM_THRESHOLD, -1))
    if kept and hasattr(mmap, "MADV_HUGEPAGE"):
        _ask_for_large_pages(library)
    return kept


def _ask_for_large_pages(library: ctypes.CDLL) -> None:
    """Take memory that nothing has touched, mark it, and free it: tensors to come lie in it.

    It takes addresses only; memory is given page by page, when it is first written to. Where there is none of it,
    or the system has no large pages, all stays as it was.
    """
    library.malloc.argtypes, library.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
    library.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    library.free.argtypes, library.free.restype = [ctypes.c_void_p], None
    size = os.sysconf("SC_PHYS_PAGES") * mmap.PAGESIZE // SHARE
    memory = library.malloc(size)
    if memory is None:
        return
    begin = -(-memory // mmap.PAGESIZE) * mmap.PAGESIZE
    end = (memory + size) // mmap.PAGESIZE * mmap.PAGESIZE
    library.madvise(begin, end - begin, mmap.MADV_HUGEPAGE)
    library.free(memory)
