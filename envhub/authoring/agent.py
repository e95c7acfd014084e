"""Sandboxes for agent code, as an environment uses them.

Agent code never runs in the environment's process, nor in one forked from it: what is asked
for here is forked from a runner zygote that has never held anything hidden. The hub brokers
it over a second socket of the session and hands over one end of a new one. Blocking calls.
"""

from __future__ import annotations

import itertools
import json
import socket
import threading
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec

from envhub.errors import AgentSandboxFailed, RemoteProtocolError
from envhub.runner.channel import Channel
from envhub.wire import plain
from envhub.wire.messages import (
    BROKER_REPLIES,
    MAX_BROKER_BYTES,
    AgentEnded,
    AgentOpened,
    AgentRefused,
    KillAgent,
    OpenAgent,
    decode,
    encode,
)
from envhub.wire.plain import NotPlain

OPEN_TIMEOUT_S = 20.0  # the runner zygote may have to be started first
_VERDICT_S = 5.0  # between the end of a sandbox and the hub's word on it; milliseconds
_GRACE_S = 15.0  # for the keeper to kill, reap and say what it saw, after the time is over


class AgentRaised(Exception):
    """The agent's function raised.

    Args:
        type_name: the exception's class, by name.
        message: its text.
    """

    def __init__(self, type_name: str, message: str) -> None:
        super().__init__(f"{type_name}: {message}")
        self.type_name = type_name
        self.message = message


class _MemoryUsedUp(Exception):
    """The agent's sandbox was killed: all of it together used too much memory."""


class AgentStopped(Exception):
    """The agent's process ended, was too slow, or printed too much, before it answered."""


@dataclass(frozen=True, slots=True)
class Ran:
    """How executing a piece of agent code went.

    Args:
        stdout: what it printed; bytes that are not UTF-8 are replaced.
        stderr: the same, tracebacks included.
        exit_code: 0, or 1 after an exception, or the process's own; negative for a signal;
            None when it was cut short.
        cut: what cut it short: "timeout", "output", "memory", "killed"; or None.
        alive: False when the interpreter's process ended, in this run or since the last one,
            and then `code` was not executed. The next run starts a new one on the same files;
            where all of the sandbox together had used too much memory, on none, for files are
            memory.
    """

    stdout: str
    stderr: str
    exit_code: Annotated[int, msgspec.Meta(ge=-64, le=255)] | None
    cut: Literal["timeout", "output", "memory", "killed"] | None
    alive: bool


class _RanReply(msgspec.Struct, forbid_unknown_fields=True):
    """What a keeper answers to a run."""

    ran: Ran


class _Broker:
    """The session's second socket. One question at a time.

    Made before the fork, and a socket only when it is needed: until then an idle session has
    written nothing for it.
    """

    def __init__(self) -> None:
        self.descriptor = -1
        self._hub: socket.socket | None = None
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self.ended: dict[int, AgentEnded] = {}

    def open(self) -> tuple[int, socket.socket]:
        with self._lock:
            number = next(self._numbers)
            if self._hub is None:
                self._hub = socket.socket(fileno=self.descriptor)
                self._hub.settimeout(OPEN_TIMEOUT_S)
            try:
                self._hub.send(encode(OpenAgent(number)))
                return number, _opened(self._hub, number, self.ended)
            except TimeoutError:
                raise AgentSandboxFailed(
                    f"no sandbox for agent code within {OPEN_TIMEOUT_S:g} s"
                ) from None
            except OSError as error:
                raise AgentSandboxFailed(f"the hub is gone: {error}") from None

    def kill(self, number: int) -> None:
        with self._lock:
            if self._hub is None:
                return
            try:
                self._hub.send(encode(KillAgent(number)))
            except OSError:
                pass  # the hub is gone, and so will everything be

    def why_ended(self, number: int) -> str:
        """Return the verdict on a sandbox that has hung up; "" if the hub does not say it."""
        with self._lock:
            if self._hub is None:
                return ""
            try:
                self._hub.settimeout(_VERDICT_S)
                while number not in self.ended:
                    data = self._hub.recv(MAX_BROKER_BYTES)
                    if not data:
                        return ""
                    note = decode(BROKER_REPLIES, data)
                    if isinstance(note, AgentEnded):
                        self.ended[note.agent] = note
                return self.ended[number].cause
            except OSError:
                return ""
            finally:
                self._hub.settimeout(OPEN_TIMEOUT_S)


def _opened(hub: socket.socket, number: int, ended: dict[int, AgentEnded]) -> socket.socket:
    """Wait for the answer to one question; note what else the hub says."""
    while True:
        data, descriptors, _, _ = socket.recv_fds(hub, MAX_BROKER_BYTES, 1)
        if not data:
            raise AgentSandboxFailed("the hub is gone")
        match decode(BROKER_REPLIES, data):
            case AgentOpened(agent=agent):
                if not descriptors:  # the kernel drops one that does not fit any more
                    raise AgentSandboxFailed("this process has no descriptor left")
                opened = socket.socket(fileno=descriptors[0])
                if agent == number:
                    return opened
                opened.close()  # of a question that timed out
            case AgentRefused(agent=agent, message=message) if agent == number:
                raise AgentSandboxFailed(message)
            case AgentEnded(agent=agent) as note:
                ended[agent] = note
            case _:
                pass


