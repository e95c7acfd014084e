"""One frame to a hub, and the replies to it: how a vector environment uses its line."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from envhub.client.native import bounds
from envhub.client.native.threadline import ThreadLine
from envhub.errors import ConnectionLost
from envhub.wire import native


def exchange(
    line: ThreadLine,
    requests: Sequence[native.Request],
    done: Callable[[], bool],
    at_most_s: float,
    first: int = 0,
) -> None:
    """Send requests in one frame, and take replies until it is `done`.

    What cannot be had, for want of a connection or in time, all sessions are told.

    Args:
        line: to the hub.
        requests: which sessions know, and repeat when they are `resumed`.
        done: says whether to wait no more; looked at after each frame.
        at_most_s: as long as a reply may take.
        first: so many replies go together; 0 if each is to come by itself.
    """

    def begin() -> None:
        with line.together(1 if first else 0, first):
            for request in requests:
                line.send(request)

    if not line.until(begin, done, time.monotonic() + at_most_s):
        line.fail(ConnectionLost(bounds.LATE))
