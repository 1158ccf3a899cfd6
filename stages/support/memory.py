"""Memory that a process frees, kept for what it needs next."""

import ctypes
import sys

# What glibc's malloc.h calls M_MMAP_THRESHOLD, at its most, and M_TRIM_THRESHOLD. Larger blocks would leave gaps of no use.
OPTIONS = {-3: 2**25, -1: 2**31 - 1}


def keep_freed() -> None:
    """Let glibc keep blocks of up to 32 MB that are freed, two GB of them at most; elsewhere nothing happens.

    It would give them back to the system, which then clears every page of the next: up to a quarter of a student's step.
    """
    if sys.platform == "linux" and (set_option := getattr(ctypes.CDLL(None), "mallopt", None)):
        for option, value in OPTIONS.items():
            set_option(option, value)
