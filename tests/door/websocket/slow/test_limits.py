"""The table of limits, each on both lanes: megabytes, and very many of something."""

from __future__ import annotations

import pytest

from tests.door.hostile.arena import Server, attacked
from tests.door.websocket.cases.case import Case, play
from tests.door.websocket.cases.limits import LIMITS
from tests.door.websocket.frames import cut, fragments, frame
from tests.door.websocket.lanes import LANES
from tests.door.websocket.peer import Talk

CASES = [
    pytest.param(way, case, id=f"{way}: {case.name}") for case in LIMITS for way in case.lanes
]


@pytest.mark.parametrize(("way", "case"), CASES)
def test_case(server: Server, way: str, case: Case) -> None:
    with Talk(server.host, way) as talk:
        play(case, talk)


@pytest.mark.parametrize("way", LANES)
def test_a_bound_of_little_is_held_as_well(way: str) -> None:
    """One that is shorter than what is read at once (RFC 6455, 10.4; docs/decisions/0013)."""
    with attacked("--max-sessions", "8", "--grace-s", "0", frame_bytes=1000) as server:
        with Talk(server.host, way) as talk:
            talk.say([frame(talk.opcode, talk.sized(1000))])
            talk.say(fragments(talk.opcode, cut(talk.sized(1000), every=400)))
            talk.listen()
            assert talk.answered == talk.expected
            talk.say([frame(talk.opcode, talk.lane.sized(1001)[0])])
            assert talk.end() == 1009
        with Talk(server.host, way) as talk:
            talk.say(fragments(talk.opcode, cut(talk.lane.sized(1001)[0], every=400)))
            assert talk.end() == 1009
