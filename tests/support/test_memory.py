import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

# Faults of a process that writes eight blocks of 16 MB and frees them, twenty times.
FAULTS = """
import ctypes, resource, sys
from stages.support.memory import keep_freed
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.memset.argtypes, libc.free.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t], [ctypes.c_void_p]
if sys.argv[1] == "kept":
    keep_freed()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    blocks = [libc.malloc(2**24) for _ in range(8)]
    for block in blocks:
        libc.memset(block, 1, 2**24)
    for block in blocks:
        libc.free(block)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not (sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt")), reason="glibc alone")
def test_freed_memory_is_used_again_without_a_fault():
    kept, returned = (
        int(subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True).stdout)
        for how in ("kept", "returned")
    )
    assert kept < returned / 3


# What the system knows of the memory of a tensor of 16 MB: hg is "takes large pages if it can".
FLAGS = """
from stages.support.memory import keep_freed
keep_freed()
import torch
place, inside = torch.empty(2**24, dtype=torch.uint8).data_ptr(), False
for line in open("/proc/self/smaps"):
    first, _, last = line.partition(" ")[0].partition("-")
    if last:
        inside = int(first, 16) <= place < int(last, 16)
    elif inside and line.startswith("VmFlags:"):
        print(line)
"""


@pytest.mark.skipif(not Path("/sys/kernel/mm/transparent_hugepage/enabled").exists(), reason="a system with large pages alone")
def test_large_tensors_take_large_pages():
    found = subprocess.run([sys.executable, "-c", FLAGS], capture_output=True, text=True, check=True).stdout
    assert "hg" in found.split()
