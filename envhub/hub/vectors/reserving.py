"""Places for all processes of a vector environment, or for none of them."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import anyio

from envhub.errors import CapacityError
from envhub.hub.hub import Hub
from envhub.hub.places.place import Place

_locks: WeakKeyDictionary[Hub, anyio.Lock] = WeakKeyDictionary()


async def reserve_all(hub: Hub, name: str, count: int) -> list[Place]:
    """Return so many places.

    Two that want several do not wait for each other: one of them takes all of its own first.

    Raises: as `Hub.open`; then none is held.
    """
    if count > hub.max_sessions:
        raise CapacityError(
            f"{count} processes want a place each, and there are {hub.max_sessions}",
            active=hub.active_sessions,
            limit=hub.max_sessions,
            hint="take fewer `processes`",
        )
    places: list[Place] = []
    async with _locks.setdefault(hub, anyio.Lock()):
        try:
            while len(places) < count:
                places.append(await hub.reserve(name))
        except BaseException:
            with anyio.CancelScope(shield=True):
                for place in places:
                    await place.aclose()
            raise
    return places
