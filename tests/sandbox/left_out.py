"""Ways to leave protections out, for controls: code that runs before they would be built.

A test that still passes without the layer it is about could never have failed. The session
does not know of it, and claims to have every layer. What is left out is named by a layer, or
by one of the selectors of `left_out_calls.py`.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from envhub_sandbox import launcher as launching

# modules that are not there where they are needed, so their text is taken there
_MODULES = {
    f"tests.sandbox.{name}": (Path(__file__).parent / f"{name}.py").read_text()
    for name in ("left_out_calls", "left_out_places")
}
TELL = "nothing, but tell what is done"
# what a launcher is started with by its owner
EMPTY_ENVIRONMENT = "launcher: an empty environment"
NO_DESCRIPTORS = "launcher: no descriptors but those it is handed"
ROOTS_GROUPS = "launcher: an owner in no group but its own"  # as if it were in group 0
# more than one selector, for either launcher
_TOGETHER = {
    "read-only root": {"bwrap: --remount-ro /", "builtin: mount read-only /"},
    "die with parent": {
        "bwrap: --die-with-parent", "builtin: die_with_parent", "stage: die_with_parent",
    },
}  # fmt: skip


def inside(left_out: tuple[str, ...]) -> str:
    """Return the code that leaves them out in the zygote; Landlock without its version."""
    return _code("inside", left_out)


def outside(left_out: tuple[str, ...]) -> str:
    """Return the code that leaves them out around it."""
    return _code("outside", left_out)


@contextmanager
def by_owner(left_out: tuple[str, ...]) -> Iterator[None]:
    """Leave out what the owner does when it starts a launcher."""
    started = subprocess.Popen

    class Modules:
        """The launcher's `subprocess`, less careful."""

        DEVNULL = subprocess.DEVNULL
        TimeoutExpired = subprocess.TimeoutExpired
        run = staticmethod(subprocess.run)

        @staticmethod
        def Popen(*given: Any, **more: Any) -> subprocess.Popen[bytes]:
            if EMPTY_ENVIRONMENT in left_out:
                more["env"] = {**os.environ, **more["env"]}
            if ROOTS_GROUPS in left_out:
                more["extra_groups"] = [0]
            if NO_DESCRIPTORS in left_out:
                for descriptor in more.pop("pass_fds"):
                    os.set_inheritable(descriptor, True)
                more["close_fds"] = False
            return started(*given, **more)

    if not {EMPTY_ENVIRONMENT, NO_DESCRIPTORS, ROOTS_GROUPS} & set(left_out):
        yield
        return
    launching.subprocess = Modules  # type: ignore[assignment, attr-defined]
    try:
        yield
    finally:
        launching.subprocess = subprocess  # type: ignore[attr-defined]


def _code(where: str, left_out: tuple[str, ...]) -> str:
    if not left_out:
        return ""
    missing = set[str]().union(*(_TOGETHER.get(name, {name}) for name in left_out))
    return f"""
import sys, types
for name in ("tests", "tests.sandbox", *{list(_MODULES)!r}):
    sys.modules[name] = types.ModuleType(name)
for name, text in {_MODULES!r}.items():
    exec(compile(text, name, "exec"), vars(sys.modules[name]))
sys.modules[name].leave_out_{where}({missing!r}, tell={TELL in left_out})
"""
