"""Landlock: file access by allow list, and no signals or abstract sockets to the outside.

Defence in depth here: the mount namespace already shows nothing else. The kernel's version is
asked by the call itself, never by /sys/kernel/security/lsm, which has false negatives.
Source: landlock(7), https://docs.kernel.org/userspace-api/landlock.html
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterable

from . import syscalls

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same numbers on every architecture
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_MAKE_CHAR, _MAKE_BLOCK = 1 << 6, 1 << 11
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_FOR_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_BIND_TCP, _CONNECT_TCP = 1, 2
_SCOPE_ABSTRACT_UNIX, _SCOPE_SIGNAL = 1, 2


def version() -> int:
    """Return the kernel's Landlock ABI, 0 where it has none."""
    try:
        return syscalls.syscall(_CREATE, None, 0, 1, what="landlock_create_ruleset")
    except OSError:
        return 0


def restrict(*, readable: Iterable[str], writable: Iterable[str], abi: int) -> None:
    """Leave this process and its children these paths; `no_new_privs` must be set.

    Args:
        readable: may be read and executed below.
        writable: everything else too, below, except making devices.
        abi: what `version` returned; not 0.
    """
    handled = (1 << 13) - 1
    handled |= _REFER if abi >= 2 else 0
    handled |= _TRUNCATE if abi >= 3 else 0
    handled |= _IOCTL_DEV if abi >= 5 else 0
    attributes = struct.pack("<Q", handled)
    if abi >= 4:
        attributes += struct.pack("<Q", _BIND_TCP | _CONNECT_TCP)
    if abi >= 6:
        attributes += struct.pack("<Q", _SCOPE_ABSTRACT_UNIX | _SCOPE_SIGNAL)
    ruleset = syscalls.syscall(
        _CREATE, attributes, len(attributes), 0, what="landlock_create_ruleset"
    )
    try:
        read = _EXECUTE | _READ_FILE | _READ_DIR
        for path in readable:
            _allow(ruleset, path, read)
        for path in writable:
            _allow(ruleset, path, handled & ~(_MAKE_CHAR | _MAKE_BLOCK))
        syscalls.syscall(_RESTRICT, ruleset, 0, what="landlock_restrict_self")
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, access: int) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            access &= _FOR_FILES
        rule = struct.pack("<Qi", access, descriptor)
        syscalls.syscall(_ADD, ruleset, 1, rule, 0, what=f"landlock_add_rule {path}")
    finally:
        os.close(descriptor)
