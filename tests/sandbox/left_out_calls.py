"""What `left_out.py` has executed in a zygote and in the process that becomes the launcher.

A file of its own so that it is linted, and imported by nobody in there: its text is executed
where `envhub_sandbox` is, before that is used. A selector names one protection:

    clone: NAME                       a flag of the clone that a session begins with
    session/LAYER: WHAT               a call of a session's plan; `executioner/…` of the one
                                      above it, `zygote/…` of the zygote's own walls
    …/landlock: handles WHAT          one part of a ruleset, or `widened PATH`, a rule of it
    …/LAYER: PATH OPTION              one option of a mount
    seccomp/WHOSE: GROUP              of `session`, `zygote` or `keeper`
    bwrap: FLAG, MODULE: FUNCTION …   of what a launcher does, as `described` puts it
    inside/MODULE: FUNCTION …         the same of what a zygote and its children do

Whatever is only in this file cannot weaken the product, which knows nothing of it.
"""

from __future__ import annotations

import inspect
import os
import re
import resource
import signal
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from envhub_sandbox import (
    bpf,
    builtin,
    bwrap,
    fenced,
    isolate,
    landlock,
    seccomp,
    syscalls,
    zygote,
)
from envhub_sandbox import plan as plans
from envhub_sandbox.plan import Call, Plan
from envhub_sandbox.sysno import X86_64

_NUMBERS = {number: name for name, number in X86_64.items()}
NAMESPACES = {**isolate.NAMESPACES_BY_NAME, "cgroup namespace": syscalls.CLONE_NEWCGROUP}
MOUNT_FLAGS = {"nosuid": syscalls.MS_NOSUID, "nodev": syscalls.MS_NODEV, "noexec": 8}
MOUNT_OPTIONS = ("size", "nr_inodes", "max")
HANDLED = {
    "files": (0, 2**64 - 1),
    "TCP": (1, 2**64 - 1),
    "abstract sockets": (2, 1),
    "signals": (2, 2),
}
PROLOGUE = {"another architecture": 2, "numbers of the x32 ABI": 5}
FUTURE = "calls newer than the table"
OLD_TABLE = "a table that ends before pidfd_open"  # for what has no newer call to show


# ---------------------------------------------------------------- plans


def name_of(call: Call) -> str:
    """Return how a selector names a call, without the values it passes."""
    layer = re.sub(r" \d+$", "", call.layer)
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
        arguments[3] = landlock.rule(landlock.version(), descriptor, 2**64 - 1)
    elif name == "landlock_create_ruleset":
        words = list(_words(call))
        for part in parts:
            at, mask = HANDLED[part.partition("handles ")[2]]
            words[at] &= ~mask
        length = arguments[2]
        assert isinstance(length, int)
        arguments[1] = struct.pack("<QQQ", *words)[:length]
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
    alone = set(rules).difference(*groups.values())
    return {**groups, **{_NUMBERS[number]: {number} for number in alone}}


def _weaken_filters(missing: set[str]) -> None:
    really, assemble = seccomp._filter, bpf.assemble
    current = {"whose": "", "fenced": ""}

    def named() -> set[str]:
        prefix = f"seccomp/{current['whose']}: "
        return {name.removeprefix(prefix) for name in missing if name.startswith(prefix)}

    def filter_(rules: dict[int, bpf.Leaf]) -> syscalls.Filter:
        groups = groups_of(rules, bool(current["fenced"]))
        gone = set[int]().union(*(groups.get(name, set()) for name in named()))
        return really({n: leaf for n, leaf in rules.items() if n not in gone})

    def assembled(rules: dict[int, bpf.Leaf], *, newest: int, above: int) -> bytes:
        if OLD_TABLE in missing:
            newest = 433
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


# ---------------------------------------------------------------- functions

# what a launcher and an executioner do without a plan
FUNCTIONS: dict[Any, tuple[str, ...]] = {
    syscalls: ("mount", "umount", "pivot_root", "unshare", "sethostname", "prctl",
               "drop_capabilities", "bound_capabilities", "set_capabilities", "close_from",
               "raise_ambient"),
    os: ("setsid", "setgroups", "setresgid", "setresuid", "chmod", "chown", "kill", "execve"),
    resource: ("setrlimit",),
    isolate: ("map_user",),
    builtin: ("die_with_parent",),
}  # fmt: skip


def described(function: str, arguments: tuple[Any, ...]) -> str:
    """Return how a selector names a call of one of these functions."""
    first: Any = arguments[0] if arguments else None
    if function == "unshare":
        kinds = [name for name, flag in NAMESPACES.items() if first & flag]
        return f"unshare {', '.join(kinds)}"
    if function == "prctl":
        value = f" {signal.Signals(arguments[1]).name}" if first == 1 else ""
        return f"prctl {plans._PROPERTIES.get(first, 'PR_SET_CHILD_SUBREAPER')}{value}"
    if function == "mount":
        return _described_mount(*arguments)
    if function in ("umount", "pivot_root"):
        return f"{function} {first}"
    if function in ("chmod", "chown"):
        return (
            f"{function} {'the sessions' if str(first).endswith('sessions') else 'its folder'}"
        )
    return function


