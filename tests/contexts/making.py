"""Makes a context and runs a command in it, by system calls alone.

    this process   maps users into the new namespaces, waits, and ends what is left
      └─ the command   after everything around it was made; process 1 where it has a pid
                       namespace, as in a container that is started without an init

Nothing that is made outlives it: mounts lie in a mount namespace, files in tmpfs, settings
belong to a user namespace. Processes end with their pid namespace; where there is none this
process adopts the orphans and kills them. If it is killed itself, the kernel kills the command.

It is no protection: files are the machine's own, and root of a context may write to them.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import select
import signal
import socket
import struct
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NoReturn

from envhub_sandbox import bpf, syscalls
from tests.contexts.contexts import Context, Rules

# as `docker run` has them: it failed itself, the command cannot be run, there is none
FAILED, NOT_RUN, NOT_FOUND = 125, 126, 127
_ROOT = Path(__file__).parents[2]
_MASKED = (
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys",
    "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list",
    "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
)  # fmt: skip
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_NEW = "/tmp"  # a folder that every Linux has, to mount the new root on
_NOT_THE_IMAGES = ("proc", "run", "lost+found")
_ALL_USERS = 2**32 - 1

_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR, _CAPSET = 428, 429, 442, 126
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_OPEN_TREE_CLONE, _MOVE_MOUNT_F_EMPTY_PATH, _MOUNT_ATTR_RDONLY = 1, 4, 1
_PR_SET_CHILD_SUBREAPER = 36
_SIOCSIFFLAGS, _UP_AND_RUNNING = 0x8914, 0x41


def run(context: Context, command: Sequence[str]) -> int:
    """Run `command` in the context; return its exit code, as a shell would say it."""
    if context.uid == 0 and os.geteuid() != 0:
        return _failed("only root can make it")
    syscalls.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    flags = _namespaces(context)
    alive, life = os.pipe2(os.O_CLOEXEC)  # `life` closes with this process
    mapped, mapping = os.pipe2(os.O_CLOEXEC)
    sys.stdout.flush()
    try:
        pid, pidfd = syscalls.fork(flags)
    except OSError as error:
        return _failed(str(error.strerror))
    if pid == 0:
        os.close(life)
        os.close(mapping)
        _become(context, flags, command, alive, mapped)
    for descriptor in (alive, mapped, pidfd):
        os.close(descriptor)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # what a terminal sends is the command's
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        if flags & syscalls.CLONE_NEWUSER:
            _map_users(pid)
        os.write(mapping, b".")
        os.close(mapping)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        _end_what_is_left()
        os.close(life)
    return code if code >= 0 else 128 - code


def _failed(why: str) -> int:
    print(f"contexts: cannot make it here: {why}", file=sys.stderr, flush=True)
    return FAILED


def _changes_user(context: Context) -> bool:
    return os.geteuid() == 0 and bool(context.uid)


def _namespaces(context: Context) -> int:
    flags = 0
    if _changes_user(context) or context.private:
        flags |= syscalls.CLONE_NEWNS  # to change who can reach this interpreter
    if context.user_namespace or context.network or context.image:
        flags |= syscalls.CLONE_NEWNS | syscalls.CLONE_NEWPID
    if context.image:
        flags |= syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWUTS
    if context.network:
        flags |= syscalls.CLONE_NEWNET
    if context.user_namespace or (flags and os.geteuid() != 0):
        flags |= syscalls.CLONE_NEWUSER
    return flags


def _map_users(pid: int) -> None:
    """Map every user to itself; without privilege only our own."""
    uid, gid, count = 0, 0, _ALL_USERS
    if os.geteuid() != 0:
        uid, gid, count = os.geteuid(), os.getegid(), 1
        syscalls.write_file(f"/proc/{pid}/setgroups", "deny")
    syscalls.write_file(f"/proc/{pid}/uid_map", f"{uid} {uid} {count}")
    syscalls.write_file(f"/proc/{pid}/gid_map", f"{gid} {gid} {count}")


def _end_what_is_left() -> None:
    """Kill what the command left; what those leave becomes ours, and follows."""
    while True:
        for number in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
            os.kill(int(number), signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


# ---------------------------------------------------------------- in the command's process


def _become(
    context: Context, flags: int, command: Sequence[str], alive: int, mapped: int
) -> NoReturn:
    code = FAILED
    try:
        if not os.read(mapped, 1):
            os._exit(FAILED)  # who was to map our users is gone
        _make(context, flags)
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        if select.select([alive], [], [], 0)[0]:
            os._exit(FAILED)  # it went before we could ask to be told
        code = NOT_RUN
        os.execvpe(command[0], list(command), _environment(context))
    except OSError as error:
        if code == FAILED:
            _failed(str(error.strerror or error))
        else:
            print(f"contexts: {command[0]}: {error.strerror}", file=sys.stderr, flush=True)
            code = NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_RUN
    finally:
        os._exit(code)


def _environment(context: Context) -> dict[str, str]:
    found = {**os.environ, **context.environment}
    if context.image or _changes_user(context):
        found["HOME"] = "/"  # as for a user without an entry in /etc/passwd
    return found


def _make(context: Context, flags: int) -> None:
    """Make all of it, in the order of a container runtime."""
    folder = os.getcwd()
    if flags & syscalls.CLONE_NEWNS:
        syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
        if os.geteuid() == 0 and (context.image or context.uid is not None):
            _make_reachable(_needed())
        if context.private:
            _make_private()
    if context.network:
        _bring_loopback_up()
    if context.image:
        syscalls.sethostname("context")
        _enter_own_root(context)
    elif flags & syscalls.CLONE_NEWPID:
        syscalls.mount("proc", "/proc", "proc")
    for kind in context.exhausted:
        syscalls.write_file(f"/proc/sys/user/max_{kind}_namespaces", "0")
    os.chdir(folder)
    if context.no_new_privs:
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    if context.processes is not None:
        resource.setrlimit(resource.RLIMIT_NPROC, (context.processes, context.processes))
    if context.filter:
        _install(context.filter)
    _give_up_capabilities(context)


def _needed() -> set[Path]:
    """Return where the interpreter and this checkout are."""
    named = (sys.base_prefix, sys.prefix, os.path.dirname(sys.executable), _ROOT)
    found = {Path(os.path.realpath(path)) for path in named}
    return {path for path in found if found.isdisjoint(path.parents)}


def _make_reachable(needed: Iterable[Path]) -> None:
    """Show to everybody what lies in somebody's private folder, and nothing else of it.

    An image has its interpreter where all may run it; here it may stand below /root.
    """
    covers, trees = set(), {}
    for path in needed:
        private = [p for p in reversed(path.parents) if not p.stat().st_mode & 0o001]
        if private:
            covers.add(private[0])
            trees[path] = _clone_of(str(path))
    for folder in covers:
        syscalls.mount("tmpfs", str(folder), "tmpfs", 0, "mode=755,size=1m")
    for path, tree in trees.items():
        path.mkdir(parents=True)
        _attach(tree, str(path))


def _make_private() -> None:
    """Leave a package of ours where only root can reach it, as below root's home."""
    package = _ROOT / "sandbox" / "envhub_sandbox"
    tree = _clone_of(str(package))
    syscalls.mount("tmpfs", str(package.parent), "tmpfs", 0, "mode=700,size=1m")
    package.mkdir()
    _attach(tree, str(package))