_broker = _Broker()


def connect(descriptor: int) -> None:
    """Tell this process where to ask. Called once by the worker, before the environment."""
    _broker.descriptor = descriptor


class AgentSandbox:
    """One sandbox with a Python interpreter in it, for code that an agent wrote.

    Its files (below /workspace, where it starts) and its interpreter's names last until it
    is closed. It has no network, and sees nothing of the environment.

    Use `AgentSandbox.open()`; it is a context manager.
    """

    def __init__(self, number: int, keeper: socket.socket) -> None:
        self._number = number
        self._channel = Channel(keeper)
        self._open = True
        self._used_up = False

    @classmethod
    def open(cls) -> AgentSandbox:
        """Return a new sandbox, isolated and ready.

        Raises:
            AgentSandboxFailed: it could not be had: the manifest does not say
                `agent_code = true`, the session has too many, or a layer failed.
        """
        if _broker.descriptor < 0:
            raise AgentSandboxFailed(
                "no sandboxes for agent code here",
                hint="put `agent_code = true` into env.toml, and run inside envhub",
            )
        number, keeper = _broker.open()
        keeper.settimeout(OPEN_TIMEOUT_S)
        sandbox = cls(number, keeper)
        try:
            hello = sandbox._channel.receive()
        except (OSError, RemoteProtocolError) as error:
            sandbox.close()
            raise AgentSandboxFailed(f"the agent's sandbox did not start: {error}") from None
        if hello is None or "layers" not in hello:
            sandbox.close()
            raise AgentSandboxFailed(f"the agent's sandbox did not start: {_why(hello)}")
        return sandbox

    def run(self, code: str, *, stdin: str = "", timeout_s: float = 10.0) -> Ran:
        """Execute `code` where earlier runs left off, and say how it went.

        Args:
            code: Python source.
            stdin: what it reads from standard input.
            timeout_s: wall clock; past it everything in the sandbox is killed.

        Raises:
            AgentSandboxFailed: the sandbox itself is gone.
        """
        try:
            reply = self._ask({"run": code, "stdin": stdin, "timeout_s": timeout_s}, timeout_s)
        except _MemoryUsedUp:
            return Ran("", "", None, "memory", alive=False)
        try:
            return msgspec.convert(reply, _RanReply, strict=True).ran
        except msgspec.ValidationError as error:
            self.close()
            raise AgentSandboxFailed(f"the keeper broke the protocol: {error}") from None

    def call(self, function: str, *args: Any, timeout_s: float = 10.0, **kwargs: Any) -> Any:
        """Call a function that an earlier run defined; plain literals in and out.

        Raises:
            AgentRaised: the function raised.
            AgentStopped: its process ended or was killed before it answered.
            NotPlain: an argument or the result is not a plain literal.
            AgentSandboxFailed: the sandbox itself is gone.
        """
        arguments = {"args": plain.to_json(list(args)), "kwargs": plain.to_json(kwargs)}
        request = {"call": function, **arguments, "timeout_s": timeout_s}
        try:
            reply = self._ask(request, timeout_s)
        except _MemoryUsedUp:
            raise AgentStopped("memory") from None
        match reply:
            case {"value": str(value)}:
                try:
                    return plain.from_json(json.loads(value))
                except NotPlain:
                    raise
                except (ValueError, RecursionError, MemoryError) as error:
                    raise NotPlain(f"not a value: {error}") from None
            case {"raised": [str(type_name), str(message)]}:
                raise AgentRaised(type_name, message)
            case {"unfit": str(message)}:
                raise NotPlain(message)
            case {"stopped": str(why)}:
                raise AgentStopped(why)
            case _:
                raise NotPlain("the reply is none")

    def close(self) -> None:
        """Kill everything in the sandbox. Idempotent."""
        self._used_up = False
        if self._open:
            self._open = False
            self._channel.socket.close()
            _broker.kill(self._number)

    def __enter__(self) -> AgentSandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _replace(self) -> None:
        """Go on in an empty sandbox: agent code must not be able to end an episode so."""
        fresh = AgentSandbox.open()
        self._number, self._channel = fresh._number, fresh._channel
        self._open, self._used_up = True, False

    def _ask(self, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        if self._used_up:
            self._replace()
        if not self._open:
            raise AgentSandboxFailed("the agent's sandbox is closed")
        try:
            self._channel.socket.settimeout(timeout_s + _GRACE_S)
            self._channel.send(request)
            reply = self._channel.receive()
        except (OSError, RemoteProtocolError) as error:
            self.close()
            raise AgentSandboxFailed(f"the agent's sandbox is gone: {error}") from None
        if reply is None:
            cause = _broker.why_ended(self._number)
            self.close()
            self._used_up = cause == "memory_limit"
            if self._used_up:
                raise _MemoryUsedUp
            raise AgentSandboxFailed(f"the agent's sandbox ended: {cause or 'nobody says why'}")
        return reply


def _why(hello: dict[str, Any] | None) -> str:
    return json.dumps(hello)[:500] if hello else "it ended at once"


__all__ = ["AgentRaised", "AgentSandbox", "AgentStopped", "NotPlain", "Ran"]
