"""The keeper: the first process of an agent's sandbox, outliving what runs the code there.

It holds the sandbox's files and namespaces, so that a new interpreter starts on the same
files when the last one ended. It measures from outside what agent code cannot be asked
about: whether it ended, how, how much it printed, and whether it was in time. From inside
its own pid namespace, or from a Landlock domain below its own, it cannot be killed, and
`kill(-1)` from here kills everything else, a fork bomb and daemons included, in one call.

It answers, one at a time:

    {"run": code, "stdin": text, "timeout_s": x}   → {"ran": {stdout, stderr, exit_code, …}}
    {"call": name, "args": …, "kwargs": …, "timeout_s": x}
                        → {"value": …} | {"raised": [type, text]} | {"stopped": why} |
                          {"unfit": text}
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import sys
import termios
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from envhub.errors import LocalProtocolError, RemoteProtocolError
from envhub.runner import interpreter
from envhub.runner.channel import Channel
from envhub_sandbox import executioner, fenced, seccomp, syscalls
from envhub_sandbox.plan import Plan
from envhub_sandbox.tiers import Grade

OUTPUT_BYTES = 1024 * 1024  # of each stream in one run; past it, the interpreter is killed
_READ_BYTES = 64 * 1024
_REAP_S = 10.0  # for a bomb of 64 processes to be gone; takes milliseconds


@dataclass(frozen=True, slots=True)
class Walls:
    """What stands between the keeper and agent code, made before a fork.

    Args:
        guard: keeps agent code from what it could do to process 1 as the same user.
        wall: what the interpreter does last, where there is no pid namespace.
        kills_all: everybody that `kill(-1)` reaches is of this sandbox.
    """

    guard: syscalls.Filter | None = None
    wall: Plan | None = None
    kills_all: bool = False


def walls(grade: Grade) -> Walls:
    """Return the walls of one tier."""
    if grade.namespaces:
        return Walls(guard=seccomp.keeper_filter(), kills_all=True)
    if grade.fenced:
        return Walls(wall=fenced.signal_wall(interpreter.FIRST_FREE), kills_all=True)
    return Walls()


def keep(environment: socket.socket, walls: Walls) -> None:
    """Serve the environment until it hangs up.

    Args:
        environment: stream socket to it.
        walls: between this process and agent code.
    """
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)  # or its children could read /proc/1/mem
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    # from inside, pid 1 gets only signals that it handles, and Python handles this one
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if walls.wall is not None:
        executioner.adopt_orphans()  # process 1 of a namespace need not ask
    if walls.guard is not None:
        walls.guard.install()
    channel = Channel(environment)
    running = _Interpreter(walls)
    try:
        while (request := channel.receive()) is not None:
            if "run" in request:
                channel.send({"ran": running.run(request)})
            else:
                _answer(channel, running.call(request))
    except (RemoteProtocolError, OSError):
        pass  # the environment is gone, or mad; either way nobody listens
    running.kill()


def _answer(channel: Channel, reply: dict[str, Any]) -> None:
    try:
        channel.send(reply)
    except (LocalProtocolError, MemoryError):  # longer than what it wrote, by its escapes
        channel.send({"stopped": "its answer is no value"})


class _Interpreter:
    """One process that executes agent code, and the three ends that lead to it."""

    def __init__(self, walls: Walls) -> None:
        self._walls = walls
        self._status: int | None = None
        self._start()

    def run(self, request: dict[str, Any]) -> dict[str, Any]:
        """Execute code and say how it went, whatever it did."""
        seen = self._ask(request, _fits_run)
        said = seen.reply or {"exit_code": seen.exit_code, "cut": seen.cut}
        return {
            "stdout": seen.text(self._stdout),
            "stderr": seen.text(self._stderr),
            "exit_code": said["exit_code"],
            "cut": said["cut"],
            "alive": not seen.ended,
        }

    def call(self, request: dict[str, Any]) -> dict[str, Any]:
        """Call a function that an earlier run defined."""
        seen = self._ask(request, _fits_call)
        if seen.reply is None:
            return {"stopped": seen.cut or f"it ended with code {seen.exit_code}"}
        return seen.reply

    def kill(self) -> None:
        """Kill everything in the sandbox but the keeper, and reap it."""
        if self._walls.kills_all:
            _kill_all_others()
        else:  # isolation `none`: no namespace of our own, so only the group
            _kill_group(self._pid)
        self._reap()

    def _ask(self, request: dict[str, Any], fits: Fits) -> _Seen:
        seen = _Seen()
        if self._ended() or self._channel.has_hung_up():
            # between two requests: its names are lost, and nobody was told; so this one is not
            # carried out where they are missing, but told
            self._end(seen)
            self._drain(seen)
            self._restart()
            return seen
        if self._channel.is_readable():
            self.kill()  # it spoke without being asked
            self._restart()
        timeout_s = float(request["timeout_s"])
        deadline = time.monotonic() + timeout_s
        try:
            self._channel.socket.settimeout(timeout_s)
            self._channel.send(request)
        except OSError:  # it closed its end, or does not read
            seen.cut = "killed"
        else:
            self._watch(seen, deadline, fits)
        if seen.reply is None:
            self._end(seen)
        self._drain(seen)
        if seen.cut is not None and not seen.ended:  # it had answered, and printed too much
            seen.reply = None
            self._end(seen)
        if seen.ended:
            self._restart()
        return seen

    def _watch(self, seen: _Seen, deadline: float, fits: Fits) -> None:
        """Collect output until there is a reply, an end, or a reason to end it."""
        poll = select.poll()
        channel = self._channel.socket.fileno()
        for descriptor in (channel, self._stdout, self._stderr, self._pidfd):
            poll.register(descriptor, select.POLLIN)
        while seen.reply is None and seen.cut is None:
            left = deadline - time.monotonic()
            ready = dict(poll.poll(max(left, 0) * 1000))
            if left <= 0:  # even if there is more: a steady trickle would go on for ever
                seen.cut = "timeout"
                return
            for descriptor in (self._stdout, self._stderr):
                if descriptor in ready and not seen.read(descriptor):
                    poll.unregister(descriptor)
            if channel in ready and not self._hear(seen, fits):
                return
            # a child of it may still hold the channel, so its end is not all there is to see
            if self._pidfd in ready and channel not in ready:
                return

    def _hear(self, seen: _Seen, fits: Fits) -> bool:
        """Read from the interpreter; False when it hung up."""
        try:
            if not self._channel.fill():
                return False
            reply = self._channel.next_message()
        except (RemoteProtocolError, TimeoutError, MemoryError):
            seen.cut = "killed"
            return True
        if reply is not None and fits(reply):
            seen.reply = reply
        elif reply is not None:
            seen.cut = "killed"  # it wrote its own reply
        return True

    def _end(self, seen: _Seen) -> None:
        """Note how the process ended; kill it first if it still runs."""
        seen.ended = True
        ended = self._wait(0.0 if seen.cut else _LAST_WORDS_S)
        if not ended and seen.cut is None:
            seen.cut = "killed"  # it closed its channel and ran on
        self.kill()
        assert self._status is not None
        code = os.waitstatus_to_exitcode(self._status)
        seen.exit_code = code if seen.cut is None else None
        if code < 0 and seen.cut is None:
            seen.cut = "killed"  # by a signal of its own, or by the kernel
            seen.exit_code = code

    def _drain(self, seen: _Seen) -> None:
        """Read what is in the pipes now; what a daemon of its adds meanwhile can wait."""
        for descriptor in (self._stdout, self._stderr):
            waiting = fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4))
            left = int.from_bytes(waiting, sys.byteorder)
            while left > 0 and (count := seen.read(descriptor, at_most=left)):
                left -= count

    def _restart(self) -> None:
        self._channel.socket.close()
        for descriptor in (self._stdout, self._stderr, self._pidfd):
            os.close(descriptor)
        self._start()

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        self._stdout, stdout = os.pipe2(os.O_CLOEXEC)
        self._stderr, stderr = os.pipe2(os.O_CLOEXEC)
        self._pid = os.fork()
        if self._pid == 0:
            interpreter.become(theirs, stdout, stderr, self._walls.wall)
        for descriptor in (stdout, stderr):
            os.close(descriptor)
        theirs.close()
        for descriptor in (self._stdout, self._stderr):
            os.set_blocking(descriptor, False)
        self._pidfd = os.pidfd_open(self._pid)
        self._channel = Channel(ours)
        self._status = None

    def _ended(self) -> bool:
        """Whether it ended between two calls; a daemon of its may still run."""
        if not self._wait(0.0):
            return False
        self.kill()
        return True

    def _wait(self, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while self._status is None:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                self._status = status
            elif time.monotonic() >= deadline:
                return False
            else:
                time.sleep(0.001)
        return True

    def _reap(self) -> None:
        """Wait for every child that the kill reached: their processes count until reaped."""
        deadline = time.monotonic() + _REAP_S
        while time.monotonic() < deadline:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == self._pid:
                self._status = status
            if not pid:
                time.sleep(0.0005)


Fits = Callable[[dict[str, Any]], bool]
_LAST_WORDS_S = 1.0  # between closing its channel and being a zombie


def _fits_run(reply: dict[str, Any]) -> bool:
    """Whether the interpreter itself would say this: agent code can write there, too."""
    match reply:
        case {"exit_code": 0 | 1 as code, "cut": None | "memory"} if type(code) is int:
            return len(reply) == 2
    return False


def _fits_call(reply: dict[str, Any]) -> bool:
    match reply:
        case {"value": str()} | {"unfit": str()} | {"raised": [str(), str()]}:
            return len(reply) == 1
    return False


class _Seen:
    """What was seen of the interpreter during one request."""

    def __init__(self) -> None:
        self.reply: dict[str, Any] | None = None
        self.cut: str | None = None
        self.ended = False
        self.exit_code: int | None = None
        self._output: dict[int, bytearray] = {}

    def read(self, descriptor: int, *, at_most: int = _READ_BYTES) -> int:
        """Read a stream once and return how many bytes came; 0 at its end."""
        data = os.read(descriptor, at_most)
        kept = self._output.setdefault(descriptor, bytearray())
        kept += data
        if len(kept) > OUTPUT_BYTES:
            del kept[OUTPUT_BYTES:]
            self.cut = self.cut or "output"
        return len(data)

    def text(self, descriptor: int) -> str:
        """Return a stream as valid text, whatever bytes were written."""
        return self._output.get(descriptor, bytearray()).decode(errors="replace")


def _kill_all_others() -> None:
    try:
        os.kill(-1, signal.SIGKILL)
    except ProcessLookupError:
        pass  # nobody else is there


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
