"""The receipt: which layers are live around a process, partly told, partly seen from outside.

The child tells what it built. What the kernel shows of it from outside (namespaces, seccomp,
capabilities, no_new_privs) is read from /proc, and a receipt is given only if the two agree.
What its zygote has is not enough: a layer is the session's when the zygote does not have it.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace

from .errors import LayerFailed
from .tiers import FENCED, NAMESPACES

_PID = "pid namespace"
_STATUS_BYTES = 64 * 1024
_FIELDS = re.compile(
    r"^(PPid|NSpid|Uid|Cap(?:Eff|Prm|Inh|Amb)|NoNewPrivs|Seccomp|Seccomp_filters):\t(.*)", re.M
)


@dataclass(frozen=True, slots=True)
class Receipt:
    """The isolation of one session process.

    Args:
        tier: one of TIERS.
        launcher: "bubblewrap" or "built-in"; "" without isolation.
        layers: what is live, in the order in which it was built.
        seen: those of them that were confirmed from outside.
        uid: the user it runs as on the host.
        missing: what `strict` has and this has not, in words.
    """

    tier: str
    launcher: str
    layers: tuple[str, ...]
    seen: tuple[str, ...] = field(default=())
    uid: int = -1
    missing: tuple[str, ...] = ()


def confirm(receipt: Receipt, pid: int) -> Receipt:
    """Return the receipt with what /proc shows of `pid`.

    What a tier must have is asked of the kernel, whatever the child says: code that an author
    runs at import may have told its zygote to leave something out.

    Raises:
        LayerFailed: the kernel does not show a layer that the tier has.
        ProcessLookupError: there is no such process any more.
    """
    try:
        status = _status(pid)
        zygote = int(status["PPid"])
        if receipt.tier in FENCED:
            pid = _only_child(pid)  # what was forked is its executioner
            status = _status(pid)
        before = _status(zygote)
        required = _required(receipt)
        shown = _namespaces(pid, zygote)
    except FileNotFoundError:
        raise ProcessLookupError(f"no process {pid}") from None
    except PermissionError:
        # a root without CAP_SYS_PTRACE, as a container's: it sees process numbers, no more
        deeper = len(status["NSpid"].split()) > len(before["NSpid"].split())
        shown = [_PID] if deeper else []
        required = [layer for layer in required if layer not in NAMESPACES or layer == _PID]
    # how many there are, Linux says since 5.9
    own = int(status.get("Seccomp_filters", "1"))
    if status["Seccomp"] == "2" and own > int(before.get("Seccomp_filters", "0")):
        shown.append("seccomp")
    if status["NoNewPrivs"] == "1":
        shown.append("no new privileges")
    if not any(int(status[name], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")):
        shown.append("no capabilities")
    uid = int(status["Uid"].split()[0])
    if uid not in (int(before["Uid"].split()[0]), os.getuid()):
        shown.append("user of its own")
    absent = [layer for layer in required if layer not in shown]
    if absent:
        what = f"the kernel does not show around the process: {', '.join(absent)}"
        raise LayerFailed(absent[0], what)
    seen = tuple(layer for layer in receipt.layers if layer in shown)
    return replace(receipt, seen=seen, uid=uid)


def pid_of(pidfd: int) -> int:
    """Return the process number behind a pidfd.

    Raises:
        ValueError: the descriptor is something else: a hostile zygote may send anything.
    """
    with open(f"/proc/self/fdinfo/{pidfd}") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name == "Pid":
                return int(value)
    raise ValueError("the descriptor is no pidfd")


def _required(receipt: Receipt) -> list[str]:
    if receipt.tier == "none":
        return []
    walls = ["user of its own"] if receipt.tier == "uid" else []
    if receipt.tier not in FENCED:
        walls = [layer for layer in NAMESPACES if layer not in receipt.missing]
    return [*walls, "seccomp", "no new privileges", "no capabilities"]


def _namespaces(pid: int, zygote: int) -> list[str]:
    """Return the layers whose namespace is neither ours nor its zygote's."""
    us = os.getpid()
    return [
        layer
        for layer, kind in NAMESPACES.items()
        if _namespace(pid, kind) not in (_namespace(us, kind), _namespace(zygote, kind))
    ]


def _namespace(pid: int, kind: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{kind}")


def _only_child(pid: int) -> int:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        children = file.read().split()
    if len(children) != 1:
        raise FileNotFoundError  # it has ended, and its executioner is about to
    return int(children[0])


def _status(pid: int) -> dict[str, str]:
    """Return the fields of a process that a receipt is about: proc_pid_status(5)."""
    file = os.open(f"/proc/{pid}/status", os.O_RDONLY | os.O_CLOEXEC)
    try:
        # the name of a process, which stands first, may have any bytes but line ends
        return dict(_FIELDS.findall(os.read(file, _STATUS_BYTES).decode(errors="replace")))
    finally:
        os.close(file)
