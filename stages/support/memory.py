"""Memory that a process frees, kept for what it needs next."""

import ctypes
import sys

# What glibc's malloc.h calls M_MMAP_MAX, M_TRIM_THRESHOLD and M_TOP_PAD: no block from the system alone, none given back early,
# and 64 MB at a time.
OPTIONS = {-4: 0, -1: 2**31 - 1, -2: 2**26}


def keep_freed() -> None:
    """Let glibc keep large blocks that are freed; elsewhere nothing happens.

    It would give each back to the system, which then clears every page of the next: up to two thirds of a CPU's time.
    """
    if sys.platform == "linux" and (set_option := getattr(ctypes.CDLL(None), "mallopt", None)):
        for option, value in OPTIONS.items():
            set_option(option, value)
