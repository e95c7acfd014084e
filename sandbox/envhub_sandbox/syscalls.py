"""The system calls that Python has no name for, through ctypes.

Each function raises `OSError` with the call's name. Flags are those of the kernel's headers;
the man page is named where the call is unusual. `PyDLL` keeps the interpreter's lock during
`clone`, so that no other thread can run between the fork and Python's own after-fork work.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal
import struct
from collections.abc import Iterator, Sequence

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
_CLONE_PIDFD = 0x00001000
_CLONE_CHILD_CLEARTID = 0x00200000
_CLONE_CHILD_SETTID = 0x01000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MNT_DETACH = 2

PR_SET_PDEATHSIG = 1
PR_GET_DUMPABLE = 3
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_CAPBSET_DROP = 24
PR_SET_SECUREBITS = 28
PR_SET_NO_NEW_PRIVS = 38
_PR_GET_TID_ADDRESS = 40
_PIDFD_SIGNAL_PROCESS_GROUP = 1 << 2
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_CLEAR_ALL = 4
# capabilities(7): keep no capability by uid 0, and lock that for ever
SECUREBITS_LOCKED = 0xEF

_SYS_CLONE = {"x86_64": 56, "aarch64": 220}
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_SYS_CAPSET = {"x86_64": 126, "aarch64": 91}
_SYS_SECCOMP = {"x86_64": 317, "aarch64": 277}
MACHINE = platform.machine()

_libc = ctypes.CDLL(None, use_errno=True)
# by name they would be made anew in each child, for it is there that they are asked for first
_before_fork = ctypes.pythonapi.PyOS_BeforeFork
_after_fork_in_child = ctypes.pythonapi.PyOS_AfterFork_Child
_after_fork_in_parent = ctypes.pythonapi.PyOS_AfterFork_Parent
_clone = ctypes.PyDLL(None, use_errno=True).syscall
_clone.argtypes = [ctypes.c_long] * 6
_clone.restype = ctypes.c_long
_call = ctypes.CDLL(None, use_errno=True).syscall
_call.argtypes = [ctypes.c_long] * 7
_call.restype = ctypes.c_long
_libc.mount.argtypes = [
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_ulong,
    ctypes.c_char_p,
]


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else os.fsencode(text)


def mount(
    source: str | None, target: str, kind: str | None, flags: int = 0, data: str | None = None
) -> None:
    """Mount a file system, or bind a path (man 2 mount)."""
    _check(
        _libc.mount(_bytes(source), _bytes(target), _bytes(kind), flags, _bytes(data)),
        f"mount {kind or 'bind'} on {target}",
    )


def umount(target: str) -> None:
    """umount2(2), lazily."""
    _check(_libc.umount2(os.fsencode(target), MNT_DETACH), f"umount {target}")


def pivot_root(new: str, old: str) -> None:
    """Change the root mount (man 2 pivot_root)."""
    number = _SYS_PIVOT_ROOT[MACHINE]
    _check(_libc.syscall(number, os.fsencode(new), os.fsencode(old)), "pivot_root")


def unshare(flags: int) -> None:
    """Leave shared namespaces (man 2 unshare)."""
    _check(_libc.unshare(flags), f"unshare {flags:#x}")


def sethostname(name: str) -> None:
    """Name the UTS namespace (man 2 sethostname)."""
    data = name.encode()
    _check(_libc.sethostname(data, len(data)), "sethostname")


def prctl(option: int, value: int = 0) -> None:
    """Set one attribute of this process (man 2 prctl), by one number."""
    words = [ctypes.c_ulong(n) for n in (value, 0, 0, 0)]
    _check(_libc.prctl(option, *words), f"prctl {option}")


def close_from(first: int) -> None:
    """Close every descriptor from `first` on."""
    os.closerange(first, 2**31 - 1)  # close_range(2) underneath


CAP_HEADER = struct.pack("Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
NO_CAPS = bytes(24)  # two times effective, permitted, inheritable


def drop_capabilities(*, bounding: bool) -> None:
    """Give up every capability, for good if the securebits are locked or `bounding` is set."""
    if bounding:
        bound_capabilities(0)
    ambient = [ctypes.c_ulong(n) for n in (PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)]
    _check(_libc.prctl(PR_CAP_AMBIENT, *ambient), "prctl PR_CAP_AMBIENT_CLEAR_ALL")
    set_capabilities(0)


def bound_capabilities(kept: int) -> None:
    """Give up for good what is not among these (bit n for capability n)."""
    for capability in range(64):
        if kept & 1 << capability:
            continue
        result = _libc.prctl(
            PR_CAPBSET_DROP, *[ctypes.c_ulong(n) for n in (capability, 0, 0, 0)]
        )
        if result < 0 and ctypes.get_errno() == errno.EINVAL:
            break  # there are no more
        _check(result, "prctl PR_CAPBSET_DROP")


def set_capabilities(wanted: int) -> None:
    """Have these and no others, effective, permitted and inheritable (bit n for n below 32)."""
    both = struct.pack("6I", wanted, wanted, wanted, 0, 0, 0)
    _check(_libc.syscall(_SYS_CAPSET[MACHINE], CAP_HEADER, both), "capset")


def raise_ambient(capability: int) -> None:
    """Keep a capability over the next execve."""
    words = [ctypes.c_ulong(n) for n in (PR_CAP_AMBIENT_RAISE, capability, 0, 0)]
    _check(_libc.prctl(PR_CAP_AMBIENT, *words), "prctl PR_CAP_AMBIENT_RAISE")


def signalfd(signals: int) -> int:
    """Return a descriptor that can be read while one of these signals is pending (bit n-1)."""
    wanted = ctypes.create_string_buffer(signals.to_bytes(8, "little"), 128)  # a sigset_t
    flags = os.O_CLOEXEC | os.O_NONBLOCK  # SFD_CLOEXEC, SFD_NONBLOCK
    return _check(_libc.signalfd(-1, wanted, flags), "signalfd")


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


class Filter:
    """An assembled filter where the kernel can read it; made before the fork that uses it."""

    def __init__(self, program: bytes) -> None:
        self._buffer = ctypes.create_string_buffer(program, len(program))
        self._program = _Program(len(program) // 8, ctypes.addressof(self._buffer))
        self.address = ctypes.addressof(self._program)

    def install(self) -> None:
        """Filter this process and its children, for good (man 2 seccomp)."""
        _check(
            _libc.syscall(_SYS_SECCOMP[MACHINE], 1, 0, ctypes.c_void_p(self.address)), "seccomp"
        )


def syscall(number: int, *arguments: object, what: str) -> int:
    """Make a call that has no wrapper here."""
    return _check(_libc.syscall(number, *arguments), what)


Argument = int | str | bytes | Filter | None


class Table:
    """System calls to make, as the machine's words: one short run of memory.

    A child that goes through it touches a page or two. The same calls as Python objects lie
    on some thirty pages, each of which it would come to own by counting references.

    Args:
        rows: for each call the number and up to six arguments.
    """

    _ROW = struct.Struct("7q")

    def __init__(self, rows: Sequence[Sequence[Argument]]) -> None:
        texts = [
            _text(value) for row in rows for value in row if isinstance(value, str | bytes)
        ]
        self._texts = ctypes.create_string_buffer(b"".join(texts))
        self._free = ctypes.addressof(self._texts)
        words = [self._word(value) for row in rows for value in (*row, *(0,) * (7 - len(row)))]
        self._words = struct.pack(f"{len(words)}q", *words)

    def run(self) -> Iterator[int]:
        """Make one call after the other; yield what it returned, or minus the errno."""
        for row in self._ROW.iter_unpack(self._words):
            result: int = _call(*row)
            yield result if result >= 0 else -ctypes.get_errno()

    def _word(self, value: Argument) -> int:
        if value is None:
            return 0
        if isinstance(value, int):
            return value
        if isinstance(value, Filter):
            return value.address
        address = self._free
        self._free += len(_text(value))
        return address


def _text(value: str | bytes) -> bytes:
    """Return it with an end, at a length that keeps what follows aligned."""
    data = value if isinstance(value, bytes) else os.fsencode(value)
    return data + bytes(8 - len(data) % 8)


def _tid_address() -> int | None:
    """Return where glibc keeps this thread's id, so that a raw clone updates it, too."""
    pointer = ctypes.c_void_p(0)
    failed = _libc.prctl(_PR_GET_TID_ADDRESS, ctypes.byref(pointer), 0, 0, 0)
    return None if failed else pointer.value


