"""envhub_sandbox used alone: an owner of one zygote, in blocking calls and nothing else.

No envhub in here: what the package promises it must keep without a hub.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import envhub_sandbox
from envhub_sandbox import (
    Bind,
    Grade,
    Launched,
    Launcher,
    LaunchFailed,
    LayerFailed,
    Limits,
    OwnReason,
    Verdict,
    View,
    judge,
    pid_of,
)
from envhub_sandbox import launcher as launching
from envhub_sandbox.tiers import STRICT
from tests.sandbox.left_out import by_owner as left_out_by_owner
from tests.sandbox.left_out import inside as left_out_inside
from tests.sandbox.left_out import outside as left_out_outside

DEADLINE_S = 30.0  # of every wait; only a failing test meets it
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "HOME": "/workspace", "LANG": "C.UTF-8"}
INSIDE = Path(__file__).parent / "inside.py"
MIB = 1024 * 1024
# small enough that passing each of them takes milliseconds
SMALL = Limits(
    memory_bytes=256 * MIB,
    address_bytes=1024 * MIB,
    processes=16,
    open_files=64,
    file_bytes=MIB,
    disk_bytes=4 * MIB,
    disk_files=64,
)


def view(*extra: Bind, packages: bool = False) -> View:
    """What the zygote of these tests sees."""
    package = Bind(envhub_sandbox.__path__[0], "/opt/envhub_sandbox")
    own = View(
        (package, Bind(str(INSIDE), "/opt/inside.py"), *extra),
        environment=tuple(ENVIRONMENT.items()),
    )
    python = envhub_sandbox.interpreter(packages=packages)
    return envhub_sandbox.joined(envhub_sandbox.system(), python, own)


@dataclass(frozen=True)
class Ended:
    """How a session ended, and what it had printed."""

    verdict: Verdict
    printed: str

    @property
    def worked(self) -> bool:
        return self.verdict.cause == "exited" and self.verdict.detail == 0

    def __str__(self) -> str:
        return f"{self.printed}{self.verdict}"


class RefusedError(Exception):
    """The zygote could not fork; the text is its own."""


class Zygote:
    """A sandbox with a zygote in it. A context manager; the end of it ends everything.

    Args:
        launcher: who builds the outer sandbox.
        grade: how well it isolates.
        limits: of each session.
        extra: more binds.
        packages: show what is installed for this Python, too.
        first: code that runs in the zygote before all else.
        prepare: code that runs where an environment would be imported.
        left_out: layers to build without, for a control; see `left_out.py`.
        wait_ready: False returns at once.

    Raises:
        LayerFailed: a layer could not be built.
        LaunchFailed: it ended without a word on why.
    """

    def __init__(
        self,
        launcher: Launcher,
        *,
        grade: Grade = STRICT,
        limits: Limits = SMALL,
        extra: tuple[Bind, ...] = (),
        packages: bool = False,
        first: str = "",
        prepare: str = "",
        left_out: tuple[str, ...] = (),
        wait_ready: bool = True,
    ) -> None:
        spec = {
            "limits": limits.as_dict(),
            "first": f"{left_out_inside(left_out)}\n{first}",
            "prepare": prepare,
        }
        bare = [envhub_sandbox.program(), "-I", "-S", "-B"]
        python = [sys.executable, "-I", "-B"] if packages else bare
        command = [*python, "{root}/opt/inside.py", json.dumps(spec), "{control}"]
        shown = view(*extra, packages=packages)
        self.limits = limits
        with booted_with(left_out_outside(left_out)), left_out_by_owner(left_out):
            self.launched: Launched = envhub_sandbox.launch(shown, command, launcher, grade)
        self.launched.control.settimeout(DEADLINE_S)
        self._ended: dict[int, dict[str, Any]] = {}
        self._sessions: list[Session] = []
        self._count = 0
        try:
            if wait_ready:
                self._expect("nests")
                self._expect("ready")
        except BaseException:
            self.close()
            raise

    def session(self, code: str = "", **given: Any) -> Session:
        """Return a session that executes `code`, with `given` under that name."""
        self._count += 1
        ours, theirs = socket.socketpair()
        read, write = os.pipe2(os.O_CLOEXEC)
        os.fchown(write, self.launched.uid, self.launched.uid)
        packet = b"%d" % self._count
        handed = [theirs.fileno(), write]
        socket.send_fds(self.launched.control, [packet], handed)
        theirs.close()
        os.close(write)
        try:
            pidfd = self._expect_forked()
        except BaseException:
            ours.close()
            os.close(read)
            raise
        session = Session(self, self._count, pidfd, ours, read)
        self._sessions.append(session)
        session.begin(code, given)
        return session

    def run(self, code: str, **given: Any) -> Ended:
        """Execute `code` in a session of its own, to its end."""
        with self.session(code, **given) as session:
            return session.wait()

    def packet(self) -> tuple[dict[str, Any], list[int]]:
        """Return what the zygote says next."""
        data, descriptors, _, _ = socket.recv_fds(self.launched.control, 64 * 1024, 1)
        if not data:
            raise LaunchFailed("the zygote hung up", stderr=self.output())
        said: dict[str, Any] = json.loads(data)
        if "failed" in said:
            failed = said["failed"]
            if "layer" in failed:
                layer, what, number = failed["layer"], failed["what"], failed["errno"]
                raise LayerFailed(layer, what, number or 0, hint=failed.get("hint", ""))
            raise LaunchFailed(failed["message"], stderr=failed["traceback"])
        return said, descriptors

    def output(self) -> str:
        """What the zygote itself has printed since the last time."""
        found = b""
        while select.select([self.launched.output], [], [], 0)[0]:
            data = os.read(self.launched.output, 65536)
            found += data
            if not data:
                break
        return found.decode(errors="replace")

    def wait_ended(self, number: int) -> dict[str, Any]:
        """Wait for the zygote's word on the end of a session."""
        while number not in self._ended:
            said, _ = self.packet()
            self._ended[said["ended"]] = said
        return self._ended[number]

    def close(self) -> None:
        """End everything."""
        for session in self._sessions:
            session.close()
        self.launched.kill()

    def __enter__(self) -> Zygote:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _expect(self, key: str) -> None:
        said, _ = self.packet()
        assert key in said, said

    def _expect_forked(self) -> int:
        while True:
            said, descriptors = self.packet()
            if "ended" in said:
                self._ended[said["ended"]] = said
                continue
            if "refused" in said:
                raise RefusedError(said["why"])
            assert "forked" in said, said
            return descriptors[0]


