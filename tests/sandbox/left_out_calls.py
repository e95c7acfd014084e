"""What `left_out.py` has executed in a zygote: plans and filters without a part of them.

A selector names one protection, and every protection that is built has one:

    clone: NAME                       a flag of the clone that a session begins with
    session/LAYER: WHAT               a call of a session's plan; `executioner/…` of the one
                                      above it, `zygote/…` and `fence/…` of walls around both
    …/landlock: handles WHAT          one part of a ruleset, or `widened PATH`, a rule of it
    …/LAYER: PATH OPTION              one option of a mount
    seccomp/WHOSE: GROUP              of `session`, `zygote` or `keeper`
    bwrap: FLAG, MODULE: FUNCTION …   of what a launcher does: see `left_out_places.py`
    inside/MODULE: FUNCTION …         the same of what a zygote and its children do

Only `envhub_sandbox` and the standard library can be imported where this runs.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from envhub_sandbox import (
    bpf,
    landlock,
    seccomp,
    syscalls,
)
from envhub_sandbox.plan import Call, Plan
from envhub_sandbox.sysno import X86_64

_NUMBERS = {number: name for name, number in X86_64.items()}
MOUNT_FLAGS = {"nosuid": syscalls.MS_NOSUID, "nodev": syscalls.MS_NODEV, "noexec": 8}
MOUNT_OPTIONS = ("size", "nr_inodes", "max")
HANDLED = {
    "files": (0, 2**64 - 1),
    "TCP": (1, 2**64 - 1),
    "abstract sockets": (2, 1),
    "signals": (2, 2),
}
_SERVING = ("openat", "close", "symlink", "landlock_create_ruleset", "landlock_add_rule")
PROLOGUE = {"another architecture": 2, "numbers of the x32 ABI": 5}
FUTURE = "calls newer than the table"
OLD_TABLE = "a table that ends before futex_waitv"  # for what has no newer call to show


# ---------------------------------------------------------------- plans


def name_of(call: Call) -> str:
    """Return how a selector names a call, without the values it passes."""
    layer = re.sub(r" \d+$", "", call.layer).lstrip("/")
    written = re.fullmatch(r"write .* to (/proc/.*)", call.what)
    what = f"write {written[1]}" if written else call.what
    if layer in ("no further namespaces", "unprivileged user"):
        return layer  # one wall of many calls, of which none can do without the others
    if re.search(r"/sessions/\d+$", what):
        what = "mkdir"
    return f"{layer}: {what}"


def parts_of(call: Call) -> list[str]:
    """Return the parts of a call that can be left out by themselves."""
    name = _called(call)
    layer, _, _ = name_of(call).partition(":")
    if name == "landlock_create_ruleset":
        words = _words(call)
        return [f"{layer}: handles {k}" for k, (at, m) in HANDLED.items() if words[at] & m]
    if name == "landlock_add_rule":
        return [f"{layer}: widened {_place(call.what.removeprefix('landlock rule '))}"]
    if name == "mkdir" and "/sessions/" in call.what:
        return [f"{layer}: mode"]
    if not call.what.startswith("mount ") or not call.arguments[3]:
        return []
    _, _, target, _, flags, data = call.arguments
    assert isinstance(flags, int)
    quotas = [q for q in MOUNT_OPTIONS if isinstance(data, str) and f"{q}=" in data]
    quiet = [flag for flag, bit in MOUNT_FLAGS.items() if flags & bit]
    return [f"{layer}: {target!s} {option}" for option in (*quotas, *quiet)]


def _place(path: str) -> str:
    """Return what a path of a rule is, in words that are the same on every machine."""
    if path in ("/", "/workspace", "/tmp", "/dev"):
        return path
    if path.startswith("/dev/"):
        return "devices"
    return "its folder" if "/sessions" in path else "what is shown"


def _words(call: Call) -> tuple[int, int, int]:
    data = call.arguments[1]
    assert isinstance(data, bytes)
    return struct.unpack("<QQQ", data.ljust(24, b"\0"))


def without(role: str, calls: Iterable[Call], missing: set[str]) -> list[Call]:
    """Return a plan's calls without what is missing."""
    named = {n.partition("/")[2] for n in missing if n.partition("/")[0] == role}
    kept = []
    for call in calls:
        whole = {call.layer, call.layer.partition(" ")[0]} & missing
        if not whole and name_of(call) not in named:
            kept.append(_lessened(call, named.intersection(parts_of(call)), named))
    return [call for call in kept if call is not None]


