"""The receipt: which layers are live around a process, partly told, partly seen from outside.

The child tells what it built. What the kernel shows of it from outside (namespaces, seccomp,
capabilities, no_new_privs) is read from /proc, and a receipt is given only if the two agree.
What its zygote has is not enough: a layer is the session's when the zygote does not have it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from .errors import LayerFailed

_NAMESPACES = {
    "user namespace": "user",
    "mount namespace": "mnt",
    "pid namespace": "pid",
    "ipc namespace": "ipc",
    "uts namespace": "uts",
    "network namespace": "net",
}


@dataclass(frozen=True, slots=True)
class Receipt:
    """The isolation of one session process.

    Args:
        tier: "strict" or "none".
        launcher: "bubblewrap" or "built-in"; "" without isolation.
        layers: what is live, in the order in which it was built.
        seen: those of them that were confirmed from outside.
        uid: the user it runs as on the host.
    """

    tier: str
    launcher: str
    layers: tuple[str, ...]
    seen: tuple[str, ...] = field(default=())
    uid: int = -1


def confirm(receipt: Receipt, pid: int) -> Receipt:
    """Return the receipt with what /proc shows of `pid`.

    Raises:
        LayerFailed: the kernel does not show a layer that the child claims, or it does not
            let itself be looked at.
        ProcessLookupError: there is no such process any more.
    """
    shown: list[str] = []
    try:
        status = _status(pid)
        zygote = int(status["PPid"])
        for layer, kind in _NAMESPACES.items():
            others = (_namespace(os.getpid(), kind), _namespace(zygote, kind))
            if _namespace(pid, kind) not in others:
                shown.append(layer)
        # how many there are, Linux says since 5.9
        filters = int(status.get("Seccomp_filters", "1"))
        if status["Seccomp"] == "2" and filters > int(
            _status(zygote).get("Seccomp_filters", "0")
        ):
            shown.append("seccomp")
    except FileNotFoundError:
        raise ProcessLookupError(f"no process {pid}") from None
    except PermissionError as error:
        what = f"process {pid} does not let itself be looked at"
        raise LayerFailed("receipt", what, error.errno or 0) from None
    if status["NoNewPrivs"] == "1":
        shown.append("no new privileges")
    if not any(int(status[name], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")):
        shown.append("no capabilities")
    visible = {*_NAMESPACES, "seccomp", "no new privileges", "no capabilities"}
    for layer in receipt.layers:
        if layer in visible and layer not in shown:
            raise LayerFailed(layer, "the process says it is live, and the kernel does not")
    seen = tuple(layer for layer in receipt.layers if layer in shown)
    uid = int(status["Uid"].split()[0])
    return Receipt(receipt.tier, receipt.launcher, receipt.layers, seen, uid)


def _namespace(pid: int, kind: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{kind}")


def _status(pid: int) -> dict[str, str]:
    with open(f"/proc/{pid}/status") as file:
        pairs = (line.partition(":") for line in file)
        return {name: value.strip() for name, _, value in pairs}
