"""A program without our client: frames by hand, calls ahead, calls twice, cuts of its own."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field

from websockets.exceptions import ConnectionClosed, WebSocketException

from envhub.wire import native
from tests.chaos.models import linked
from tests.chaos.play import QUIET_S
from tests.chaos.tally import Tally
from tests.protocol.raw import Raw, key, packed, unpacked

_AHEAD = 6  # calls of a session without an answer
_LOSSES = ("worker_lost", "limit_exceeded", "deadline_exceeded", "worker_start_failed")
_TRY_AGAIN = ("capacity", "worker_start_failed", "sandbox")
_GONE = ("session_lost",)
_NO_CONNECTION = (OSError, TimeoutError, ConnectionClosed, WebSocketException)


@dataclass
class _Session:
    """One session as its client knows it."""

    channel: int
    key: bytes = field(default_factory=key)
    op: int = 0
    acked: int = 0
    calls: dict[int, tuple[native.Numbered, tuple[str, int]]] = field(default_factory=dict)
    digest: str = ""
    steps: int = 0
    left: int = 0  # steps of the episode that were not asked for
    is_known: bool = False  # the hub has said that it is open
    is_lost: bool = True  # there is no episode
    episodes: int = 0


def play(
    url: str, count: int, tally: Tally, seed: int, think_s: float, ending: threading.Event
) -> None:
    """Play sessions of chain over one connection until told to end; then close them."""
    _Program(url, count, tally, random.Random(seed), think_s).run(ending)


class _Program:
    def __init__(
        self, url: str, count: int, tally: Tally, chance: random.Random, think_s: float
    ) -> None:
        self._url = url
        self._tally = tally
        self._chance = chance
        self._think_s = think_s
        self._channels = iter(range(1, 2**31))
        self._sessions: dict[int, _Session] = {}
        self._raw: Raw | None = None
        for _ in range(count):
            self._begin_anew(None)

    def run(self, ending: threading.Event) -> None:
        until = 0.0
        while self._sessions:
            if ending.is_set() and not until:
                until = time.monotonic() + QUIET_S
                for session in self._sessions.values():
                    session.episodes = 0
            if until and time.monotonic() > until:
                self._tally.complain(f"{len(self._sessions)} raw sessions did not end")
                return
            try:
                self._turn(is_ending=bool(until))
            except _NO_CONNECTION:
                self._tally.counts["raw connections lost"] += 1
                self._hang_up()
                time.sleep(0.1)
        self._hang_up()

    def _turn(self, *, is_ending: bool) -> None:
        if self._raw is None:
            self._connect()
        assert self._raw is not None
        requests: list[native.Request] = []
        for session in list(self._sessions.values()):
            if is_ending and not session.calls and session.episodes and not session.left:
                requests.append(native.Close(session.channel))
                del self._sessions[session.channel]
            else:
                requests += self._calls(session, is_ending=is_ending)
        if requests:
            again = requests if self._chance.random() < 0.1 else []
            twice = [r for r in again if isinstance(r, native.Numbered)]
            self._raw.say(*requests, *twice)
        if not is_ending and self._chance.random() < 0.01:
            self._tally.counts["raw connections cut by their own client"] += 1
            self._raw.cut()
            raise ConnectionError("cut by ourselves")
        if any(s.calls or not s.is_known for s in self._sessions.values()):
            for reply in self._raw.frame():
                self._hear(reply)
        time.sleep(self._chance.expovariate(1 / self._think_s))

    def _connect(self) -> None:
        self._raw = Raw(self._url)
        said: list[native.Request] = []
        for session in self._sessions.values():
            if session.is_known:
                said.append(native.Resume(session.channel, session.key))
            else:
                said.append(native.Open(session.channel, session.key, "chain"))
            said += [request for _, (request, _) in sorted(session.calls.items())]
        self._raw.say(*said)

    def _hang_up(self) -> None:
        raw, self._raw = self._raw, None
        if raw is not None:
            try:
                raw.close()
            except _NO_CONNECTION:
                pass  # it is gone, then

    def _calls(self, session: _Session, *, is_ending: bool) -> list[native.Numbered]:
        """Make calls ahead of the answers."""
        found: list[native.Numbered] = []
        while len(session.calls) < _AHEAD and session.op - session.acked < native.WINDOW - 1:
            op = session.op + 1
            if session.left:
                text = f"{self._chance.getrandbits(48):x}"
                session.digest = linked(session.digest, text)
                session.steps, session.left = session.steps + 1, session.left - 1
                request: native.Numbered = native.Step(
                    session.channel, op, session.acked, packed(text=text)
                )
            elif is_ending and (session.calls or session.episodes):
                break
            else:
                seed = self._chance.getrandbits(31)
                session.digest, session.steps = linked("", str(seed)), 0
                session.left = self._chance.randint(1, 12)
                request = native.Reset(session.channel, op, session.acked, packed(seed=seed))
            session.op = op
            session.calls[op] = request, (session.digest, session.steps)
            found.append(request)
        return found

    def _hear(self, reply: native.Reply) -> None:
        session = self._sessions.get(reply.session)
        if session is None:
            return  # one that we have given up
        if isinstance(reply, native.Opened):
            self._tally.counts["sessions resumed, by hand"] += session.is_known
            session.is_known = True
        elif isinstance(reply, native.Failed) and reply.op == 0:
            self._tally.code(reply.code, reply.message)
            if reply.code not in (*_GONE, *_TRY_AGAIN):
                self._tally.complain(f"raw: {reply.code}: {reply.message}")
            self._begin_anew(session)
        elif isinstance(reply, native.Observed | native.Failed):
            self._answered(session, reply)

    def _answered(self, session: _Session, reply: native.Observed | native.Failed) -> None:
        call = session.calls.pop(reply.op, None)
        if call is None:
            return  # the second answer to a call that was made twice
        while session.acked < session.op and session.acked + 1 not in session.calls:
            session.acked += 1
        request, expected = call
        is_reset = isinstance(request, native.Reset)
        if isinstance(reply, native.Failed):
            self._failed(session, reply, is_reset=is_reset)
            return
        seen = unpacked(reply.payload)
        if session.is_lost and not is_reset:
            self._tally.complain(f"raw: a step after the loss of its episode gave {seen}")
        elif (seen["digest"], seen["steps"]) != expected:
            self._tally.complain(f"raw: call {reply.op}: expected {expected}, got {seen}")
        else:
            self._tally.right("raw")
        session.is_lost = False
        if not session.left and not session.calls:
            session.episodes += 1

    def _failed(self, session: _Session, reply: native.Failed, *, is_reset: bool) -> None:
        self._tally.code(reply.code, reply.message)
        if reply.code in _LOSSES or (reply.code == "capacity" and is_reset):
            session.is_lost = True
            session.left = 0  # the next one asked for is a reset
        elif reply.code == "reset_needed" and session.is_lost:
            pass  # it was on its way
        elif reply.code in _GONE:
            self._begin_anew(session)
        else:
            self._tally.complain(f"raw: call {reply.op}: {reply.code}: {reply.message}")

    def _begin_anew(self, session: _Session | None) -> None:
        """Have another session in a session's place."""
        if session is not None:
            self._sessions.pop(session.channel, None)
            time.sleep(0.05)
        new = _Session(next(self._channels))
        self._sessions[new.channel] = new
        self._tally.counts["sessions opened"] += 1
        if self._raw is not None:
            self._raw.say(native.Open(new.channel, new.key, "chain"))
