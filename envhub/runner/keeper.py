"""The keeper: pid 1 of an agent's sandbox. It runs code in an interpreter, and outlives it.

It holds the sandbox's files and namespaces, so that a new interpreter starts on the same
files when the last one ended. It measures from outside what agent code cannot be asked
about: whether it ended, how, how much it printed, and whether it was in time. From inside
its own pid namespace it cannot be killed, and `kill(-1)` from here kills everything else,
a fork bomb and daemons included, in one call.

It answers, one at a time:

    {"run": code, "stdin": text, "timeout_s": x}   → {"ran": {stdout, stderr, exit_code, …}}
    {"call": name, "args": …, "kwargs": …, "timeout_s": x}
                        → {"value": …} | {"raised": [type, text]} | {"stopped": why} |
                          {"unfit": text}
"""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from typing import Any

from envhub.errors import LocalProtocolError, RemoteProtocolError
from envhub.runner import interpreter
from envhub.runner.channel import Channel
from envhub_sandbox import syscalls

OUTPUT_BYTES = 1024 * 1024  # of each stream in one run; past it, the interpreter is killed
_READ_BYTES = 64 * 1024
_REAP_S = 10.0  # for a bomb of 64 processes to be gone; takes milliseconds


def keep(environment: socket.socket) -> None:
    """Serve the environment until it hangs up."""
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)  # or its children could read /proc/1/mem
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    channel = Channel(environment)
    running = _Interpreter()
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
    except LocalProtocolError:  # longer than what it wrote, by its escapes
        channel.send({"stopped": "its answer is no value"})


class _Interpreter:
    """One process that executes agent code, and the three ends that lead to it."""

    def __init__(self) -> None:
        self._status: int | None = None
        self._start()

    def run(self, request: dict[str, Any]) -> dict[str, Any]:
        """Execute code and say how it went, whatever it did."""
        seen = self._ask(request)
        said = seen.reply or {}
        ran = {
            "stdout": seen.text(self._stdout),
            "stderr": seen.text(self._stderr),
            "exit_code": said.get("exit_code", seen.exit_code),
            "cut": seen.cut or said.get("cut"),
            "alive": not seen.ended,
        }
        if ran["exit_code"] not in (None, *range(-64, 256)) or ran["cut"] not in (
            None, "memory", *_CUTS,
        ):  # fmt: skip
            ran |= {"exit_code": None, "cut": "killed"}  # it wrote its own reply
        return ran

    def call(self, request: dict[str, Any]) -> dict[str, Any]:
        """Call a function that an earlier run defined."""
        seen = self._ask(request)
        if seen.reply is None:
            return {"stopped": seen.cut or f"it ended with code {seen.exit_code}"}
        match seen.reply:
            case {"value": str()} | {"unfit": str()} | {"raised": [str(), str()]}:
                if len(seen.reply) == 1:
                    return seen.reply
        return {"stopped": "it wrote its own reply"}

    def kill(self) -> None:
        """Kill everything in the sandbox but the keeper, and reap it."""
        if os.getpid() == 1:
            _kill_all_others()
        else:  # isolation `none`: no namespace of our own, so only the group
            _kill_group(self._pid)
        self._reap()

    def _ask(self, request: dict[str, Any]) -> _Seen:
        if self._ended():
            self._restart()
        seen = _Seen()
        try:
            self._channel.socket.settimeout(float(request["timeout_s"]))
            self._channel.send(request)
        except OSError:  # it closed its end, or does not read
            seen.cut = "killed"
        else:
            self._watch(seen, float(request["timeout_s"]))
        if seen.reply is None:
            self._end(seen)
        self._drain(seen)
        if seen.ended:
            self._restart()
        return seen

    def _watch(self, seen: _Seen, timeout_s: float) -> None:
        """Collect output until there is a reply, an end, or a reason to end it."""
        deadline = time.monotonic() + timeout_s
        poll = select.poll()
        for descriptor in (self._channel.socket.fileno(), self._stdout, self._stderr):
            poll.register(descriptor, select.POLLIN)
        while seen.reply is None and seen.cut is None:
            left = deadline - time.monotonic()
            ready = dict(poll.poll(max(left, 0) * 1000))
            if not ready:
                seen.cut = "timeout"
            for descriptor in (self._stdout, self._stderr):
                if descriptor in ready and not seen.read(descriptor):
                    poll.unregister(descriptor)
            if self._channel.socket.fileno() in ready and not self._hear(seen):
                return

    def _hear(self, seen: _Seen) -> bool:
        """Read from the interpreter; False when it hung up."""
        try:
            if not self._channel.fill():
                return False
            seen.reply = self._channel.next_message()
        except (RemoteProtocolError, TimeoutError):
            seen.cut = "killed"
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
        """Read what is left in the pipes; nothing waits here."""
        for descriptor in (self._stdout, self._stderr):
            while seen.cut != "output" and seen.read(descriptor, wait=False):
                pass

    def _restart(self) -> None:
        self._channel.socket.close()
        os.close(self._stdout)
        os.close(self._stderr)
        self._start()

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        self._stdout, stdout = os.pipe2(os.O_CLOEXEC)
        self._stderr, stderr = os.pipe2(os.O_CLOEXEC)
        self._pid = os.fork()
        if self._pid == 0:
            interpreter.become(theirs, stdout, stderr)
        for descriptor in (stdout, stderr):
            os.close(descriptor)
        theirs.close()
        for descriptor in (self._stdout, self._stderr):
            os.set_blocking(descriptor, False)
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


_CUTS = ("timeout", "output", "killed")
_LAST_WORDS_S = 1.0  # between closing its channel and being a zombie


class _Seen:
    """What was seen of the interpreter during one request."""

    def __init__(self) -> None:
        self.reply: dict[str, Any] | None = None
        self.cut: str | None = None
        self.ended = False
        self.exit_code: int | None = None
        self._output: dict[int, bytearray] = {}

    def read(self, descriptor: int, *, wait: bool = True) -> bool:
        """Read a stream once; False at its end, or when nothing is there now."""
        try:
            data = os.read(descriptor, _READ_BYTES)
        except BlockingIOError:
            return wait
        kept = self._output.setdefault(descriptor, bytearray())
        kept += data
        if len(kept) > OUTPUT_BYTES:
            del kept[OUTPUT_BYTES:]
            self.cut = "output"
        return bool(data)

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
