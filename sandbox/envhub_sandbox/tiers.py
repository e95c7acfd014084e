"""How well a machine isolates: the tiers, and what a launcher tells the zygote about one.

| tier     | needs                                      | without                             |
|----------|--------------------------------------------|-------------------------------------|
| strict   | user namespaces, nested                    |                                     |
| standard | the same, less one or both of what follows | own network namespace, own /proc    |
| uid      | root with SETUID, SETGID, KILL; Landlock 6 | namespaces, quotas on files         |
| landlock | Landlock 6 (Linux 6.12)                    | those, and a user of its own        |
| none     |                                            | everything but rlimits              |

docs/security.md says what each holds, and which test says so.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from typing import Literal, get_args

Tier = Literal["strict", "standard", "uid", "landlock", "none"]
TIERS: tuple[Tier, ...] = get_args(Tier)  # the strongest first
FENCED: tuple[Tier, ...] = ("uid", "landlock")  # without namespaces, behind Landlock
UIDS = 1024  # users in the block of one worker, in the uid tier
SESSIONS = "sessions"  # in the folder of a sandbox without namespaces: those of its sessions
ROOT = "root"  # likewise: what the view shows under another name than its own
# layer: its name in /proc/PID/ns and in the settings below user/
NAMESPACES = {
    "user namespace": "user",
    "mount namespace": "mnt",
    "pid namespace": "pid",
    "ipc namespace": "ipc",
    "uts namespace": "uts",
    "network namespace": "net",
}
_VARIABLE = "ENVHUB_SANDBOX"


@dataclass(frozen=True, slots=True)
class Grade:
    """A tier, and in `standard` which of strict's layers it is without.

    Args:
        tier: one of TIERS.
        network: each session has a network namespace of its own.
        proc: each session has a /proc of its own; without, it has an empty one.
        open_network: sessions may use the host's network, which their operator has agreed to.
    """

    tier: Tier = "strict"
    network: bool = True
    proc: bool = True
    open_network: bool = False

    def opened(self) -> Grade:
        """Return the same with the host's network in reach."""
        tier: Tier = "standard" if self.tier == "strict" else self.tier
        return replace(self, tier=tier, network=False, open_network=True)

    @property
    def namespaces(self) -> bool:
        """Whether sessions have namespaces."""
        return self.tier in ("strict", "standard")

    @property
    def fenced(self) -> bool:
        """Whether Landlock and an executioner stand where namespaces would."""
        return self.tier in FENCED

    @property
    def counts_processes(self) -> bool:
        """Whether the kernel holds the limit on processes: they have a user of their own."""
        return self.tier not in ("landlock", "none")

    @property
    def missing(self) -> tuple[str, ...]:
        """What strict has and this has not, in words."""
        if self.tier == "none":
            return ("every layer but rlimits",)
        wall = ("any wall to the network",) if self.open_network else ()
        if self.fenced:
            shared = () if self.tier == "uid" else ("user of its own",)
            return ("namespaces", "quotas on files", *shared, *wall)
        flags = (("network namespace", self.network), ("/proc of its own", self.proc))
        return (*(name for name, there in flags if not there), *wall)


# the kinds of each tier, the strongest first
VARIANTS: dict[Tier, tuple[Grade, ...]] = {
    "strict": (Grade("strict"),),
    "standard": (
        Grade("standard", network=False),
        Grade("standard", proc=False),
        Grade("standard", network=False, proc=False),
    ),
    "uid": (Grade("uid"),),
    "landlock": (Grade("landlock"),),
    "none": (Grade("none"),),
}
STRICT, NONE = Grade(), Grade("none")


def at_least(tier: Tier, minimum: Tier) -> bool:
    """Whether `tier` isolates as well as `minimum`, or better."""
    return TIERS.index(tier) <= TIERS.index(minimum)


@dataclass(frozen=True, slots=True)
class Ground:
    """What the launcher built around a zygote, in its own words.

    Args:
        grade: how sessions are to be isolated.
        folder: without namespaces, where sessions have their folders; "" otherwise.
        shown: without namespaces, (path, "read" or "list") of everything that may be read.
        first_uid: in the uid tier, the first of UIDS users that sessions run as.
    """

    grade: Grade = STRICT
    folder: str = ""
    shown: tuple[tuple[str, str], ...] = ()
    first_uid: int = -1

    def variable(self) -> tuple[str, str]:
        """Return the environment variable that tells a zygote of it."""
        return _VARIABLE, json.dumps(asdict(self))


def take_ground() -> Ground:
    """Return what the launcher said, and forget it, before anybody's code is imported."""
    said = json.loads(os.environ.pop(_VARIABLE))
    shown = tuple((path, how) for path, how in said["shown"])
    return Ground(Grade(**said["grade"]), said["folder"], shown, said["first_uid"])