def _enter_own_root(context: Context) -> None:
    """Put what an image would hold below a root of its own, and leave the old one."""
    entries = [entry for entry in os.scandir("/") if entry.name not in _NOT_THE_IMAGES]
    folders = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    # before the new root covers one of them
    trees = {name: _clone_of(f"/{name}") for name in folders}
    links = {entry.name: os.readlink(entry) for entry in entries if entry.is_symlink()}
    syscalls.mount("tmpfs", _NEW, "tmpfs", 0, "mode=755,size=1m")
    for name, target in links.items():
        os.symlink(target, f"{_NEW}/{name}")
    for name in (*folders, "proc", "run", "old"):
        os.mkdir(f"{_NEW}/{name}")
    for name, tree in trees.items():
        _attach(tree, f"{_NEW}/{name}")
    quiet = syscalls.MS_NOSUID | syscalls.MS_NODEV
    syscalls.mount("tmpfs", f"{_NEW}/run", "tmpfs", quiet, "mode=755,size=1m")
    syscalls.mount("proc", f"{_NEW}/proc", "proc", quiet | syscalls.MS_NOEXEC)
    syscalls.pivot_root(_NEW, f"{_NEW}/old")
    os.chdir("/")
    syscalls.umount("/old")
    os.rmdir("/old")
    if context.marker:
        Path(context.marker).touch()
    _set_read_only("/sys", below=True)
    for path in () if context.uncovered else filter(os.path.exists, _READ_ONLY):
        syscalls.mount(path, path, None, syscalls.MS_BIND | syscalls.MS_REC)
        _set_read_only(path, below=False)
    for path in () if context.uncovered else filter(os.path.exists, _MASKED):
        if os.path.isdir(path):
            syscalls.mount("tmpfs", path, "tmpfs", syscalls.MS_RDONLY, "size=4k")
        else:
            syscalls.mount("/dev/null", path, None, syscalls.MS_BIND)
    if context.read_only:
        for name in {*folders, "run"} - {"tmp", "dev"}:
            _set_read_only(f"/{name}", below=True)
        _set_read_only("/", below=False)


