"""The real thing, once: a sandbox of one grade, a session in it, and canaries in that."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from . import launcher as launching
from . import shown
from .canaries import Bait
from .errors import LaunchFailed, LayerFailed, SandboxError
from .launcher import Launched, Launcher
from .policy import Bind, View, joined
from .receipt import Receipt, confirm, pid_of
from .tiers import Grade

_START_S = 20.0
_END_S = 2.0
_ZYGOTE = """
import sys, socket
sys.path.insert(0, sys.argv[2] + "/opt/envhub")
from envhub_sandbox import canaries, tiers, zygote
from envhub_sandbox.policy import Limits
zygote.run(socket.socket(fileno=int(sys.argv[1])), tiers.take_ground(), prepare=dict,
           begin=canaries.begin, limits=Limits())
"""
_VARIABLE = "ENVHUB_CANARY"


@dataclass(frozen=True, slots=True)
class Trial:
    """How one grade of isolation did behind one launcher.

    Args:
        grade: which.
        launcher: who built the sandbox.
        works: a session was isolated, and the kernel shows what it must.
        detail: how that went, or why it did not.
        hint: what its error said about a fix.
        stopped: for each canary what stopped it, "" where nothing did.
    """

    grade: Grade
    launcher: Launcher
    works: bool
    detail: str
    hint: str = ""
    stopped: dict[str, str] | None = None

    @property
    def escaped(self) -> tuple[str, ...]:
        """Canaries that nothing stopped."""
        return tuple(name for name, why in (self.stopped or {}).items() if not why)


def attempt(grade: Grade, launcher: Launcher, bait: Bait) -> Trial:
    """Build a sandbox, fork a session, confirm its receipt, and let the canaries try."""
    trial = Trial(grade, launcher, works=False, detail="")
    started = time.monotonic()
    try:
        with _launched(grade, launcher) as launched:
            stopped = _fly(launched, bait)
    except (SandboxError, OSError) as error:
        hint = error.hint if isinstance(error, SandboxError) else ""
        return replace(trial, detail=str(error) or "it said nothing", hint=hint)
    took_ms = (time.monotonic() - started) * 1000
    detail = f"a session was isolated; all of it took {took_ms:.0f} ms"
    return replace(trial, works=True, detail=detail, stopped=stopped)


@contextmanager
def baited() -> Iterator[Bait]:
    """Lay out what canaries try to reach: files, a port, a socket, a process."""
    secret = os.urandom(16).hex()
    with tempfile.TemporaryDirectory(prefix="envhub-") as folder:
        file, shared = f"{folder}/bait", f"/dev/shm/envhub-{secret}"  # noqa: S108
        with (
            socket.create_server(("127.0.0.1", 0)) as port,
            socket.socket(socket.AF_UNIX) as named,
        ):
            abstract = f"\0envhub-{secret}"
            named.bind(abstract)
            named.listen()
            variables = {**os.environ, _VARIABLE: secret}
            process = _sleeper(variables)
            try:
                for path in (file, shared):
                    with open(path, "w") as bait:
                        bait.write(secret)
                yield {
                    "secret": secret,
                    "file": file,
                    "shared": shared,
                    "variable": _VARIABLE,
                    "port": port.getsockname()[1],
                    "abstract": abstract,
                    "pid": process.pid if process is not None else os.getpid(),
                }
            finally:
                if process is not None:
                    process.kill()
                    process.wait()
                if os.path.exists(shared):
                    os.unlink(shared)


def _sleeper(variables: dict[str, str]) -> subprocess.Popen[bytes] | None:
    try:
        return subprocess.Popen(["/bin/sleep", "600"], env=variables)
    except OSError:
        return None  # no more processes: then no canary flies either


@contextmanager
def _launched(grade: Grade, launcher: Launcher) -> Iterator[Launched]:
    here = Bind(os.path.dirname(os.path.abspath(__file__)), "/opt/envhub/envhub_sandbox")
    own = View((here,), environment=(("PATH", "/usr/bin:/bin"),))
    view = joined(shown.system(), shown.interpreter(packages=False), own)
    command = [shown.program(), "-I", "-S", "-B", "-c", _ZYGOTE, "{control}", "{root}"]
    launched = launching.launch(view, command, launcher, grade)
    try:
        launched.control.settimeout(_START_S)
        for word in ("nests", "ready"):
            _expect(launched, word)
        yield launched
    finally:
        _hang_up(launched)


def _hang_up(launched: Launched) -> None:
    """Let it end by itself first: killed, a launcher leaves its child to the machine's init.

    Which may be we, as process 1 of a container.
    """
    launched.control.close()
    try:
        launched.process.wait(_END_S)
    except subprocess.TimeoutExpired:
        pass
    launched.kill()


def _fly(launched: Launched, bait: Bait) -> dict[str, str]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(_START_S)
        handed = [theirs.fileno()]
        socket.send_fds(launched.control, [b"1"], handed)
        pidfd = _expect(launched, "forked")
        try:
            theirs.close()
            with ours.makefile("rb") as words:
                layers = _hello(words.read)
                grade = launched.grade
                told = Receipt(grade.tier, "", layers, missing=grade.missing)
                confirm(told, pid_of(pidfd))
                ours.sendall(json.dumps(bait).encode() + b"\n")
                said = words.readline()
        finally:
            os.close(pidfd)
    if not said:
        raise LaunchFailed("the session ended before it had tried anything")
    stopped: dict[str, str] = json.loads(said)
    return stopped


def _expect(launched: Launched, word: str) -> int:
    """Read what the zygote says next; return the descriptor that came with it, or -1."""
    data, handed, _, _ = socket.recv_fds(launched.control, 64 * 1024, 1)
    said: dict[str, Any] = json.loads(data) if data else {}
    if word in said:
        return handed[0] if handed else -1
    failed = said.get("failed", {})
    if "layer" in failed:
        hint = failed.get("hint", "")
        raise LayerFailed(failed["layer"], failed["what"], failed["errno"] or 0, hint=hint)
    os.set_blocking(launched.output, False)
    try:
        printed = os.read(launched.output, 4096).decode(errors="replace").strip()
    except BlockingIOError:
        printed = ""
    raise LaunchFailed(printed.splitlines()[-1] if printed else "it ended at once")


def _hello(read: Any) -> tuple[str, ...]:
    (length,) = struct.unpack(">I", read(4))
    said = json.loads(read(length))
    if "failed" in said:
        layer, what, number = said["failed"]
        raise LayerFailed(layer, what, number)
    return tuple(said["layers"])
