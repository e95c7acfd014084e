"""Landlock: file access by allow list, and no signals or abstract sockets to the outside.

Defence in depth where a mount namespace already shows nothing else, and the wall itself where
there is none. The kernel's version is asked by the call itself, never by
/sys/kernel/security/lsm, which has false negatives.
Source: landlock(7), https://docs.kernel.org/userspace-api/landlock.html
"""

from __future__ import annotations

import os
import struct

from . import syscalls
from .sysno import X86_64

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_MAKE_CHAR, _MAKE_BLOCK = 1 << 6, 1 << 11
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_BIND_TCP, _CONNECT_TCP = 1, 2
_SCOPE_ABSTRACT_UNIX, _SCOPE_SIGNAL = 1, 2
SCOPES = _SCOPE_ABSTRACT_UNIX | _SCOPE_SIGNAL
# what a rule may leave
LIST = _READ_DIR
READ = _EXECUTE | _READ_FILE | _READ_DIR
DEVICE = _READ_FILE | _WRITE_FILE | _TRUNCATE | _IOCTL_DEV
WRITE = ((1 << 16) - 1) & ~(_MAKE_CHAR | _MAKE_BLOCK)
_OF_FILES = _EXECUTE | _READ_FILE | _WRITE_FILE | _TRUNCATE | _IOCTL_DEV


def version() -> int:
    """Return the kernel's Landlock ABI, 0 where it has none."""
    try:
        number = X86_64["landlock_create_ruleset"]  # the same on every architecture
        return syscalls.syscall(number, None, 0, 1, what="landlock_create_ruleset")
    except OSError:
        return 0


def attributes(abi: int, *, connect: bool = False) -> bytes:
    """Return what a ruleset handles: all file access, TCP, signals, as far as `abi` knows them.

    Args:
        abi: what `version` returned; not 0.
        connect: leave TCP connections to others.
    """
    packed = struct.pack("<Q", _handled(abi))
    if abi >= 4:
        packed += struct.pack("<Q", _BIND_TCP | (0 if connect else _CONNECT_TCP))
    if abi >= 6:
        packed += struct.pack("<Q", SCOPES)
    return packed


def rule(abi: int, descriptor: int, access: int, *, folder: bool = True) -> bytes:
    """Return the rule that leaves what is below an open path.

    Args:
        abi: what `version` returned.
        descriptor: of the path.
        access: READ, LIST, DEVICE or WRITE.
        folder: whether it is one; a file knows no right that is about names.
    """
    allowed = access & _handled(abi)
    return struct.pack("<Qi", allowed if folder else allowed & _OF_FILES, descriptor)


def _handled(abi: int) -> int:
    handled = (1 << 13) - 1
    handled |= _REFER if abi >= 2 else 0
    handled |= _TRUNCATE if abi >= 3 else 0
    return handled | (_IOCTL_DEV if abi >= 5 else 0)


def open_input() -> None:
    """Make descriptor 0 the sandbox's own /dev/null: `/dev/stdin` is refused on another."""
    own = os.open(os.devnull, os.O_RDONLY)
    os.dup2(own, 0)
    os.close(own)
