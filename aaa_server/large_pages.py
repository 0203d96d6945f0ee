"""The heap in large pages, where Linux has them.

A price list and its accounts are some hundred megabytes that a call touches here and there:
with pages of 4 KiB nearly every touch is a walk through page tables, twice over in a virtual
machine. Linux makes 2 MiB of memory in use one page when it is asked to.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
import time
from pathlib import Path

LARGE_PAGE_OCTETS = 2 * 1024 * 1024
_MADV_COLLAPSE = 25  # madvise(2), since Linux 6.1


def use_large_pages(seconds_max: float = 60.0) -> int:
    """Ask for large pages wherever memory is this process's own.

    Returns how many octets are in such pages then; 0 where the system has none to give,
    which harms nothing. Takes a tenth of a second for each 50 MB that are not yet; after
    `seconds_max` the rest is left for the next time.
    """
    if sys.platform != "linux":
        return 0
    try:
        madvise = ctypes.CDLL(None).madvise
        regions = _own_memory()
    except (OSError, AttributeError):
        return 0
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    done = 0
    deadline = time.monotonic() + seconds_max
    for begin, end in regions:
        first = -(-begin // LARGE_PAGE_OCTETS) * LARGE_PAGE_OCTETS
        last = end // LARGE_PAGE_OCTETS * LARGE_PAGE_OCTETS
        if first < last:
            madvise(first, last - first, mmap.MADV_HUGEPAGE)  # for what comes into use later
        for page in range(first, last, LARGE_PAGE_OCTETS):
            if madvise(page, LARGE_PAGE_OCTETS, _MADV_COLLAPSE) == 0:
                done += LARGE_PAGE_OCTETS
            if time.monotonic() > deadline:
                return done
    return done


def _own_memory() -> list[tuple[int, int]]:
    """Where anonymous memory lies that may be written: the heap and its arenas."""
    regions = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        place, rights, _, _, inode, *name = line.split(maxsplit=5)
        if rights == "rw-p" and inode == "0" and (not name or name[0] == "[heap]"):
            begin, _, end = place.partition("-")
            regions.append((int(begin, 16), int(end, 16)))
    return regions
