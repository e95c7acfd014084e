"""Lanes without a network: what no client can time."""

from __future__ import annotations

from pathlib import Path

import pytest

from envhub import Hub
from envhub.door.holders import Holder
from envhub.door.native.lanes import Lanes
from envhub.errors import SessionLost
from envhub.wire.native import Open, Resume
from tests.protocol.lines import outlet
from tests.protocol.raw import key

ENVS = Path(__file__).parent / "envs"


async def test_who_comes_when_the_grace_is_just_over_finds_nothing() -> None:
    """And not a session that is closed a moment later, which would not be called lost."""
    holder, own = Holder("", ""), key()
    (before, line), (after, _) = outlet(), outlet()
    async with Hub(ENVS) as hub:
        lanes = Lanes(hub)
        lane = lanes.find(Open(1, own, "chain"), holder, before)
        await line.read()
        lane.detach(before)
        lane.close()  # as its timer does, and then the loop turns to what has been read
        with pytest.raises(SessionLost):
            lanes.find(Resume(1, own), holder, after)
        another = lanes.find(Open(1, own, "chain"), holder, after)
        await lane.aclose()

        assert another is not lane
        assert lanes.find(Resume(2, own), holder, after) is another
        await lanes.aclose()
        assert hub.active_sessions == 0
