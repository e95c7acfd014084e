"""How a session is isolated where namespaces are refused: Landlock, a filter, an executioner.

The zygote forks an executioner, which enters a Landlock domain of its own and forks the
session's process, which enters another. The first domain holds the files: what the view
shows, read-only, and one folder of its own. Both hold signals. In the uid tier the two have a
user that no other session has, which also makes the limit on processes their own.

What namespaces would do and this does not: quotas on files, a /tmp and a /dev/shm of its own,
hiding that other processes exist. The filter is stricter instead (see `seccomp`): no sockets
but pairs, nothing that reaches another process of the same user.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from . import landlock, syscalls
from .plan import Making, Plan
from .policy import DEVICES, Limits, View
from .tiers import UIDS, Ground


def shown(view: View) -> tuple[tuple[str, str], ...]:
    """Return what of the host a view shows: (path, "read" or "list").

    Landlock only ever adds below a path, so a folder with a mask in it is shown entry by
    entry; its names can still be listed, or nothing in it could be imported.
    """
    found: dict[str, str] = {}
    for bind in view.ordered():
        masks = [mask for mask in view.masks if mask.startswith(f"{bind.inside}/")]
        hidden = {bind.source + mask[len(bind.inside) :] for mask in masks}
        found.update(_unmasked(bind.source, {os.path.realpath(path) for path in hidden}))
    return tuple(found.items())


def _unmasked(path: str, hidden: set[str]) -> Iterable[tuple[str, str]]:
    path = os.path.realpath(path)
    if path in hidden or not os.path.exists(path):
        return
    if not any(mask.startswith(f"{path}/") for mask in hidden):
        yield path, "read"
        return
    yield path, "list"
    for name in os.listdir(path):
        yield from _unmasked(f"{path}/{name}", hidden)


def outer_plan(ground: Ground, number: int, *, free: int) -> tuple[str, Plan]:
    """Return the session's folder, and every call that makes its executioner one.

    Args:
        ground: where.
        number: of the session; never used twice in a sandbox.
        free: the lowest descriptor that the process will not have open.
    """
    made = Making(free)
    if ground.grade.tier == "uid":
        made.layer = "user of its own"
        uid = ground.first_uid + 1 + number % (UIDS - 1)  # the first is the zygote's
        made.call("setresgid", uid, uid, uid)
        made.call("setresuid", uid, uid, uid)
        made.call("capset", syscalls.CAP_HEADER, syscalls.NO_CAPS)
    made.layer = "no new privileges"
    made.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    folder = f"{ground.folder}/{number}"
    made.layer = "private folder"
    made.call("mkdir", folder, 0o700, what=f"mkdir {folder}")
    made.call("chdir", folder)
    files(made, ground, folder)
    return folder, made.plan()


def inner_plan(limits: Limits, ground: Ground, filter_: syscalls.Filter, *, free: int) -> Plan:
    """Return every call that isolates the session's process from its executioner."""
    made = Making(free)
    made.unblock_signals()
    made.session()
    with_executioner = replace(limits, processes=limits.processes + 1)
    made.rlimits(with_executioner, own_user=ground.grade.tier == "uid")
    made.layer = "no capabilities"
    made.call("capset", syscalls.CAP_HEADER, syscalls.NO_CAPS)
    scope_signals(made)
    made.layer = "seccomp"
    made.call("seccomp", 1, 0, filter_)
    return made.plan()


def signal_wall(free: int) -> Plan:
    """Return the calls behind which a process cannot signal what is outside."""
    made = Making(free)
    scope_signals(made)
    return made.plan()


def scope_signals(made: Making) -> None:
    """Enter a Landlock domain from which nothing outside can be signalled."""
    made.layer = "landlock scope"
    attributes = struct.pack("<QQQ", 0, 0, landlock.SCOPES)
    made.call("landlock_create_ruleset", attributes, len(attributes), 0, result=made.free)
    made.call("landlock_restrict_self", made.free, 0)
    made.close()


def files(made: Making, ground: Ground, writable: str) -> None:
    """Enter a domain in which only what is shown can be read, and one folder written."""
    abi = landlock.version()
    made.layer = f"landlock {abi}"
    attributes = landlock.attributes(abi, connect=ground.grade.open_network)
    made.call("landlock_create_ruleset", attributes, len(attributes), 0, result=made.free)
    rules = [
        *(
            (path, landlock.READ if how == "read" else landlock.LIST)
            for path, how in ground.shown
        ),
        *((f"/dev/{name}", landlock.DEVICE) for name in DEVICES),
        (writable, landlock.WRITE),
    ]
    for path, access in rules:
        made.open(path, os.O_PATH, as_=1)
        folder = path == writable or os.path.isdir(path)
        rule = landlock.rule(abi, made.free + 1, access, folder=folder)
        made.call("landlock_add_rule", made.free, 1, rule, 0, what=f"landlock rule {path}")
        made.close(1)
    made.call("landlock_restrict_self", made.free, 0)
    made.close()


def variables(folder: str) -> Mapping[str, str]:
    """Return the environment variables that name a session's folder."""
    return {"HOME": folder, "TMPDIR": folder}


@contextmanager
def free_descriptors() -> Iterator[int]:
    """Yield the lowest descriptor that is not open; meanwhile the one after it is not either.

    A plan that opens two names them so, and what is open already may lie just between.
    """
    opened = [os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)]
    while True:
        opened.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        if opened[-1] == opened[-2] + 1:
            break
    free = opened[-2]
    for _ in range(2):
        os.close(opened.pop())
    try:
        yield free
    finally:
        for descriptor in opened:  # of the gaps below
            os.close(descriptor)