class Session:
    """One forked, isolated process that executes code."""

    def __init__(
        self, zygote: Zygote, number: int, pidfd: int, channel: socket.socket, output: int
    ) -> None:
        self.zygote = zygote
        self.number = number
        self.pidfd = pidfd
        self.channel = channel
        self.channel.settimeout(DEADLINE_S)
        self.output = output
        self.pid = pid_of(pidfd)
        self.layers: tuple[str, ...] = ()
        self.failed: list[Any] = []
        self._words = channel.makefile("rwb")
        self._killed_for: OwnReason | None = None

    def begin(self, code: str, given: dict[str, Any]) -> None:
        """Read the first frame; then send the code, if isolation went well."""
        (length,) = struct.unpack(">I", self._words.read(4))
        hello = json.loads(self._words.read(length))
        self.failed = hello.get("failed", [])
        self.layers = tuple(hello.get("layers", ()))
        if self.layers:
            self.say({"code": code, "given": given})

    def say(self, word: object) -> None:
        self._words.write(json.dumps(word).encode() + b"\n")
        self._words.flush()

    def hear(self) -> Any:
        """Return what the session says next; "" when it has hung up."""
        return json.loads(self._words.readline() or b'""')

    def kill(self, reason: OwnReason = "closed") -> None:
        self._killed_for = reason
        self._end()

    def wait(self) -> Ended:
        """Wait for the end, reading what it prints."""
        printed = bytearray()
        deadline = time.monotonic() + DEADLINE_S
        poll = select.poll()
        poll.register(self.output, select.POLLIN)
        while poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            if not (data := os.read(self.output, 65536)):
                break
            printed += data
        said = self.zygote.wait_ended(self.number)
        verdict = judge(
            said["status"],
            killed_for=self._killed_for,
            cpu_s=said["cpu_s"],
            peak_bytes=said["peak_bytes"],
            cpu_limit_s=self.zygote.limits.cpu_s,
        )
        return Ended(verdict, printed.decode(errors="replace"))

    def _end(self) -> None:
        executioner = self.zygote.launched.grade.fenced
        signal.pidfd_send_signal(self.pidfd, signal.SIGTERM if executioner else signal.SIGKILL)

    def is_gone(self) -> bool:
        """Whether the process has ended."""
        return bool(select.select([self.pidfd], [], [], 0)[0])

    def close(self) -> None:
        """Kill it, if it still runs, and give the descriptors back. Idempotent."""
        if self.pidfd < 0:
            return
        try:
            self._end()
        except ProcessLookupError:
            pass  # it has ended by itself
        self._words.close()
        self.channel.close()
        os.close(self.pidfd)
        os.close(self.output)
        self.pidfd = -1

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


@contextmanager
def booted_with(code: str) -> Iterator[None]:
    """Have the process that becomes the launcher run `code` first."""
    original = launching._BOOT
    launching._BOOT = original.replace("stage.main(", f"exec({code!r}, {{}}); stage.main(")
    try:
        yield
    finally:
        launching._BOOT = original


def launchers() -> list[Launcher]:
    """Those that this machine has."""
    installed = envhub_sandbox.bubblewrap() is not None
    return ["bubblewrap", "built-in"] if installed else ["built-in"]