def _clone_of(path: str) -> int:
    """Return a copy of what is mounted at and below `path`, attached nowhere."""
    flags = ctypes.c_uint(_OPEN_TREE_CLONE | _AT_RECURSIVE | os.O_CLOEXEC)
    name, what = os.fsencode(path), f"open_tree {path}"
    return syscalls.syscall(_OPEN_TREE, _AT_FDCWD, name, flags, what=what)


def _attach(tree: int, path: str) -> None:
    flags = ctypes.c_uint(_MOVE_MOUNT_F_EMPTY_PATH)
    target, what = os.fsencode(path), f"move_mount {path}"
    syscalls.syscall(_MOVE_MOUNT, tree, b"", _AT_FDCWD, target, flags, what=what)
    os.close(tree)


def _set_read_only(path: str, *, below: bool) -> None:
    """Change this attribute alone: the others are locked in a user namespace."""
    flags = ctypes.c_uint(_AT_RECURSIVE if below else 0)
    attributes = struct.pack("4Q", _MOUNT_ATTR_RDONLY, 0, 0, 0)
    name, what = os.fsencode(path), f"mount_setattr {path}"
    size = ctypes.c_size_t(len(attributes))
    syscalls.syscall(_MOUNT_SETATTR, _AT_FDCWD, name, flags, attributes, size, what=what)


def _bring_loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", _UP_AND_RUNNING))


def _install(rules: Rules) -> None:
    program = syscalls.Filter(bpf.assemble(rules, newest=10_000, above=bpf.ALLOW))
    try:
        program.install()
    except PermissionError:  # a normal user may have a filter for giving up new privileges
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
        program.install()


def _give_up_capabilities(context: Context) -> None:
    """Cut the bounding set, become the user, and keep what root of a container has."""
    if context.capabilities is not None:
        for number in range(int(Path("/proc/sys/kernel/cap_last_cap").read_text()) + 1):
            if not context.capabilities >> number & 1:
                syscalls.prctl(syscalls.PR_CAPBSET_DROP, number)
    uid = context.uid
    if uid and _changes_user(context):
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    held = context.capabilities if os.geteuid() == 0 else 0
    if held is not None:
        low, high = held & 0xFFFFFFFF, held >> 32
        sets = struct.pack("6I", low, low, 0, high, high, 0)
        syscalls.syscall(_CAPSET, syscalls.CAP_HEADER, sets, what="capset")
