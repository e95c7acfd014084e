"""How a server that ends takes leave of its WebSockets: RFC 6455, 7.4.1; docs/protocol.md."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from tests.door.websocket.frames import frame
from tests.door.websocket.lanes import LANES
from tests.door.websocket.peer import Talk
from tests.serving import serving

LEAVE = (1001, 1012)  # going away; a restart of the service


@pytest.mark.parametrize("way", LANES)
def test_a_server_that_ends_says_so(way: str) -> None:
    """To those who are quiet, and to one in the middle of a message; the server ends well."""
    with serving("--env", "echo", "--drain-s", "0") as url:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        quiet, busy = (Talk((parts.hostname, parts.port), way) for _ in range(2))
        busy.say([frame(busy.opcode, b"{", fin=False)])
    codes = [talk.end() for talk in (quiet, busy)]
    for talk in (quiet, busy):
        talk.peer.socket.close()

    assert set(codes) <= set(LEAVE), codes