def _described_mount(
    source: str | None, target: str, kind: str | None, flags: int = 0, data: str | None = None
) -> str:
    if kind and flags & syscalls.MS_RDONLY:
        return "mount an empty folder over what is masked"
    if kind:
        return f"mount {kind} on {target}"
    if flags & syscalls.MS_REMOUNT:
        return f"mount read-only {target if target == '/' else 'what is shown'}"
    if flags & (syscalls.MS_PRIVATE | syscalls.MS_SLAVE):
        return f"mount {'private' if flags & syscalls.MS_PRIVATE else 'slave'} {target}"
    return "mount bind"


def _watch_functions(missing: set[str], where: str, *, tell: bool) -> None:
    for module, names in FUNCTIONS.items():
        for name in names:
            setattr(module, name, _watched(getattr(module, name), name, missing, where, tell))


def _watched(
    really: Callable[..., Any], name: str, missing: set[str], where: str, tell: bool
) -> Callable[..., Any]:
    def watched(*arguments: Any, **more: Any) -> Any:
        here = inspect.currentframe()
        asking = here.f_back if here else None
        assert asking is not None
        module = str(asking.f_globals.get("__name__"))
        by_another = module.endswith("isolate") or asking.f_code.co_name == "die_with_parent"
        if by_another or not module.startswith("envhub_sandbox"):
            return really(*arguments, **more)
        selector = f"{where}{module.rpartition('.')[2]}: {described(name, arguments)}"
        if tell:
            tell_of(selector)
            if (name, arguments) == ("close_from", (0,)):
                return None  # there is more to tell
        if selector not in missing:
            return really(*arguments, **more)
        if name == "execve":
            return really(*arguments[:2], {**os.environ, **arguments[2]})
        return None

    return watched


def tell_of(selector: str) -> None:
    """Say what was done, for the list of what can be left out."""
    os.write(2, f"DOES {selector}\n".encode())


# ---------------------------------------------------------------- where they are installed


def leave_out_inside(missing: set[str], *, tell: bool = False) -> None:
    """Weaken this process, which is about to become a zygote; `tell` what it does."""
    dropped = 0
    for name, flag in isolate.NAMESPACES_BY_NAME.items():
        by_layer = name in ("network namespace", "ipc namespace") and name in missing
        if by_layer or f"clone: {name}" in missing:
            dropped |= flag
    fork, run, restrict, outer_plan = (
        syscalls.fork, Plan.run, zygote._restrict, fenced.outer_plan,
    )  # fmt: skip
    role = ["session"]

    def run_less(self: Plan) -> None:
        run(Plan(without(role[-1], self.calls, missing)))

    def restrict_less(*given: Any) -> None:
        role.append("zygote")
        restrict(*given)
        role.pop()

    def outer_less(*given: Any, **more: Any) -> tuple[str, Plan]:
        folder, made = outer_plan(*given, **more)
        return folder, Plan(without("executioner", made.calls, missing))

    fenced.outer_plan = outer_less
    Plan.run = run_less  # type: ignore[method-assign]
    zygote._restrict = restrict_less  # type: ignore[assignment]
    syscalls.fork = lambda namespaces=0: fork(namespaces & ~dropped)
    _weaken_filters(missing)
    _watch_functions(missing, "inside/", tell=tell)


def leave_out_outside(missing: set[str], *, tell: bool = False) -> None:
    """Weaken this process, which is about to become a launcher; `tell` what it does."""
    arguments, run = bwrap.arguments, Plan.run

    def run_less(self: Plan) -> None:
        if tell:
            for call in self.calls:
                tell_of(f"fence/{name_of(call)}")
                for part in parts_of(call):
                    tell_of(f"fence/{part}")
        run(Plan(without("fence", self.calls, missing)))

    bwrap.arguments = lambda *given: weakened_line(arguments(*given), missing)
    Plan.run = run_less  # type: ignore[method-assign]
    _watch_functions(missing, "", tell=tell)


def weakened_line(line: list[str], missing: set[str]) -> list[str]:
    """Return bubblewrap's arguments without what is missing."""
    gone = {name.removeprefix("bwrap: ") for name in missing if name.startswith("bwrap: ")}
    kept: list[str] = []
    words = iter(flags_of(line))
    for flag in words:
        if flag[0] == "--ro-bind" and "--ro-bind" in gone:
            kept += ["--bind", *flag[1:]]
        elif flag[0] == "--proc" and "--proc" in gone:
            kept += bwrap.HOSTS_PROC
        elif not gone.intersection(names_of(flag)):
            kept += flag
    return kept


def flags_of(line: list[str]) -> list[list[str]]:
    """Return each flag with its words."""
    flags: list[list[str]] = []
    for word in line:
        if word.startswith("--"):
            flags.append([])
        flags[-1].append(word)
    return flags


def names_of(flag: list[str]) -> set[str]:
    """Return how a selector names a flag; a mask by both of its flags at once."""
    if flag[0] == "--tmpfs" or (flag[0] == "--remount-ro" and flag[1] != "/"):
        return {"--tmpfs over what is masked"}
    return {" ".join(flag)} if flag[0] in ("--remount-ro", "--cap-drop") else {flag[0]}