def _lessened(call: Call, parts: set[str], named: set[str]) -> Call | None:
    """Return a call without some of its parts; None for a rule that nothing handles."""
    name = _called(call)
    layer = name_of(call).partition(":")[0]
    if name == "landlock_add_rule" and f"{layer}: handles files" in named:
        return None
    if not parts:
        return call
    arguments = list(call.arguments)
    if name == "landlock_add_rule":
        rule = arguments[3]
        assert isinstance(rule, bytes)
        _, descriptor = struct.unpack("<Qi", rule)
        path = call.what.removeprefix("landlock rule ")
        folder = os.path.isdir(path) or "/sessions" in path  # which may not be there yet
        wide = landlock.rule(landlock.version(), descriptor, 2**64 - 1, folder=folder)
        arguments[3] = wide
    elif name == "landlock_create_ruleset":
        words = list(_words(call))
        for part in parts:
            at, mask = HANDLED[part.partition("handles ")[2]]
            words[at] &= ~mask
        length = arguments[2]
        assert isinstance(length, int)
        arguments[1] = struct.pack("<QQQ", *words)[:length]
    elif name == "mkdir":
        arguments[2] = 0o777
    else:
        options = {part.rpartition(" ")[2] for part in parts}
        flags, data = arguments[4], arguments[5] or ""
        assert isinstance(flags, int)
        assert isinstance(data, str)
        for option in options & set(MOUNT_FLAGS):
            flags &= ~MOUNT_FLAGS[option]
        kept = [word for word in data.split(",") if word.partition("=")[0] not in options]
        arguments[4:] = [flags, ",".join(kept) or None]
    return replace(call, arguments=tuple(arguments))


def _called(call: Call) -> str:
    number = call.arguments[0]
    assert isinstance(number, int)
    return _NUMBERS.get(number, "")


_told: set[str] = set()


def tell_of(selector: str) -> None:
    """Say once what was done, for the list of what can be left out."""
    if selector not in _told:
        _told.add(selector)
        os.write(2, f"DOES {selector}\n".encode())


def tell_of_calls(role: str, plan: Plan) -> None:
    """Say what a plan does, but for the calls that only serve the one after them."""
    for call in plan.calls:
        if call.layer and _called(call) not in _SERVING:
            tell_of(f"{role}/{name_of(call)}")
        for part in parts_of(call):
            tell_of(f"{role}/{part}")


# ---------------------------------------------------------------- filters


def groups_of(rules: Mapping[int, Any], grade_is_fenced: bool) -> dict[str, set[int]]:
    """Return the groups that a filter's rules are left out by: a group of names, or a name."""
    tables = {
        **{f"ENOSYS/{name}": names for name, names in seccomp.NOT_IMPLEMENTED.items()},
        **{f"EPERM/{name}": names for name, names in seccomp.NOT_PERMITTED.items()},
    }
    if grade_is_fenced:
        tables["SHARED_QUEUES"] = seccomp.SHARED_QUEUES
        if X86_64["utime"] in rules:
            tables["OWN_FILES"] = seccomp.OWN_FILES
        if X86_64["setuid"] in rules:
            tables["OTHER_IDENTITIES"] = " ".join(seccomp.OTHER_IDENTITIES)
    groups = {
        group: {X86_64[name] for name in names.split()} & set(rules)
        for group, names in tables.items()
    }
    groups = {group: numbers for group, numbers in groups.items() if numbers}
    alone = set(rules).difference(*groups.values())
    return {**groups, **{_NUMBERS[number]: {number} for number in alone}}


def weaken_filters(missing: set[str], *, tell: bool) -> None:
    really, assemble = seccomp._filter, bpf.assemble
    current = {"whose": "", "fenced": ""}

    def named() -> set[str]:
        prefix = f"seccomp/{current['whose']}: "
        return {name.removeprefix(prefix) for name in missing if name.startswith(prefix)}

    def filter_(rules: dict[int, bpf.Leaf]) -> syscalls.Filter:
        groups = groups_of(rules, bool(current["fenced"]))
        for group in (*groups, *PROLOGUE, FUTURE) if tell else ():
            tell_of(f"seccomp/{current['whose']}: {group}")
        gone = set[int]().union(*(groups.get(name, set()) for name in named()))
        return really({n: leaf for n, leaf in rules.items() if n not in gone})

    def assembled(rules: dict[int, bpf.Leaf], *, newest: int, above: int) -> bytes:
        if OLD_TABLE in missing:
            newest = 448
        program = assemble(
            rules, newest=newest, above=bpf.ALLOW if FUTURE in named() else above
        )
        for name in named() & set(PROLOGUE):
            at = 8 * PROLOGUE[name]
            program = program[:at] + b"".join(bpf.answer(bpf.ALLOW)) + program[at + 8 :]
        return program

    def made_by(whose: str) -> None:
        make = getattr(seccomp, f"{whose}_filter")

        def made(*given: Any) -> syscalls.Filter:
            grade = getattr(given[0], "grade", given[0]) if given else None
            current.update(whose=whose, fenced="yes" if grade and grade.fenced else "")
            filtered: syscalls.Filter = make(*given)
            return filtered

        setattr(seccomp, f"{whose}_filter", made)

    seccomp._filter, bpf.assemble = filter_, assembled  # type: ignore[assignment]
    for whose in ("session", "zygote", "keeper"):
        made_by(whose)
