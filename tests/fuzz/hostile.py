"""The hostile environment: it executes programs that are data. Copied as `env.py`.

In a session, a step carries the program and the call during which it is played. In a zygote,
`program.json` beside this file has both; it is read at import. Standard library only, but for
what it attacks: it runs in the sandbox, where the tests are not.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from envhub.worker import answer
from envhub_sandbox import zygote

_SO_PEERPIDFD = 77
_PR_SET_PDEATHSIG = 1
_PATIENCE_S = 30.0  # for room in a socket that the hub does not read
Program = list[dict[str, Any]]


class Player:
    """Executes a program.

    Args:
        descriptors: by what a program calls them: "hub", "broker", "output".
        number: of the fork that was asked for.
        really: forks honestly.
    """

    def __init__(
        self,
        descriptors: dict[str, int],
        number: int = 0,
        really: Callable[[], None] = lambda: None,
    ) -> None:
        self._descriptors = descriptors
        self._number = number
        self._really = really

    def play(self, program: Program) -> None:
        for instruction in program:
            fields = {key: value for key, value in instruction.items() if key != "do"}
            getattr(self, f"_{instruction['do']}")(**fields)

    def _send(self, *, pause_s: float = 0.0, chop: int = 0, **what: Any) -> None:
        data = memoryview(self._data(**what))
        target = self._descriptors[what.get("to", "hub")]
        while data:
            part = data[:chop] if chop else data
            try:
                data = data[os.write(target, part) :]
            except BlockingIOError:
                if not select.select([], [target], [], _PATIENCE_S)[1]:
                    return
            except OSError:
                return  # closed, by us or by the hub
            if pause_s:
                time.sleep(pause_s)

    def _pass(self, *, things: list[str], **what: Any) -> None:
        handed = [self._thing(thing) for thing in things]
        target = self._descriptors[what.get("to", "hub")]
        with socket.socket(fileno=os.dup(target)) as channel:
            try:
                socket.send_fds(channel, [self._data(**what)], handed)
            except OSError:
                pass
        for descriptor in handed:
            os.close(descriptor)

    def _urgent(self) -> None:
        with socket.socket(fileno=os.dup(self._descriptors["hub"])) as channel:
            try:
                channel.send(b"!", socket.MSG_OOB)
            except OSError:
                pass  # a kernel that has it not for these sockets

    def _sleep(self, s: float) -> None:
        time.sleep(s)

    def _die(self, how: str = "exit", code: int = 0) -> None:
        if how == "exit":
            os._exit(code)
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)  # process 1 of its namespace: no effect
        import ctypes

        ctypes.string_at(0)

    def _hang(self, what: str = "hub", how: str = "close") -> None:
        try:
            if how == "close":
                if what == "output":
                    os.close(1)
                    os.close(2)
                os.close(self._descriptors[what])
            else:
                with socket.socket(fileno=os.dup(self._descriptors[what])) as channel:
                    channel.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def _thread(self, program: Program) -> None:
        threading.Thread(target=self.play, args=[program], daemon=True).start()

    def _mute(self) -> None:
        framed = answer.Answering.framed

        def nothing(self: answer.Answering, reply: Any) -> bytes:
            answer.Answering.framed = framed  # type: ignore[method-assign]
            return b""

        answer.Answering.framed = nothing  # type: ignore[method-assign]

    def _crowd(self, count: int = 3) -> None:
        for _ in range(count):
            if os.fork() == 0:
                return

    def _deaf(self, signal: int = 0) -> None:
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal, 0, 0, 0)

    def _flood(self, text: str, times: int, to: str = "hub") -> None:
        for at in range(times):
            self._send(text=text.replace("$I", str(at)), to=to)

    def _stay(self) -> None:
        from envhub.worker import session

        run = session.run

        def run_and_stay(
            shell: session.Shell, answering: answer.Answering, descriptors: list[int]
        ) -> None:
            def stay(hub: socket.socket, answering: answer.Answering) -> None:
                shell(hub, answering)
                while True:
                    time.sleep(60)

            run(stay, answering, descriptors)

        session.run = run_and_stay

    def _data(
        self,
        text: str = "",
        hex: str = "",  # noqa: A002
        times: int = 1,
        to: str = "hub",
    ) -> bytes:
        return text.replace("$N", str(self._number)).encode() + bytes.fromhex(hex) * times

    def _thing(self, thing: str) -> int:
        """Return a new descriptor."""
        match thing:
            case "itself":
                return os.pidfd_open(os.getpid())
            case "hub":
                with socket.socket(fileno=os.dup(self._descriptors["hub"])) as channel:
                    return channel.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
            case "child" | "dead":
                child = os.fork()
                if child == 0:
                    while thing == "child":
                        time.sleep(60)
                    os._exit(0)
                descriptor = os.pidfd_open(child)
                if thing == "dead":
                    os.waitpid(child, 0)
                return descriptor
            case "pipe":
                reading, writing = os.pipe()
                os.close(writing)
                return reading
        return os.open("/dev/null", os.O_RDONLY)


class Hostile:
    """Its step says what to play, and during which call; everything else is honest."""

    armed: tuple[str, Program] | None = None

    def __init__(self) -> None:
        self._life = os.urandom(8).hex()

    def reset(self, seed: int | None = None) -> dict[str, Any]:
        return {"life": self._life}

    def step(self, action: dict[str, Any]) -> dict[str, Any]:
        program, when = action.get("program", []), action.get("when", "now")
        if when == "now":
            _in_session(program)
        else:
            type(self).armed = (when, program)
        return {"life": self._life, "said": action.get("say", "")}

    @property
    def state(self) -> dict[str, Any]:
        return {"life": self._life}

    def close(self) -> None:
        pass


def _in_session(program: Program) -> None:
    Player({"hub": 3, "output": 1, "broker": 5}).play(program)


_CALLS = {"GetState": "state"}
_honest_answer = answer.Answering.answer


def _answer(self: answer.Answering, request: Any) -> Any:
    kind = type(request).__name__
    armed = Hostile.armed
    if armed is not None and armed[0] == _CALLS.get(kind, kind.lower()):
        Hostile.armed = None
        _in_session(armed[1])
    return _honest_answer(self, request)


answer.Answering.answer = _answer  # type: ignore[method-assign]

# ---------------------------------------------------------------- at import

_PLAN = Path(__file__).parent / "program.json"
_honest_fork = zygote._Zygote._fork_session
_honest_loop = zygote._Zygote.loop


def _turn(when: str, program: Program, since: int) -> None:
    """Make this zygote play the program at that moment of its life."""
    control = int(sys.argv[2])

    def at_fork(self: Any, session: int, descriptors: tuple[int, ...]) -> None:
        def really() -> None:
            _honest_fork(self, session, descriptors)

        if session < since:
            really()
        else:
            Player({"hub": control, "output": 1}, session, really).play(program)

    def at_hello(self: Any, session: int, descriptors: tuple[int, ...]) -> None:
        if session < since:
            _honest_fork(self, session, descriptors)
            return
        plan = self._plan_for(descriptors)
        self._plans[descriptors] = replace(plan, hello=b"")
        begin = self._begin

        def begin_differently(mine: list[int]) -> None:
            Player({"hub": mine[0], "output": 1, "broker": mine[-1]}).play(program)
            begin(mine)

        self._begin = begin_differently
        try:
            _honest_fork(self, session, descriptors)
        finally:
            self._begin = begin
            self._plans[descriptors] = plan

    def in_loop(self: Any) -> Any:
        Player({"hub": control, "output": 1}).play(program)
        _honest_loop(self)

    if when == "import":
        Player({"hub": control, "output": 1}).play(program)
    elif when == "fork":
        zygote._Zygote._fork_session = at_fork  # type: ignore[method-assign]
    elif when == "hello":
        zygote._Zygote._fork_session = at_hello  # type: ignore[method-assign]
    elif when == "loop":
        zygote._Zygote.loop = in_loop  # type: ignore[method-assign]


if _PLAN.exists():
    _turn(**json.loads(_PLAN.read_text()))
