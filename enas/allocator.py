"""The C library's allocator, told to keep what is freed."""

import ctypes

MMAP_MAX, TRIM_THRESHOLD = -4, -1
"""Settings of glibc's mallopt(3)."""


def keep_memory() -> bool:
    """Have the C library of this process keep what is freed; returns whether it can be told.

    Otherwise every large tensor is fetched from the system and given back, and its first use costs page faults: plain
    PyTorch then takes 1.35 to 2.4 times as long, and by how much depends on what was allocated before.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # a C library other than glibc
        return False
    return bool(mallopt(MMAP_MAX, 0)) and bool(mallopt(TRIM_THRESHOLD, 2**31 - 1))
