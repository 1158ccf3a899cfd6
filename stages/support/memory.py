"""Memory that a process frees, kept for what it needs next; and in large pages."""

import ctypes
import os
import sys

# What glibc's malloc.h calls M_MMAP_THRESHOLD, at its most, and M_TRIM_THRESHOLD. Larger blocks would leave gaps of no use.
OPTIONS = {-3: 2**25, -1: 2**31 - 1}
LARGE_PAGES = "THP_MEM_ALLOC_ENABLE"  # torch reads it at its first tensor of 2 MB


def keep_freed() -> None:
    """Let glibc keep blocks of up to 32 MB that are freed, two GB of them at most; tensors from 2 MB on take large pages.

    The system clears every page that it gives: up to a quarter of a student's step. Of large ones, for blocks that are not
    kept, there are 500 times fewer. Elsewhere than on Linux nothing happens. What the variable says already is left alone.
    """
    if sys.platform == "linux":
        os.environ.setdefault(LARGE_PAGES, "1")
        if set_option := getattr(ctypes.CDLL(None), "mallopt", None):
            for option, value in OPTIONS.items():
                set_option(option, value)
