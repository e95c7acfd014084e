"""One session's conversation with its process, without any I/O.

Both shells use it: the event loop's (`link.py`) and the blocking one (`embedded.py`). It
numbers the calls, holds the state, turns bytes into replies, keeps the tail of what was
printed, and turns a failure into the error that the user sees.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.msgpack import Decoder

from envhub import errors
from envhub.errors import EnvhubError, EnvironmentFailed, RemoteProtocolError
from envhub.hub.accounts.meter import Meter
from envhub.wire.framing import HEADER, MAX_FRAME_BYTES, FrameBuffer, encode_frame
from envhub.wire.lifecycle import Event, State, after, following
from envhub.wire.messages import (
    NO_MESSAGE,
    REPLIES,
    Cancel,
    Failed,
    Gather,
    Reply,
    Request,
    encode,
)
from envhub.wire.vector import VECTOR_REPLIES, VectorRequest
from envhub_sandbox import Limits, OwnReason, Passed, Verdict
from envhub_sandbox.verdict import HOST_MEMORY, NOTHING

OUTPUT_KEPT_BYTES = 64 * 1024  # the tail; what a person reads of a log
_LIMITS = (
    "cpu_limit",
    "file_limit",
    "frame_limit",
    "memory_limit",
    "output_limit",
    "process_limit",
    "syscall_denied",
)
# what a session's process may say of itself; any other code is the environment's invention
_SAID: tuple[type[EnvhubError], ...] = (
    errors.EnvironmentFailed,
    errors.InvalidOption,
    errors.ResetNeeded,
    errors.UsageError,
    errors.AgentSandboxFailed,
)
_BY_CODE = {kind.code: kind for kind in _SAID}
_CALLED, _ANSWERED = following(Event.CALLED), following(Event.ANSWERED)


class Exchange:
    """The sans-I/O half of a session process's link.

    Args:
        limits: of the session; those on output and frames are held here.
        meter: of the session; bytes are counted here.

    Attributes:
        op: number of the last call.
    """

    def __init__(self, limits: Limits, meter: Meter) -> None:
        self.state = after(State.STARTING, Event.ISOLATED)
        self._limits = limits
        self.meter = meter
        self._frame_bytes = limits.frame_bytes
        self._frames = FrameBuffer(max_bytes=limits.frame_bytes)
        self._replies: Decoder[Any] = REPLIES
        self.op = 0
        self._stage = ""
        self._output = bytearray()
        self._printed_bytes = 0
        self._is_broken = False  # it has broken the protocol: no reply counts any more

    def call(self, stage: str, request: Callable[[int], Request | VectorRequest]) -> bytes:
        """Number a request and return its frame.

        Args:
            stage: "reset", "step"…, for messages.
            request: makes it from its number.

        Raises:
            InvalidOption: a reset's message is too long; nothing has been called.
            InvalidAction: another's is.
        """
        op = self.op + 1
        asked = request(op)
        message = encode(asked)
        length = len(message)
        if length > self._frame_bytes:
            kind = errors.InvalidOption if stage == "reset" else errors.InvalidAction
            raise kind(f"a message of {length} bytes is over {self._frame_bytes}")
        if stage == "close":
            self.state = after(self.state, Event.ASKED_TO_CLOSE)
        else:
            self.state = _CALLED.get(self.state) or after(self.state, Event.CALLED)
        self.op = op
        self._stage = stage
        if type(asked) is Gather:  # from here on `wire/vector.py` is spoken
            self._replies = VECTOR_REPLIES
        if self._printed_bytes:
            self._output.clear()
            self._printed_bytes = 0
        self.meter.sent_bytes += HEADER.size + length
        return HEADER.pack(length) + message

    def cancel(self) -> bytes:
        """Return the frame that asks the environment to leave the call under way."""
        frame = encode_frame(encode(Cancel(self.op)))
        self.meter.sent_bytes += len(frame)
        return frame

    def receive(self, data: bytes) -> Reply | None:
        """Take bytes from the process; return the reply to the call, when it is whole.

        Raises:
            RemoteProtocolError: they are not that reply. The process must be killed; nothing
                that it says from then on is a reply.
        """
        self.meter.received_bytes += len(data)
        if self._is_broken:
            raise RemoteProtocolError("the protocol was broken before")
        try:
            state = _ANSWERED.get(self.state)
            if state is None:
                raise RemoteProtocolError("the session's process spoke without being asked")
            frame = self._frames.receive(data)
            if frame is None:
                return None
            reply: Reply = self._replies.decode(frame)
            if reply.op != self.op:
                raise RemoteProtocolError(f"a reply to call {reply.op}, expected {self.op}")
            if self._frames.waiting:
                raise RemoteProtocolError("bytes after the reply")
        except RemoteProtocolError:
            self._is_broken = True
            raise
        except NO_MESSAGE as error:
            self._is_broken = True
            raise RemoteProtocolError(f"not a valid message: {error}") from error
        self.state = state
        return reply

    def violation(self, error: RemoteProtocolError) -> tuple[OwnReason, Passed]:
        """Return what to kill the process for, after `receive` has refused its bytes."""
        if not 0 < error.frame_bytes <= MAX_FRAME_BYTES:
            return "protocol", NOTHING  # no worker of ours sends that: it is no length
        return "frame_limit", Passed("frame_bytes", self._frame_bytes, error.frame_bytes)

    def printed(self, data: bytes) -> Passed | None:
        """Take output of the process; return the limit once it is too much."""
        self._printed_bytes += len(data)
        self.meter.printed_bytes += len(data)
        self._output += data
        del self._output[:-OUTPUT_KEPT_BYTES]
        allowed = self._limits.output_bytes
        if self._printed_bytes <= allowed:
            return None
        return Passed("output_bytes", allowed, self._printed_bytes)

    @property
    def output(self) -> str:
        """The tail of what was printed during the last call."""
        return self._output.decode(errors="replace") if self._output else ""

    def ended(self) -> None:
        """Note the end of the process."""
        if self.state is not State.DEAD:
            self.state = after(self.state, Event.ENDED)

    def failure(self, reply: Failed) -> EnvhubError:
        """Return the error for a call that the environment could not answer."""
        if reply.code == errors.InvalidAction.code:
            return errors.InvalidAction(reply.message, detail=reply.detail)
        kind = _BY_CODE.get(reply.code, EnvironmentFailed)
        message, _, hint = reply.message.partition("\nhint: ")
        if kind is EnvironmentFailed:
            return EnvironmentFailed(
                reply.message, traceback=reply.traceback, output=self.output
            )
        return kind(message, hint=hint)

    def loss(self, verdict: Verdict, *, during: str = "") -> EnvhubError:
        """Return the error for a call that the process's end left without an answer.

        Args:
            verdict: on that end.
            during: when it ended, if not during that call.
        """
        during = during or f"during `{self._stage}`"
        details: dict[str, Any] = {
            "verdict": verdict.cause,
            "output": self.output,
            "limit": verdict.limit,
            "allowed": verdict.allowed,
            "observed": verdict.observed,
        }
        if verdict.cause == "deadline":
            allowed = f"{verdict.allowed:g} s"
            what = f"`{self._stage}` was not answered within {allowed}"
            return errors.DeadlineExceeded(what, **details)
        what = f"the session's process, {during}, {verdict}"
        if verdict.cause == "cancelled":
            return errors.Cancelled(what, hint="reset begins another", **details)
        if verdict.cause == "episode_deadline":
            return errors.DeadlineExceeded(what, hint="reset begins another", **details)
        if verdict.cause in _LIMITS and verdict.limit != HOST_MEMORY:
            return errors.LimitExceeded(what, **details)
        return errors.WorkerLost(what, **details)  # the machine's limit is not the session's
