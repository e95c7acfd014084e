"""A session, as its line sees it."""

from __future__ import annotations

from typing import Protocol

from envhub.errors import EnvhubError
from envhub.wire import native


class Heard(Protocol):
    """What hears replies, and says again what has none."""

    def resumed(self) -> list[native.Request]:
        """Return what to say first over a new connection."""
        ...

    def hear(self, reply: native.Reply) -> None:
        """Take a reply."""
        ...


class Subscriber(Heard, Protocol):
    """Of a `ThreadLine`."""

    def give_up(self, error: EnvhubError) -> None:
        """Wait no more for what was asked."""
        ...


class LoopSubscriber(Heard, Protocol):
    """Of a `Line`, on an event loop."""

    def cut_off(self, error: EnvhubError) -> None:
        """Give up all that waits."""
        ...

    def end(self, error: EnvhubError) -> None:
        """Give up all that waits, and never say it again."""
        ...

    def look(self, now: float) -> None:
        """Give up what has waited for too long."""
        ...
