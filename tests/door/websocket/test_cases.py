"""The tables of cases, each on both lanes: what an Autobahn client would ask, and more."""

from __future__ import annotations

import pytest

from tests.door.hostile.arena import Server
from tests.door.websocket.cases import controls, framing, messages
from tests.door.websocket.cases.case import Case, play
from tests.door.websocket.peer import Talk

TABLES = {
    "length": framing.LENGTHS,
    "mask": framing.MASKS,
    "reserved": framing.RESERVED,
    "opcode": framing.OPCODES,
    "ping": controls.PINGS,
    "close": controls.CLOSES,
    "fragment": messages.FRAGMENTS,
    "text": messages.UTF_8,
}
CASES = [
    pytest.param(way, case, id=f"{way}-{group}: {case.name}")
    for group, cases in TABLES.items()
    for case in cases
    for way in case.lanes
]


@pytest.mark.parametrize(("way", "case"), CASES)
def test_case(server: Server, way: str, case: Case) -> None:
    with Talk(server.host, way) as talk:
        play(case, talk)