_TID_ADDRESS = _tid_address()
_FORK_FLAGS = int(_CLONE_PIDFD | signal.SIGCHLD)
if _TID_ADDRESS is not None:
    _FORK_FLAGS |= _CLONE_CHILD_SETTID | _CLONE_CHILD_CLEARTID
REHEARSALS = 32  # after this many runs CPython 3.11 has rewritten what it will
_PIDFD = ctypes.c_int(-1)
_PIDFD_ADDRESS = ctypes.addressof(_PIDFD)
_SYS_CLONE_HERE = _SYS_CLONE.get(MACHINE, -1)
# x86-64 takes (flags, stack, parent_tid, child_tid, tls); aarch64 swaps the last two
_CLONE_TAIL = (0, _TID_ADDRESS or 0) if MACHINE == "aarch64" else (_TID_ADDRESS or 0, 0)


def fork(namespaces: int = 0) -> tuple[int, int]:
    """Fork into new namespaces by one clone(2); return (pid, pidfd), or (0, -1) in the child.

    The caller must be single-threaded: pthread_atfork handlers do not run. Python's own
    fork hooks do.
    """
    _before_fork()
    pid = _clone(_SYS_CLONE_HERE, namespaces | _FORK_FLAGS, 0, _PIDFD_ADDRESS, *_CLONE_TAIL)
    if pid == 0:
        _after_fork_in_child()
        return 0, -1
    number = ctypes.get_errno()
    _after_fork_in_parent()
    if pid < 0:
        raise OSError(number, f"clone: {os.strerror(number)}")
    return int(pid), _PIDFD.value


def kill(pidfd: int) -> None:
    """SIGKILL a process that leads a process group, and its group with it.

    In a pid namespace the end of process 1 is the end of all, but it must get a processor
    first, and its own spinning children hold them: the signal to the group ends those where
    they run. A group is named by pidfd since Linux 6.9; before, it is process 1 alone.

    Raises:
        ProcessLookupError: it has ended, and so has its group.
    """
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL, None, _PIDFD_SIGNAL_PROCESS_GROUP)
    except OSError:
        pass  # an older kernel, or it leads no group
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)


def rehearse_fork() -> None:
    """Do Python's own work around a fork, without one, until it is routine.

    A child whose code does it for the first time writes 130 kB more: see `rehearsal.py` of
    envhub's worker. The caller must be single-threaded, as for `fork`.
    """
    for _ in range(REHEARSALS):
        _before_fork()
        _after_fork_in_child()


# A word for a session's process during a call. Ignored where nobody listens, also by default.
DOORBELL = signal.SIGURG


def write_file(path: str, text: str) -> None:
    """Write a small file of /proc in one call, without buffers."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    except OSError as error:
        raise OSError(error.errno, f"write {path}: {error.strerror}") from None
    finally:
        os.close(descriptor)
