"""The lanes of one door, by the keys that clients have made up."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from envhub.door.holders import Holder, Seat
from envhub.door.native.lane import Lane
from envhub.door.native.ledger import Stock
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
        self._lanes: dict[tuple[str, bytes], Lane] = {}
        self._stock = Stock()
        self._left: set[Lane] = set()  # those that are being closed: nobody finds them

    def find(self, request: Open | Resume, holder: Holder, outlet: Outlet) -> Lane:
        """Return the lane of a key, which an Open makes if there is none.

        Args:
            request: with the key.
            holder: whose it is; another's keys are not seen.
            outlet: of the connection that it is attached to from now on.

        Raises:
            SessionLost: there is none, and this is no Open.
            NotAllowed: the holder may not open that environment.
        """
        lane = self._lanes.get((holder.name, request.key))
        if lane is None:
            if isinstance(request, Resume):
                raise SessionLost(_LOST)
            lane = self._opened(request, holder)
        lane.attach(outlet, request.session)
        return lane

    async def aclose(self) -> None:
        """Close every session."""
        lanes = [*self._lanes.values(), *self._left]
        await asyncio.gather(*(lane.aclose() for lane in lanes))

    def _opened(self, request: Open, holder: Holder) -> Lane:
        key, name = (holder.name, request.key), request.environment
        holder.check(name)
        seats: list[Seat] = []

        def forget() -> None:
            self._left.add(self._lanes.pop(key))

        def end() -> None:
            self._left.discard(lane)
            for seat in seats:
                seat.leave()

        async def opening() -> Session:
            seats.append(await holder.enter())
            return await self._hub.open(name, schema=request.schema or None, client=holder.key)

        turn = None if holder.rate is None else holder.turn
        lane = self._lanes[key] = Lane(
            name, self._grace_s, opening, forget, end, turn, self._stock
        )
        return lane
