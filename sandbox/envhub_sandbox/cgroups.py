"""Control groups: the kernel's own account of a whole session, where we have a place for one.

A place is ours in one of two ways. On cgroup v2 our own group was delegated to us and nobody
else is in it (`systemd-run --user --scope -p Delegate=yes …`): then we move ourselves into a
leaf of it, because a group that has members cannot give its children controllers. Or the
operator named a group, on v2 or v1. Nothing on v1 says that a group was delegated, and root can
write everywhere, so that v1 is never used unasked; and no process is ever moved out of the
group, and so the limits, that somebody else has put it in.

The names of leaves hold number and start of the owner, who may die without removing them: its
sweeper does, and if that was killed, too, the next owner.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .policy import Limits
from .sweep import Sweeper
from .verdict import Passed

Kind = Literal["cgroup v2", "cgroup v1"]
_CONTROLLERS = ("memory", "pids")
_OWN_LEAF = "envhub-hub"
_LEAF = re.compile(r"envhub-(\d+)-(\d+)-\d+")
_DELEGATED = ("user.delegate", "trusted.delegate")  # systemd's marks; the first since 251


@dataclass(frozen=True, slots=True)
class Mount:
    """One hierarchy.

    Args:
        at: where it is mounted.
        root: the group that is seen there.
        controllers: of v1; empty for v2.
    """

    at: Path
    root: str
    controllers: frozenset[str]

    def folder(self, group: str) -> Path:
        """Return the folder of a group, by its path in the hierarchy."""
        return self.at / os.path.relpath(group, self.root)


class Cgroups:
    """A place below which each session gets a group of its own.

    Args:
        kind: of the hierarchy.
        folders: of the place, by controller; on v2 all are the same.
    """

    def __init__(self, kind: Kind, folders: dict[str, Path]) -> None:
        self.kind = kind
        self._folders = folders
        self._owner = f"envhub-{os.getpid()}-{_started(os.getpid())}"
        self._made = 0
        self._left: list[Leaf] = []
        self._remove_those_of_the_dead()

    @property
    def holds_memory(self) -> bool:
        """Whether memory is among what is limited here."""
        return "memory" in self._folders

    def leaf(self, pid: int, limits: Limits) -> Leaf:
        """Return a new group with a session's first process in it. Takes half a millisecond.

        Raises:
            OSError: it cannot be made, or the process has ended.
        """
        self.remove_left()
        self._made += 1
        places = {c: f / f"{self._owner}-{self._made}" for c, f in self._folders.items()}
        leaf = Leaf(self, places, limits)
        try:
            leaf.make(pid)
        except OSError:
            self.drop(leaf)
            raise
        return leaf

    def drop(self, leaf: Leaf) -> None:
        """Remove a group, later if its last process is still dying."""
        if not leaf.removed():
            self._left.append(leaf)

    def remove_left(self) -> bool:
        """Remove groups whose last process was still dying; return whether none is left."""
        self._left = [leaf for leaf in self._left if not leaf.removed()]
        return not self._left

    def sweeper(self) -> Sweeper:
        """Return who removes our groups if we are killed. Raises: OSError."""
        return Sweeper(f"{folder}/{self._owner}" for folder in set(self._folders.values()))

    def _remove_those_of_the_dead(self) -> None:
        for folder in set(self._folders.values()):
            for child in folder.iterdir():
                name = _LEAF.fullmatch(child.name)
                if name and _started(int(name[1])) != int(name[2]):
                    with suppress(OSError):  # its processes may still be ending
                        child.rmdir()


class Leaf:
    """The group of one session. Made by `Cgroups.leaf`."""

    def __init__(self, owner: Cgroups, folders: dict[str, Path], limits: Limits) -> None:
        self._owner = owner
        self._folders = folders
        self._allowed = limits.session_memory_bytes
        self._processes = limits.processes
        self._v2 = owner.kind == "cgroup v2"

    def make(self, pid: int) -> None:
        """Make the folders, limits first, and move the process in.

        Raises:
            OSError: the kernel refused.
        """
        for folder in dict.fromkeys(self._folders.values()):
            folder.mkdir()
        if memory := self._folders.get("memory"):
            self._limit_memory(memory)
        if pids := self._folders.get("pids"):
            (pids / "pids.max").write_text(str(self._processes))
        for folder in dict.fromkeys(self._folders.values()):
            (folder / "cgroup.procs").write_text(str(pid))

    def passed(self) -> Passed | None:
        """Return the limit if the kernel has killed for want of memory in this group."""
        memory = self._folders.get("memory")
        if memory is None:
            return None
        events = "memory.events" if self._v2 else "memory.oom_control"
        peak = "memory.peak" if self._v2 else "memory.max_usage_in_bytes"
        try:
            if not _value((memory / events).read_text(), "oom_kill"):
                return None
            observed = int((memory / peak).read_text()) if (memory / peak).exists() else 0
        except OSError:
            return None  # it is removed
        # a charge that fails is not counted: the peak is the limit, where it is known
        return Passed("session_memory_bytes", self._allowed, max(observed, self._allowed))

    def kill(self) -> None:
        """Kill every process in it, where the kernel can do that (v2)."""
        if self._v2:
            with suppress(OSError):  # before Linux 5.14, or removed
                (self._folders["pids"] / "cgroup.kill").write_text("1")

    def remove(self) -> None:
        """Remove it, now or soon. Idempotent."""
        self._owner.drop(self)

    def removed(self) -> bool:
        """Try to remove it; return whether it is gone."""
        for folder in dict.fromkeys(self._folders.values()):
            try:
                folder.rmdir()
            except FileNotFoundError:
                pass
            except OSError:
                return False
        return True

    def _limit_memory(self, folder: Path) -> None:
        if self._v2:
            (folder / "memory.oom.group").write_text("1")  # or one of its processes, any, goes
            if self._allowed:
                (folder / "memory.max").write_text(str(self._allowed))
            swap = folder / "memory.swap.max"
            if self._allowed and swap.exists():
                swap.write_text("0")
        elif self._allowed:
            (folder / "memory.limit_in_bytes").write_text(str(self._allowed))


def find(named: str = "") -> Cgroups | None:
    """Return a place for sessions' groups, or None where there is none.

    Args:
        named: a group by its path in the hierarchy, such as "/envhub"; it must exist. ""
            looks whether our own group of v2 is ours alone.

    Raises:
        OSError: the group that was named cannot be used.
    """
    mounts = list(_mounts())
    if named:
        return _named(mounts, named)
    try:
        return _delegated(mounts)
    except OSError:
        return None  # it looked like ours, and is not


def processes_left() -> Iterator[int]:
    """Yield how many more processes our group, and each above it that is seen, may have."""
    with suppress(OSError, ValueError):
        mounts = [m for m in _mounts() if not m.controllers or "pids" in m.controllers]
        for line in _lines("/proc/self/cgroup"):
            _, controllers, group = line.split(":", 2)
            for mount in mounts:
                if mount.controllers == frozenset(filter(None, controllers.split(","))):
                    yield from _processes_left(mount, group)


def _processes_left(mount: Mount, group: str) -> Iterator[int]:
    folder = mount.at if "/.." in group else mount.folder(group)
    while folder.is_relative_to(mount.at):
        with suppress(OSError, ValueError):  # the root group has no limit; another says "max"
            allowed = int((folder / "pids.max").read_text())
            yield allowed - int((folder / "pids.current").read_text())
        folder = folder.parent


def _named(mounts: list[Mount], group: str) -> Cgroups:
    for mount in mounts:
        folder = mount.folder(group)
        if not mount.controllers and _has_controllers(folder, "cgroup.controllers"):
            _enable(folder)
            return Cgroups("cgroup v2", dict.fromkeys(_CONTROLLERS, folder))
    folders = {
        controller: mount.folder(group)
        for controller in _CONTROLLERS
        for mount in mounts
        if controller in mount.controllers and mount.folder(group).is_dir()
    }
    if not folders:
        raise FileNotFoundError(f"no group `{group}` for memory or processes")
    return Cgroups("cgroup v1", folders)


def _delegated(mounts: list[Mount]) -> Cgroups | None:
    """Return our own group if it was delegated and holds nobody but us.

    Raises:
        OSError: the kernel refused to let us use it.
    """
    group = next(
        (line[3:] for line in _lines("/proc/self/cgroup") if line.startswith("0::")), ""
    )
    mount = next((mount for mount in mounts if not mount.controllers), None)
    if mount is None or group in ("", "/") or "/.." in group:
        return None
    folder = mount.folder(group)
    if folder.name == _OWN_LEAF:  # another hub of this process was here before
        folder = folder.parent
    if not _has_controllers(folder, "cgroup.controllers") or not _is_ours(folder):
        return None
    members = set(map(int, _lines(str(folder / "cgroup.procs"))))
    if members - {os.getpid()}:
        return None
    leaf = folder / _OWN_LEAF
    leaf.mkdir(exist_ok=True)
    (leaf / "cgroup.procs").write_text(str(os.getpid()))
    try:
        _enable(folder)
    except OSError:
        (folder / "cgroup.procs").write_text(str(os.getpid()))
        leaf.rmdir()
        raise
    return Cgroups("cgroup v2", dict.fromkeys(_CONTROLLERS, folder))


def _is_ours(folder: Path) -> bool:
    """Whether systemd was told to keep out of it.

    That we can write to it says nothing: root can everywhere, and a user to every group of
    his own sessions.
    """
    for mark in _DELEGATED:
        with suppress(OSError):
            if os.getxattr(folder, mark) == b"1":
                return True
    return False


def _enable(folder: Path) -> None:
    """Give the children of a v2 group the controllers, and the processor in equal shares."""
    there = (folder / "cgroup.controllers").read_text().split()
    wanted = [c for c in (*_CONTROLLERS, "cpu") if c in there]
    (folder / "cgroup.subtree_control").write_text(" ".join(f"+{c}" for c in wanted))


def _has_controllers(folder: Path, file: str) -> bool:
    try:
        return set(_CONTROLLERS) <= set((folder / file).read_text().split())
    except OSError:
        return False


def _mounts() -> Iterator[Mount]:
    for line in _lines("/proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        root, at = (_plain(field) for field in before.split()[3:5])
        kind, _, options = after.split()[:3]
        if kind == "cgroup2":
            yield Mount(Path(at), root, frozenset())
        elif kind == "cgroup":
            yield Mount(Path(at), root, frozenset(options.split(",")))


def _plain(field: str) -> str:
    return field.encode().decode("unicode_escape")


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def _value(text: str, name: str) -> int:
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0


def _started(pid: int) -> int:
    """Return when a process began, in the kernel's ticks; 0 if there is none."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
    except (FileNotFoundError, ProcessLookupError):
        return 0
