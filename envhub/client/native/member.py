"""One process of a vector environment whose hub is elsewhere.

Its caller sees what it sees of one that is here (`envhub.hub.vectors.member.Member`): calls
that are begun and have an outcome, and a memory with the arrays. That memory is our own: what
a call needs of it is sent, and what its reply brings is put there.
"""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Literal, TypeVar

from envhub.client.native import bounds
from envhub.client.native.exchange import exchange
from envhub.client.native.line import MAX_REPLY_BYTES
from envhub.client.native.threadline import ThreadLine
from envhub.errors import (
    CapacityError,
    EnvhubError,
    EnvironmentFailed,
    InvalidAction,
    InvalidOption,
    RemoteProtocolError,
    SessionClosed,
    UsageError,
)
from envhub.wire import blobs, native, vector
from envhub.wire.failures import exception
from envhub.wire.messages import Gather, Request
from envhub.wire.vector import (
    Answered,
    Ask,
    Autoreset,
    Batched,
    Gathered,
    Layout,
    ResetBatch,
    StepBatch,
    VectorReply,
    VectorRequest,
)

_HARMLESS = (EnvironmentFailed, InvalidAction, InvalidOption, UsageError, CapacityError)
R = TypeVar("R")


class RemoteMember:
    """A session at a hub elsewhere, and the processes that follow each other in it.

    Calls that are begun are said by the next `wait`. Not for two threads.

    Args:
        line: to the hub; of one vector environment.
        name: of the environment.
        count: environments in the process.
        options: keyword arguments for making each environment, in MessagePack.
        whole: they are one object, of their author's vectorised class.

    Attributes:
        count: as given.
        whole: likewise.
        line: likewise.
        autoreset: how episodes follow each other; to be set before they are started.
        gathered: what the environments are; of the last process.
        memory: what the last batches have brought; None without a process.
        is_pending: a call is under way.
        outcome: of the last call; None while it is under way.

    Raises: as `RemoteHub.open`.
    """

    def __init__(
        self, line: ThreadLine, name: str, count: int, options: bytes, *, whole: bool = False
    ) -> None:
        self.count = count
        self.line = line
        self._name = name
        self.whole = whole
        self.autoreset: Autoreset = "next_step"
        self._options = options
        self._number = self._op = 0
        self._key = b""
        self._opened: native.Opened | None = None
        self._over: EnvhubError | None = None  # why nobody may call it any more
        self._process: native.Process | None = None
        self._request: native.Numbered | None = None  # of the call under way
        self._unsaid: native.Numbered | None = None  # the same, before it is sent
        self._turn: Literal[0, 1] = 0  # of the observations, of that
        self._allowed_s = 0.0  # for that
        self._seeds: tuple[int | None, ...] = ()
        self._is_live = False  # its process has its environments
        self._closed = False
        self._layout: Layout | None = None
        self.gathered: Gathered | None = None
        self.memory: mmap.mmap | None = None
        self.is_pending = False
        self.outcome: VectorReply | EnvhubError | None = None
        self._open()

    def _open(self) -> None:
        """Open a session."""
        self._number, self._key = self.line.subscribe(self), os.urandom(16)
        self._opened = self._over = self._process = None
        self._op = 0
        opening = native.Open(self._number, self._key, self._name)
        exchange(self.line, [opening], lambda: bool(self._opened or self._over), bounds.OPEN_S)
        if self._over is not None:
            raise self._over

    @property
    def pid(self) -> int:
        """The number of its process on the hub's machine; 0 if none is known."""
        process = self._process
        return process.pid if process is not None and self._is_live else 0

    def opened(self) -> None:
        """Nothing: the hub knows."""

    def count_batch(self, steps: int, episodes: int) -> None:
        """Nothing: the hub counts."""

    # ------------------------------------------------------------ a call

    def check_usable(self) -> None:
        """Raise what a call would meet that cannot be made.

        Raises:
            HubForked: this is another process.
            SessionClosed: it is closed, by its caller or by the hub.
            ConnectionLost: the connection is.
        """
        if self._closed:
            raise SessionClosed("the environments are closed")
        self.line.check()
        if isinstance(self._over, SessionClosed) and self._opened is not None:
            raise self._over

    def begin(self, stage: str, request: Callable[[int], Request | VectorRequest]) -> None:
        """Begin a call; its outcome comes to `outcome`.

        Args:
            stage: "reset", "step"…: its deadline.
            request: what would be said to a process here; its number is not used.

        Raises:
            SessionClosed: it is closed, or the hub has closed it.
            InvalidAction: the actions are too many bytes.
            InvalidOption: the options are.
        """
        self.check_usable()
        asked = request(0)
        self._turn = asked.turn if isinstance(asked, StepBatch | ResetBatch) else 0
        self._unsaid = self._request = self._said(asked, self._op + 1, self._op)
        self._op += 1
        self._allowed_s = bounds.allowed_s(self._opened, stage)
        self.is_pending, self.outcome = True, None

    def _said(self, asked: Request | VectorRequest, op: int, acked: int) -> native.Numbered:
        """Return what is said to the hub for what would be said to a process here."""
        of = self._number, op, acked
        match asked:
            case StepBatch():
                return native.Step(*of, self._part(self._places.request))
            case ResetBatch(seeds=seeds, options=options):
                todo = self._part(self._places.todo)
                given = blobs.encode(blobs.Resets(todo, tuple(seeds), options))
                return native.Reset(*of, bounds.checked(given))
            case Ask(name=name, given=given, assign=assign):
                return native.Ask(*of, name, bounds.checked(given), assign)
            case Gather(count=count, options=options):
                given = bounds.checked(options)
                return native.Gather(*of, count, self.autoreset, given, self.whole, self._seeds)
        raise UsageError(f"`{type(asked).__name__}` is not for processes elsewhere")

    def unsaid(self) -> native.Numbered | None:
        """Return what is to be sent, once."""
        request, self._unsaid = self._unsaid, None
        return request

    @property
    def allowed_s(self) -> float:
        """How long the reply to the call under way may take."""
        return self._allowed_s

    # ------------------------------------------------------------ what the line says

    def resumed(self) -> list[native.Request]:
        """Return what to say first over a new connection."""
        if self._opened is None:
            return [native.Open(self._number, self._key, self._name)]
        said: list[native.Request] = [native.Resume(self._number, self._key)]
        self._unsaid = None
        if self._request is not None:
            said.append(self._request)
        if self._closed:
            said.append(native.Close(self._number))
        return said

    def hear(self, reply: native.Reply) -> None:
        """Take a reply."""
        match reply:
            case native.Opened():
                self._opened = reply
            case native.Process():
                self._process = reply
            case native.Closed():
                self._end(SessionClosed("the hub has closed the session"))
            case native.Failed(op=0):
                self._end(exception(reply))
            case native.Billed():
                pass
            case _:
                request = self._request
                if request is not None and reply.op == request.op:
                    self._answered(reply)

    def give_up(self, error: EnvhubError) -> None:
        """Wait no more for what was asked: whatever the hub makes of it, nobody is told."""
        if self.is_pending or self._opened is None:
            self._forget(error)

    def _forget(self, error: EnvhubError) -> None:
        """Have the session closed; the next start opens another."""
        self.line.leave(self._number, self._key)
        self._end(error)
        self._opened = None

    def _end(self, error: EnvhubError) -> None:
        """Note that the session has ended."""
        self._over, self._is_live = error, False
        self.line.unsubscribe(self._number)
        if self.is_pending:
            self._answer(error)

    def _answer(self, outcome: VectorReply | EnvhubError) -> None:
        self.is_pending, self._request, self._unsaid = False, None, None
        self.outcome = outcome

    def _answered(self, answer: native.Answer) -> None:
        try:
            outcome = self._outcome(answer)
        except RemoteProtocolError as error:
            outcome = error
        if isinstance(outcome, EnvhubError) and not isinstance(outcome, _HARMLESS):
            self._is_live = False
        self._answer(outcome)

    def _outcome(self, answer: native.Answer) -> VectorReply | EnvhubError:
        match answer:
            case native.Failed():
                return exception(answer)
            case native.Observed(payload=payload, metadata=metadata):
                told = blobs.told(metadata)
                self._put(payload)
                return Batched(answer.op, told.infos, told.failures)
            case native.Gathered():
                spaces = blobs.space(answer.action), blobs.space(answer.observation)
                return Gathered(answer.op, *spaces, answer.metadata, answer.render_mode)
            case native.Read(payload=payload):
                return Answered(answer.op, payload)
        raise RemoteProtocolError(f"a reply `{type(answer).__name__}` of a vector session")

    def _put(self, payload: bytes) -> None:
        """Put what a batch brings where its caller looks for it."""
        memory, places = self.memory, self._places
        results, seen = places.results, places.observations[self._turn]
        split = results.stop - results.start
        allowed = places.reply.stop - places.reply.start
        if memory is None or len(payload) != allowed:
            raise RemoteProtocolError(f"a batch of {len(payload)} bytes, expected {allowed}")
        view = memoryview(payload)
        memory[results], memory[seen] = view[:split], view[split:]

    @property
    def _places(self) -> blobs.Places:
        if self._layout is None:
            raise RemoteProtocolError("a batch before there are environments")
        return self._placed

    def _part(self, of: slice) -> bytes:
        assert self.memory is not None
        return self.memory[of]

    def abandon(self) -> None:
        """Give up the call under way, and the session with it: the next start opens another."""
        if self.is_pending:
            self._forget(SessionClosed("the call was interrupted"))

    def result(self, kind: type[R]) -> R:
        """Return the outcome of the last call.

        Raises:
            EnvhubError: that is what came of it.
            RemoteProtocolError: it is another reply than it must be.
        """
        outcome = self.outcome
        if isinstance(outcome, EnvhubError):
            raise outcome
        if not isinstance(outcome, kind):
            self._is_live = False
            raise RemoteProtocolError(f"a reply of another kind than {kind.__name__}")
        return outcome

    # ------------------------------------------------------------ its processes

    def begin_start(self) -> None:
        """Have a session; what its environments begin with is needed to make them."""
        self.check_usable()
        if self._over is not None:  # the hub was restarted, say
            self._open()

    def begin_share(self, seeds: list[int | None]) -> None:
        """Have the hub make the environments in a fresh process.

        Args:
            seeds: for the first reset of each environment, if that has none.
        """
        self._seeds = tuple(seeds)
        self.begin("reset", lambda op: Gather(op, self.count, self._options, self.whole))

    def finish_start(self) -> tuple[mmap.mmap, Layout]:
        """Return a memory for what the environments are, and what lies where.

        Raises:
            UsageError: it would be too large, or they are other ones than before.
            EnvhubError: the environments could not be made.
        """
        before, gathered = self.gathered, self.result(Gathered)
        vector.check_alike(before, gathered)
        layout = vector.laid_out(gathered, self.count, most_bytes=MAX_REPLY_BYTES)
        self.gathered, self._layout, self._placed = gathered, layout, blobs.Places(layout)
        self.memory = mmap.mmap(-1, layout.size_bytes)
        self._is_live = True
        return self.memory, layout

    def drop(self) -> None:
        """Give the process up: the next start gets another. Idempotent."""
        self.abandon()
        self._is_live, self.memory = False, None

    def is_ready(self, surely: bool = False) -> bool:
        """Whether the process can be called, as far as is known here."""
        return self._is_live and not self.is_pending

    def begin_close(self) -> None:
        """Nothing: `close` does it."""

    def close(self) -> None:
        """Close the session. Idempotent; nothing in a fork."""
        if self._closed:
            return
        self.drop()
        self._closed = True
        with suppress(EnvhubError):  # or the hub closes it, after a while
            self.line.check()
            if sys.is_finalizing():
                self.line.leave(self._number, self._key)
            elif self._over is None:
                closing = native.Close(self._number)
                exchange(self.line, [closing], lambda: self._over is not None, bounds.CLOSE_S)
