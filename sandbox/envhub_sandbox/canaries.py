"""Escape canaries: harmless things that no sandboxed code may manage to do.

Each is tried in a session of the very sandbox that is examined, and, as the control, in an
ordinary process beside it: one that works nowhere proves nothing.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

from .probe import attempt

Bait = dict[str, Any]
_PTRACE_SEIZE = 0x4206
_CONNECT_S = 2.0


def _read_a_file(bait: Bait) -> None:
    with open(bait["file"]) as file:
        _require(file.read() == bait["secret"])


def _write_a_file(bait: Bait) -> None:
    with open(bait["file"], "a") as file:
        file.write("")


def _read_shared_memory(bait: Bait) -> None:
    with open(bait["shared"]) as file:
        _require(file.read() == bait["secret"])


def _read_an_environment(bait: Bait) -> None:
    with open(f"/proc/{bait['pid']}/environ") as file:
        _require(bait["secret"] in file.read())


def _inherit_the_environment(bait: Bait) -> None:
    _require(os.environ[bait["variable"]] == bait["secret"])


def _connect_to_a_port(bait: Bait) -> None:
    socket.create_connection(("127.0.0.1", bait["port"]), _CONNECT_S).close()


def _connect_to_a_socket(bait: Bait) -> None:
    with socket.socket(socket.AF_UNIX) as ours:
        ours.connect(bait["abstract"])


def _signal_a_process(bait: Bait) -> None:
    _require(bait["pid"] != os.getpid())  # in a namespace numbers begin anew
    os.kill(bait["pid"], 0)


def _trace_a_process(bait: Bait) -> None:
    _call("ptrace", _PTRACE_SEIZE, bait["pid"], None, None)  # and lets go as it ends


def _mount(bait: Bait) -> None:
    _call("unshare", 0x00020000)  # CLONE_NEWNS, so that the control does no harm
    _call("mount", b"none", b"/", None, 1 << 14 | 1 << 18, None)  # private, all of it
    _call("mount", b"none", b"/mnt", b"tmpfs", 0, None)


def _make_a_namespace(bait: Bait) -> None:
    _call("unshare", 0x10000000)  # CLONE_NEWUSER


def _be_root(bait: Bait) -> None:
    os.setresuid(0, 0, 0)
    os.chroot("/")


def _open_a_raw_socket(bait: Bait) -> None:
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()


CANARIES: dict[str, Callable[[Bait], None]] = {
    "reading a file of envhub's user": _read_a_file,
    "writing a file of envhub's user": _write_a_file,
    "reading shared memory": _read_shared_memory,
    "reading a process's environment": _read_an_environment,
    "having envhub's environment": _inherit_the_environment,
    "connecting to a port": _connect_to_a_port,
    "connecting to an abstract socket": _connect_to_a_socket,
    "signalling a process": _signal_a_process,
    "tracing a process": _trace_a_process,
    "mounting": _mount,
    "making a user namespace": _make_a_namespace,
    "having root's powers": _be_root,
    "opening a raw socket": _open_a_raw_socket,
}


def fly(bait: Bait) -> dict[str, str]:
    """Try each in a process of its own; return what stopped it, "" for nothing did."""
    return {name: attempt(partial(canary, bait), _words) for name, canary in CANARIES.items()}


def begin(descriptors: list[int]) -> NoReturn:
    """What a session does: it is told the bait, and answers with what `fly` returns."""
    with socket.socket(fileno=descriptors[0]) as owner:
        said = json.loads(owner.makefile("rb").readline())
        owner.sendall(json.dumps(fly(said)).encode() + b"\n")
    os._exit(0)


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _require(held: bool) -> None:
    if not held:
        raise LookupError("it is there, and is another one")


def _call(name: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    words = [ctypes.c_ulong(a) if isinstance(a, int) else a for a in arguments]
    if getattr(libc, name)(*words) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
