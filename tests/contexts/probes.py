"""Says as JSON what a context lets its processes do, by doing it: the rows' controls.

Each probe is a child of its own and changes nothing but itself. Where a call that succeeds
would change something, it is given an argument that only the kernel itself complains about:
the errno tells a filter's refusal from a missing capability from a call that is let through.

Run as `python -m tests.contexts NAME -- python -m tests.contexts.probes`.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import socket
import stat
from collections.abc import Callable
from pathlib import Path

from envhub_sandbox import bpf, landlock, syscalls
from envhub_sandbox.sysno import X86_64

_FOLDERS = Path(bpf.__file__).parents
_AF_VSOCK = 40
_PR_SET_SECCOMP, _PTRACE_TRACEME = 22, 0
_NEWEST_CALL = 467  # open_tree_attr, Linux 6.15


def _call(name: str, *words: object) -> None:
    syscalls.syscall(X86_64[name], *words, what=name)


def _clone_user() -> None:
    child, _ = syscalls.fork(syscalls.CLONE_NEWUSER)
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def _own_proc() -> None:
    """Mount a /proc in a pid namespace of its own, as a sandbox must."""
    uid, gid = os.geteuid(), os.getegid()
    flags = syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS | syscalls.CLONE_NEWPID
    syscalls.unshare(flags)
    syscalls.write_file("/proc/self/setgroups", "deny")
    syscalls.write_file("/proc/self/uid_map", f"0 {uid} 1")
    syscalls.write_file("/proc/self/gid_map", f"0 {gid} 1")
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    child = os.fork()
    if child == 0:
        os._exit(_number(lambda: syscalls.mount("proc", "/proc", "proc")))
    number = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if number:
        raise OSError(number, "")


def _seccomp() -> None:
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    syscalls.Filter(bpf.assemble({}, newest=10_000, above=bpf.ALLOW)).install()


def _seccomp_by_prctl() -> None:
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    filter_ = syscalls.Filter(bpf.assemble({}, newest=10_000, above=bpf.ALLOW))
    mode = ctypes.c_ulong(2)
    _call("prctl", _PR_SET_SECCOMP, mode, ctypes.c_void_p(filter_.address))


def _ptrace() -> None:
    _call("ptrace", _PTRACE_TRACEME, 0, None, None)


def _vsock() -> None:
    """Tell a refusal from a kernel that has none, which says EAFNOSUPPORT."""
    socket.socket(_AF_VSOCK, socket.SOCK_STREAM).close()


def _loopback() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()


def _write(folder: str) -> Callable[[], None]:
    """Write a file that never has a name."""
    return lambda: os.close(os.open(folder, os.O_TMPFILE | os.O_WRONLY))


PROBES: dict[str, Callable[[], object]] = {
    "unshare user": lambda: syscalls.unshare(syscalls.CLONE_NEWUSER),
    "unshare net": lambda: syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNET),
    "clone user": _clone_user,
    "clone3": lambda: _call("clone3", None, 0),  # EINVAL: arguments of no size
    "own proc": _own_proc,
    # ENODEV: no such file system, found after the capability was
    "mount": lambda: syscalls.mount("none", "/tmp", "no-such-file-system"),
    "umount": lambda: _call("umount2", b"/tmp", 1 << 10),  # EINVAL: no such flag
    "pivot_root": lambda: _call("pivot_root", b"/no/such", b"/no/such"),
    "setns": lambda: _call("setns", -1, 0),
    "keyctl": lambda: _call("keyctl", -1),
    "add_key": lambda: _call("add_key", None, None, None, 0, 0),
    "bpf": lambda: _call("bpf", -1, None, 0),
    "perf": lambda: _call("perf_event_open", None, 0, -1, -1, 0),
    "ptrace": _ptrace,
    "vsock": _vsock,
    "newest call": lambda: syscalls.syscall(_NEWEST_CALL, -1, None, 0, None, 0, what="newest"),
    "landlock": lambda: _call("landlock_create_ruleset", None, 0, 1),
    "seccomp": _seccomp,
    "seccomp by prctl": _seccomp_by_prctl,
    "loopback": _loopback,
    "write /": _write("/"),
    "write /usr": _write("/usr"),
    "write /tmp": _write("/tmp"),
}


def _number(work: Callable[[], object]) -> int:
    try:
        work()
    except OSError as error:
        return error.errno or 255
    return 0


def _may_fork() -> str:
    try:
        child = os.fork()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return "works"


def _tried(work: Callable[[], object]) -> str:
    child = os.fork()
    if child == 0:
        number = 255
        try:
            number = _number(work)
        finally:
            os._exit(number)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code < 0:
        return signal.Signals(-code).name
    return errno.errorcode.get(code, str(code)) if code else "works"


def _covered(path: str) -> str:
    """Say whether a file of /proc is /dev/null, as a container's runtime covers files."""
    if not os.path.exists(path):
        return "covered"
    found, null = os.stat(path), os.stat("/dev/null")
    is_null = stat.S_ISCHR(found.st_mode) and found.st_rdev == null.st_rdev
    return "covered" if is_null else "open"


def _emptiness(path: str) -> str:
    return "empty" if not os.path.isdir(path) or not os.listdir(path) else "open"


def see() -> dict[str, object]:
    """Return every observation, by the name that a row's controls use."""
    lines = Path("/proc/self/status").read_text().splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    may_fork = _may_fork()
    tried = PROBES.items() if may_fork == "works" else ()
    seen: dict[str, object] = {name: _tried(work) for name, work in tried}
    return seen | {
        "fork": may_fork,
        "uid": os.geteuid(),
        "process": os.getpid(),
        "capabilities": int(status["CapEff"], 16),
        "bounding": int(status["CapBnd"], 16),
        "no_new_privs": int(status["NoNewPrivs"]),
        "filters": int(status["Seccomp_filters"]),
        "landlock version": landlock.version(),
        "hostname": os.uname().nodename,
        "interfaces": [name for _, name in socket.if_nameindex()],
        "kcore": _covered("/proc/kcore"),
        "timer_list": _covered("/proc/timer_list"),
        "packages": "public" if all(p.stat().st_mode & 1 for p in _FOLDERS) else "private",
        "sysctls": "read-only" if os.statvfs("/proc/sys").f_flag & os.ST_RDONLY else "writable",
        "firmware": _emptiness("/sys/firmware"),
    }


if __name__ == "__main__":
    print(json.dumps(see(), indent=1))
