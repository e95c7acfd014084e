"""The lanes of one door, by the keys that clients have made up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envhub.door.native.lane import Lane
from envhub.door.native.outlet import Outlet
from envhub.errors import SessionLost
from envhub.wire.native import Open, Resume

if TYPE_CHECKING:
    from envhub.hub.hub import Hub
    from envhub.hub.session import Session

_LOST = (
    "the hub has no session of that key: it was restarted, or the session was closed, or nobody"
    " was connected to it for too long"
)
GRACE_S = 60.0  # a laptop that changes its network is back by then


class Lanes:
    """Opens sessions, and finds those that are open.

    Args:
        hub: where they are opened.
        grace_s: how long one is kept without a connection.
    """

    def __init__(self, hub: Hub, grace_s: float = GRACE_S) -> None:
        self._hub = hub
        self._grace_s = grace_s
        self._lanes: dict[bytes, Lane] = {}

    def find(self, request: Open | Resume, client: str, outlet: Outlet) -> Lane:
        """Return the lane of a key, which an Open makes if there is none.

        Args:
            request: with the key.
            client: by which the hub serves those in turn who wait for a place.
            outlet: of the connection that it is attached to from now on.

        Raises:
            SessionLost: there is none, and this is no Open.
        """
        lane = self._lanes.get(request.key)
        if lane is None:
            if isinstance(request, Resume):
                raise SessionLost(_LOST)
            lane = self._opened(request, client)
        lane.attach(outlet, request.session)
        return lane

    async def aclose(self) -> None:
        """Close every session."""
        for lane in list(self._lanes.values()):
            await lane.aclose()

    def _opened(self, request: Open, client: str) -> Lane:
        name, schema = request.environment, request.schema or None

        def forget() -> None:
            self._lanes.pop(request.key, None)

        async def opening() -> Session:
            return await self._hub.open(name, schema=schema, client=client)

        lane = self._lanes[request.key] = Lane(
            request.environment, self._grace_s, opening, forget
        )
        return lane
