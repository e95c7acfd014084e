"""The sandboxes there are, and every protection that each of them says it builds.

Nothing is listed here by hand: a sandbox is built once with `TELL`, and tells what it does.
A protection that is new in the product is in the list from then on.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace

from envhub_sandbox import Grade, Launcher, bubblewrap, landlock
from envhub_sandbox.tiers import STRICT
from tests.sandbox.alone import SMALL, Zygote
from tests.sandbox.left_out import EMPTY_ENVIRONMENT, NO_DESCRIPTORS, TELL

# every limit is set, or nobody would miss it
LIMITS = replace(SMALL, cpu_s=2, niceness=2)


@dataclass(frozen=True)
class World:
    """A kind of sandbox.

    Args:
        name: in front of the names of its protections; "" for the first.
        grade: of it.
        launcher: who builds it.
        needs_root: only root has it.
    """

    name: str
    grade: Grade = STRICT
    launcher: Launcher = "built-in"
    needs_root: bool = False

    @property
    def is_here(self) -> bool:
        """Whether this machine and this user can have one."""
        if self.needs_root and os.geteuid() != 0:
            return False
        if self.launcher == "bubblewrap":
            return bubblewrap() is not None
        return not self.grade.fenced or landlock.version() >= 6


WORLDS = (
    World(""),
    World("bubblewrap", launcher="bubblewrap"),
    World("host's network", Grade("standard", network=False)),
    World("host's /proc", Grade("standard", proc=False)),
    World("uid", Grade("uid"), needs_root=True),
    World("landlock", Grade("landlock")),
)
# the same data in every world, so one is enough to show that they are missed
_SAME_EVERYWHERE = re.compile(
    r"seccomp/\w+: (?!socket$).*|session/rlimits: .*|session/descriptors: .*|stage: .*"
    r"|inside/zygote: .*"
)
_BOTH = "from envhub_sandbox import seccomp\nseccomp.keeper_filter()"


@dataclass(frozen=True)
class Protection:
    """One of them.

    Args:
        world: where.
        selector: of `left_out_calls.py`.
    """

    world: World
    selector: str

    def __str__(self) -> str:
        return f"{self.world.name}; {self.selector}" if self.world.name else self.selector


def told(world: World) -> list[str]:
    """Return the selectors of everything that a sandbox of this world does."""
    left_out = (TELL,)
    with Zygote(world.launcher, grade=world.grade, limits=LIMITS, left_out=left_out) as zygote:
        ended = zygote.run(_BOTH)
        said = zygote.output() + ended.printed
    found = dict.fromkeys(re.findall(r"^DOES (.*)$", said, re.MULTILINE))
    return [*found, EMPTY_ENVIRONMENT, NO_DESCRIPTORS]


def protections() -> list[Protection]:
    """Return all of this machine's; one that two worlds share word for word, once."""
    found: list[Protection] = []
    strict: set[str] = set()
    for world in WORLDS:
        if not world.is_here:
            continue
        does = told(world)
        if not world.grade.fenced:
            new = [name for name in does if name not in strict]
            strict.update(does)
            if not world.grade.network:
                new.append("seccomp/session: socket")  # another rule of the same name
        else:
            new = [
                name
                for name in does
                if name not in strict
                or not (_SAME_EVERYWHERE.fullmatch(name) or name.startswith("launcher"))
            ]
        found += [Protection(world, name) for name in dict.fromkeys(new)]
    return found
