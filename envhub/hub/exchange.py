"""One session's conversation with its process, without any I/O.

Both shells use it: the event loop's (`link.py`) and the blocking one (`embedded.py`). It
numbers the calls, holds the state, turns bytes into replies, keeps the tail of what was
printed, and turns a failure into the error that the user sees.
"""

from __future__ import annotations

from collections.abc import Callable

from envhub import errors
from envhub.errors import EnvhubError, EnvironmentFailed, RemoteProtocolError
from envhub.wire.framing import FrameBuffer, encode_frame
from envhub.wire.lifecycle import Event, State, after
from envhub.wire.messages import REPLIES, Failed, Reply, Request, decode, encode
from envhub_sandbox import Verdict

OUTPUT_KEPT_BYTES = 64 * 1024  # the tail; what a person reads of a log
OUTPUT_MAX_BYTES = 16 * 1024 * 1024  # in one call; past it the process is killed
_LIMITS = ("cpu_limit", "file_limit", "output_limit", "syscall_denied")
# what a session's process may say of itself; any other code is the environment's invention
_SAID: tuple[type[EnvhubError], ...] = (
    errors.EnvironmentFailed,
    errors.InvalidOption,
    errors.ResetNeeded,
    errors.UsageError,
    errors.AgentSandboxFailed,
)
_BY_CODE = {kind.code: kind for kind in _SAID}


class Exchange:
    """The sans-I/O half of a session process's link."""

    def __init__(self) -> None:
        self.state = after(State.STARTING, Event.ISOLATED)
        self._frames = FrameBuffer()
        self._op = 0
        self._stage = ""
        self._output = bytearray()
        self._printed_bytes = 0

    def call(self, stage: str, request: Callable[[int], Request]) -> bytes:
        """Number a request and return its frame.

        Args:
            stage: "reset", "step"…, for messages.
            request: makes it from its number.
        """
        closing = stage == "close"
        self.state = after(self.state, Event.ASKED_TO_CLOSE if closing else Event.CALLED)
        self._op += 1
        self._stage = stage
        self._output.clear()
        self._printed_bytes = 0
        return encode_frame(encode(request(self._op)))

    def receive(self, data: bytes) -> Reply | None:
        """Take bytes from the process; return the reply to the call, when it is whole.

        Raises:
            RemoteProtocolError: they are not that reply. The process must be killed.
        """
        if self.state not in (State.BUSY, State.CLOSING):
            raise RemoteProtocolError("the session's process spoke without being asked")
        self._frames.receive_data(data)
        frame = self._frames.next_frame()
        if frame is None:
            return None
        reply = decode(REPLIES, frame)
        if reply.op != self._op:
            raise RemoteProtocolError(f"a reply to call {reply.op}, expected {self._op}")
        if len(self._frames):
            raise RemoteProtocolError("bytes after the reply")
        self.state = after(self.state, Event.ANSWERED)
        return reply

    def printed(self, data: bytes) -> bool:
        """Take output of the process; False once it is too much."""
        self._printed_bytes += len(data)
        self._output += data
        del self._output[:-OUTPUT_KEPT_BYTES]
        return self._printed_bytes <= OUTPUT_MAX_BYTES

    @property
    def output(self) -> str:
        """The tail of what was printed during the last call."""
        return self._output.decode(errors="replace")

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

    def loss(self, verdict: Verdict, deadline_s: float) -> EnvhubError:
        """Return the error for a call during which the process ended."""
        details = {"verdict": verdict.cause, "output": self.output}
        if verdict.cause == "deadline":
            return errors.DeadlineExceeded(
                f"`{self._stage}` was not answered within {deadline_s:g} s", **details
            )
        what = f"the session's process, during `{self._stage}`, {verdict}"
        if verdict.cause in _LIMITS:
            return errors.LimitExceeded(what, **details)
        return errors.WorkerLost(what, **details)
