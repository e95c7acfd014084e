"""Where a hub is, how it is connected to, and what an attempt to do so comes to."""

from __future__ import annotations

from typing import NamedTuple

from envhub.errors import ConnectionLost, EnvhubError, UsageError

_REFUSED = (400, 401, 403, 404)  # by which the answer will be the same next time


class Address(NamedTuple):
    """What a connection to a hub needs to know.

    Args:
        url: of its WebSocket.
        headers: sent with each handshake.
        connect_timeout_s: for each attempt to connect.
        reconnect_s: after how long without a connection the calls that wait are given up.
    """

    url: str
    headers: dict[str, str]
    connect_timeout_s: float
    reconnect_s: float


def refusal(url: str, error: BaseException) -> EnvhubError:
    """Return the error for an attempt to connect that ended so."""
    from websockets.exceptions import InvalidStatus

    if not isinstance(error, InvalidStatus):
        return ConnectionLost(
            f"no connection to {url}: {error or type(error).__name__}",
            hint="is `envhub serve` running there?",
        )
    status = error.response.status_code
    said = bytes(error.response.body or b"").decode(errors="replace").strip()[:500]
    if status in _REFUSED:
        return UsageError(
            f"the hub at {url} refuses us: {said or status}",
            hint="a hub that asks for one is given `token=`" if status == 401 else "",
        )
    return ConnectionLost(f"the hub at {url} answers {status}: {said}")
