"""The tables of cases, each on both lanes: what an Autobahn client would ask, and more."""

from __future__ import annotations

import pytest

from tests.door.hostile.arena import Server
from tests.door.websocket.cases import controls, framing, messages
from tests.door.websocket.cases.case import Case, play
from tests.door.websocket.lanes import LANES
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


@pytest.mark.parametrize("way", LANES)
@pytest.mark.parametrize("edge", [125, 65_535])
def test_replies_of_the_sizes_at_which_a_length_is_written_otherwise(
    server: Server, way: str, edge: int
) -> None:
    """RFC 6455, 5.2: in the minimal number of bytes, to which a `Reader` holds each of them."""
    with Talk(server.host, way) as talk:
        for size in range(max(0, edge - 120), edge):  # of the text; a reply has more than that
            talk.say([talk.asking("x" * size)])
            talk.listen()

        assert talk.answered == talk.expected
        assert {edge, edge + 1} <= set(talk.sizes)
