"""Uses up the holes of the allocators, so that what is made from here on lies side by side.

A heap that has imported a hundred modules has holes on most of its pages. A forked process
that puts its objects there copies a page for each; one whose zygote has filled them begins
on fresh pages, and needs few.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterable

_HEADER = sys.getsizeof(b"")
_OF_PYTHON = range(48, 513, 16)  # served by the interpreter's own allocator
_OF_LIBC = range(24, 1600, 16)  # the interpreter's larger ones, and all of extension modules
_IN_A_ROW = 8  # so many neighbours are no coincidence
_MOST_BYTES = 8 << 20  # where addresses tell nothing, that is the price of a zygote
_malloc = ctypes.CDLL(None).malloc
_malloc.argtypes = [ctypes.c_size_t]
_malloc.restype = ctypes.c_void_p
_kept: list[bytes] = []


def fill() -> None:
    """Make blocks of each size, and keep them, until they come one behind the other."""
    _fill(_OF_PYTHON, _make_object)
    _fill(_OF_LIBC, _malloc)


def _fill(sizes: Iterable[int], make: Callable[[int], int | None]) -> None:
    spent = 0
    for size in sizes:
        row = before = 0
        while row < _IN_A_ROW and spent < _MOST_BYTES:
            at = make(size) or 0  # there is no more: the next who asks is told
            spent += size
            row = row + 1 if 0 < at - before <= size + 16 else 0
            before = at


def _make_object(size: int) -> int:
    _kept.append(bytes(size - _HEADER))
    return id(_kept[-1])
