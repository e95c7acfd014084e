"""Find rows: what must be gone, too, for an attack to miss a protection."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from tests.sabotage import apart
from tests.sabotage.attacks import KEEPER, LIMITED, MORE
from tests.sabotage.trying import AT_IMPORT, NOT_BUILT, is_harmful, working
from tests.sabotage.worlds import Protection, World
from tests.sandbox.left_out import EMPTY_ENVIRONMENT, ROOTS_GROUPS
from tests.sandbox.left_out_calls import OLD_TABLE
from tests.sandbox.table import ATTACKS
from tests.sandbox.table_of_limits import LIMITS

# of no use at import, where a zygote has no limits and no keeper and is itself
_SESSIONS_ONLY = {a.name for a in (*LIMITS, *LIMITED, *KEEPER)} | {"speaking as the zygote"}
_SESSIONS_ONLY -= {"more processes than a user of ours may have"}
# without namespaces, and perhaps as root, these would be done to the host
_TO_THE_HOST = {
    "mount", "umount", "chroot", "a name for the host", "making what is shown writable",
    "writing to the root, for the next session", "a setting of the kernel",
}  # fmt: skip
_ZYGOTES = "zygote/seccomp: seccomp"  # which its sessions inherit
_NNP = tuple(
    f"{where} PR_SET_NO_NEW_PRIVS"
    for where in ("session/no new privileges: prctl", "executioner/no new privileges: prctl",
                  "zygote/no new privileges: prctl", "builtin: prctl", "fence: prctl")
)  # fmt: skip
_SCOPES = ("fence/landlock scope", "zygote/landlock", "executioner/landlock",
           "session/landlock scope")  # fmt: skip
_ABSTRACT = tuple(f"{where}: handles abstract sockets" for where in _SCOPES)
_FILES = ("executioner/landlock: handles files", "zygote/landlock: handles files")
_TCP = ("executioner/landlock: handles TCP", "zygote/landlock: handles TCP")
_USER = ("executioner/user of its own: setresuid", "executioner/user of its own: setresgid")
# which others may hide that a protection is missed, few first: (of what, what)
_COMPANIONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("(?!seccomp/session|session/seccomp).*", ()),
    ("seccomp/session.*|session/seccomp.*", (_ZYGOTES,)),
    ("seccomp/(zygote|keeper).*newer than", (OLD_TABLE,)),
    ("seccomp/session.*newer than", (OLD_TABLE, _ZYGOTES)),
    ("session/rlimits: setrlimit RLIMIT_MSGQUEUE", ("landlock",)),
    ("stage: setresuid", ("stage: drop_capabilities",)),
    (".*: setgroups", (ROOTS_GROUPS,)),
    ("session/(?!seccomp|rlimits|private).*|clone.*", ("seccomp",)),
    ("clone.*|session/no terminal.*|session/landlock scope.*", ("landlock",)),
    ("seccomp/session.*", (_ZYGOTES, "session/landlock: landlock_restrict_self")),
    ("seccomp/session: (EPERM/namesp|clone).*", (_ZYGOTES, "session/no further namespaces")),
    ("seccomp/session: E.*", (_ZYGOTES, "session/no capabilities: capset")),
    ("seccomp/session: E.*",
     (_ZYGOTES, "session/no capabilities: capset", "session/unprivileged user",
      "session/landlock: landlock_restrict_self")),
    ("seccomp/zygote: E.*", ("builtin: drop_capabilities",)),
    ("seccomp/zygote: E.*",
     ("builtin: drop_capabilities", "builtin: leaving the privileged namespace")),
    ("session/landlock: handles abstr.*", ("clone: network namespace",)),
    ("clone: net.*", ("session/landlock: handles abstract sockets",)),
    (
        ".*landlock: handles signals.*",
        ("clone: pid namespace", "session/proc of its own: mount proc on /proc"),
    ),
    ("clone: pid.*", ("session/proc of its own: mount proc on /proc",)),
    ("clone: uts.*", ("session/uts namespace: sethostname",)),
    ("clone.*", ("seccomp", "landlock")),
    ("session/private tmpfs: mount.*", ("read-only root",)),
    ("session/uts.*", ("builtin: sethostname",)),
    ("launcher: an empty.*", ("builtin: execve",)),
    (".*execve|.*clearenv", (EMPTY_ENVIRONMENT,)),
    ("bwrap: --cap-drop.*", ("stage: setresuid", "stage: drop_capabilities")),
    ("seccomp/zygote: .*(chmod|mknod).*", ("read-only root",)),
    ("seccomp/keeper: .*", ("seccomp", OLD_TABLE)),
    ("bwrap: --unshare-pid", ("bwrap: --as-pid-1",)),
    ("bwrap: --unshare-ipc|builtin: unshare ipc.*", ("seccomp",)),
    ("bwrap: --unshare-net|builtin: unshare net.*", ("seccomp",)),
    ("builtin: umount.*", ("builtin: umount /tmp",)),
    ("builtin: umount.*", ("builtin: umount /oldroot",)),
    ("session/no cap.*|session/no new.*",
     ("seccomp", "landlock", "session/unprivileged user", *_NNP)),
    ("session/no cap.*", ("session/unprivileged user",)),
    ("executioner/user.*", ("session/no capabilities: capset", "seccomp")),
    ("session/no cap.*", ("executioner/user of its own: capset",)),
    (".*PR_SET_NO_NEW_PRIVS", _NNP),
    (".*abstract.*", ("seccomp", *_ABSTRACT)),
    (".*widened what is shown", tuple(
        f"{where}/landlock: widened what is shown" for where in ("zygote", "executioner"))),
    (".*handles TCP", ("seccomp", *_TCP)),
    (".*(executioner|zygote)/landlock.*", ("zygote/landlock: landlock_restrict_self",)),
    (".*(executioner|zygote)/landlock.*", ("zygote/landlock: handles files", "seccomp")),
    (".*(executioner|zygote)/landlock.*", _FILES),
    (".*(executioner|zygote)/landlock.*", ("seccomp", *_FILES)),
    (".*/landlock.*", ("seccomp",)),
    ("executioner/user.*", _USER),
    ("executioner/user.*", ("session/no capabilities: capset", *_USER)),
)  # fmt: skip
# of what, the attack that shows outside of it, and companions
_OUTSIDE: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("stage: die.*", "outlives its owner before it is built", ()),
    (".*die.with.parent", "outlives its owner", ("stage: die_with_parent",)),
    ("executioner: .*SIGTERM", "outlives its owner", ()),
    ("executioner: .*SIGKILL", "outlives its launcher", ()),
    ("inside/executioner: .*SIGTERM", "outlives its zygote", ()),
    ("inside/executioner: .*SIGKILL", "outlives its executioner", ()),
    ("inside/executioner: kill", "outlives its session", ()),
    ("executioner: .*SUBREAPER", "leaves an orphan to the machine at import", ()),
    ("inside/executioner: .*SUBREAPER", "leaves an orphan to the machine",
     ("executioner: prctl PR_SET_CHILD_SUBREAPER",)),
    ("session/parent.*", "outlives its zygote", ("builtin: unshare pid namespace",)),
    ("builtin: setsid|.*new-session", "ends its owners group at import", ()),
    ("fence: setsid", "slows its owners group at import", ("seccomp",)),
    ("session/no terminal: setsid", "slows a neighbour by its group", ()),
    ("session/no terminal: setsid", "slows a neighbour by its group", ("seccomp",)),
    ("session/no terminal: setsid", "slows a neighbour by its group", ("seccomp", *_USER)),
    ("fence/landlock scope: (handles signals|.*self)", "ends a bystander with itself", ()),
    (".*oom_score_adj", "is spared when memory runs out", ()),
    ("(stage|fence): .*mount (namespace|private /)", "changes what its owner has mounted", ()),
    ("session/mount namespace.*", "sees what is mounted later", ("stage: mount private /",)),
    ("builtin: .*uts.*|.*unshare-uts", "learns a later name of the host",
     ("session/uts namespace: sethostname", "builtin: sethostname")),
    ("executioner/private folder: mode", "reads a neighbours folder", _FILES),
    ("executioner/user.*uid", "reads a neighbours folder", _FILES),
    ("executioner/user.*gid", "reads a neighbours file by its group",
     (*_FILES, "executioner/private folder: mode")),
    ("fence: chmod the sessions", "shows its sessions to anybody", ()),
)  # fmt: skip


def names_for(world: World, selector: str = "") -> list[str]:
    """Return the attacks that may be tried there, those in a session first."""
    here = [a.name for a in (*ATTACKS, *MORE)]
    if world.grade.fenced:
        here = [name for name in here if name not in _TO_THE_HOST]
    if selector and not re.search(
        "rlimits|tmpfs|keeper|unpriv|executioner/user|setr", selector
    ):
        here = [name for name in here if name not in _SESSIONS_ONLY or "speaking" in name]
    at_import = [AT_IMPORT + name for name in here if name not in _SESSIONS_ONLY]
    inside = re.search("^(session|clone|seccomp/(session|keeper)|inside)", selector)
    return [*here, *(() if inside else at_import)]


class Search:
    """Tries, and remembers what works without a set of companions.

    Args:
        targets: what attacks are after.
    """

    def __init__(self, targets: dict[str, Any]) -> None:
        self._targets = targets
        self._before: dict[tuple[str, tuple[str, ...]], set[str]] = {}

    def rows(self, protection: Protection) -> Iterator[tuple[tuple[str, ...], list[str]]]:
        """Yield companions, and the attacks that then miss the protection."""
        world, selector = protection.world, protection.selector
        for of_what, name, companions in _OUTSIDE:
            others = tuple(other for other in companions if other != selector)
            if not re.fullmatch(of_what, selector) or apart.works(world, others, name):
                continue
            if apart.works(world, (*others, selector), name):
                yield others, [name]
        for of_what, companions in _COMPANIONS:
            others = tuple(other for other in companions if other != selector)
            if not re.fullmatch(of_what, selector) or is_harmful(world, (selector, *others)):
                continue
            found = self.missed_by(protection, others)
            if found:
                yield others, found

    def missed_by(self, protection: Protection, companions: Iterable[str]) -> list[str]:
        """Return the attacks that work without both, and not without the companions."""
        world, others = protection.world, tuple(companions)
        key = (world.name, others)
        if key not in self._before:
            self._before[key] = self._working(world, others, names_for(world))
        names = names_for(world, protection.selector)
        after = self._working(world, (*others, protection.selector), names)
        return [name for name in names if name in after - self._before[key]]

    def _working(self, world: World, left_out: tuple[str, ...], names: list[str]) -> set[str]:
        try:
            return working(world, left_out, names, self._targets)
        except NOT_BUILT:
            return set()
