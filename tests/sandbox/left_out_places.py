"""Where protections are left out: in a launcher, and in a zygote.

Executed after `left_out_calls.py`, in both. The product knows nothing of it.
"""

from __future__ import annotations

import inspect
import os
import resource
import signal
from collections.abc import Callable
from typing import Any

from envhub_sandbox import builtin, bwrap, fenced, isolate, syscalls, zygote
from envhub_sandbox import plan as plans
from envhub_sandbox.plan import Plan
from tests.sandbox.left_out_calls import (
    tell_of,
    tell_of_calls,
    weaken_filters,
    without,
)

NAMESPACES = {**isolate.NAMESPACES_BY_NAME, "cgroup namespace": syscalls.CLONE_NEWCGROUP}
HANGS = "a launcher that hangs before it builds anything"


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


_FOR_OTHERS = ("envhub_sandbox.isolate", "envhub_sandbox.syscalls")


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
        within = module in _FOR_OTHERS or asking.f_code.co_name == "die_with_parent"
        if within or not module.startswith("envhub_sandbox"):
            return really(*arguments, **more)
        what = described(name, arguments)
        if asking.f_code.co_name.startswith("_leave_the") and name in ("unshare", "map_user"):
            what = "leaving the privileged namespace"  # neither can do without the other
        selector = f"{where}{module.rpartition('.')[2]}: {what}"
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


# ---------------------------------------------------------------- where they are installed


class _Outer(Plan):
    """One that is without what is missing already."""


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
        if isinstance(self, _Outer):
            run(self)
            return
        if tell:
            tell_of_calls(role[-1], self)
        run(Plan(without(role[-1], self.calls, missing)))

    def fork_less(namespaces: int = 0) -> tuple[int, int]:
        for name, flag in isolate.NAMESPACES_BY_NAME.items() if tell else ():
            if namespaces & flag:
                tell_of(f"clone: {name}")
        return fork(namespaces & ~dropped)

    def restrict_less(*given: Any) -> None:
        role.append("zygote")
        restrict(*given)
        role.pop()

    def outer_less(*given: Any, **more: Any) -> tuple[str, Plan]:
        folder, made = outer_plan(*given, **more)
        if tell:
            tell_of_calls("executioner", made)
        return folder, _Outer(without("executioner", made.calls, missing))

    fenced.outer_plan = outer_less
    Plan.run = run_less  # type: ignore[method-assign]
    zygote._restrict = restrict_less  # type: ignore[assignment]
    syscalls.fork = fork_less
    weaken_filters(missing, tell=tell)
    _watch_functions(missing, "inside/", tell=tell)


def leave_out_outside(missing: set[str], *, tell: bool = False) -> None:
    """Weaken this process, which is about to become a launcher; `tell` what it does."""
    arguments, run = bwrap.arguments, Plan.run
    _watch_functions(missing, "", tell=tell)
    if HANGS in missing:
        bwrap.arguments = builtin.enter = _hang  # type: ignore[assignment]
        return

    def run_less(self: Plan) -> None:
        if tell:
            tell_of_calls("fence", self)
        run(Plan(without("fence", self.calls, missing)))

    def arguments_less(*given: Any) -> list[str]:
        line = arguments(*given)
        for flag in flags_of(line) if tell else ():
            tell_of(f"bwrap: {called(flag)}")
        return weakened_line(line, missing)

    bwrap.arguments = arguments_less  # type: ignore[assignment]
    Plan.run = run_less  # type: ignore[method-assign]


def _hang(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


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
        elif called(flag) not in gone:
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


def called(flag: list[str]) -> str:
    """Return how a selector names a flag; a mask by both of its flags at once."""
    if flag == ["--tmpfs", bwrap.IMPORTS]:
        return " ".join(flag)
    if flag[0] == "--tmpfs" or (flag[0] == "--remount-ro" and flag[1] != "/"):
        return "--tmpfs over what is masked"
    return " ".join(flag) if flag[0] in ("--remount-ro", "--cap-drop") else flag[0]
