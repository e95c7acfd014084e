"""What of a session of a hub elsewhere needs no waiting: the same in both kinds of programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from envhub.client.native.channel import Channel, Done, stepping
from envhub.errors import EnvhubError, RemoteProtocolError
from envhub.wire import calls, native

if TYPE_CHECKING:
    from collections.abc import Callable

    from envhub.batch import Outcome
    from envhub_sandbox import Receipt

C = TypeVar("C", bound=Channel[Any])


class Unwaited(Generic[C]):
    """Of the session that has this channel."""

    _channel: C

    @property
    def title(self) -> str:
        """The environment's name and version."""
        return self._channel.title

    @property
    def limits(self) -> dict[str, float]:
        """The limits in force by name, the hub's caps applied; 0 is no limit."""
        return self._channel.limits

    @property
    def output(self) -> str:
        """What the environment printed during the last call, the last 64 KiB of it."""
        return self._channel.output

    @property
    def pid(self) -> int:
        """The number of the session's process on the hub's machine; 0 if none is known."""
        return self._channel.pid

    @property
    def receipt(self) -> Receipt:
        """Which isolation is live around the session's process, as the hub has confirmed it.

        Raises:
            SessionClosed: no process is known: there was no call since it was opened or lost.
        """
        return self._channel.receipt

    def begin_step(self, action: Any, done: Callable[[Outcome], None]) -> None:
        """Begin a step, and have `done` told of what it comes to. For batches.

        Raises:
            InvalidAction: it cannot be sent.
        """
        self._channel.start("step", stepping(action), _told(done))


def _told(done: Callable[[Outcome], None]) -> Done:
    def take(answer: native.Answer | EnvhubError) -> None:
        if not isinstance(answer, EnvhubError):
            try:
                done(calls.result(calls.expect(answer, native.Observed)))
                return
            except RemoteProtocolError as error:
                answer = error
        done(answer)

    return take
