"""The table of limits, each on both lanes: megabytes, and very many of something."""

from __future__ import annotations

import pytest

from tests.door.hostile.arena import Server
from tests.door.websocket.cases.case import Case, play
from tests.door.websocket.cases.limits import LIMITS
from tests.door.websocket.peer import Talk

CASES = [
    pytest.param(way, case, id=f"{way}: {case.name}") for case in LIMITS for way in case.lanes
]


@pytest.mark.parametrize(("way", "case"), CASES)
def test_case(server: Server, way: str, case: Case) -> None:
    with Talk(server.host, way) as talk:
        play(case, talk)
