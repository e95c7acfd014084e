"""A token is nowhere but in one header: in no URL that counts, and in nothing that is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.door.hostile.arena import HANDSHAKE, RESET, STEP, Server, attacked, frame, is_over
from tests.door.hostile.test_requests import CLOSE, JSON, NOT_HTTP, request, status

ALICE, BOB, WRONG = (
    "alices-secret-of-this-test",
    "bobs-secret-of-this-test",
    "a-wrong-secret-0000",
)
QUERIES = ["token", "access_token", "authorization", "bearer", "api_key", "session_id"]


def test_nothing_that_the_server_says_has_a_token_in_it(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"{ALICE} name=alice sessions=1 envs=echo\n{BOB} name=bob envs=none\n")
    file.chmod(0o600)
    with attacked("--token-file", str(file), "--queue-s", "0.1") as server:
        heard = _a_session_with_failures(server)
        said = "".join(server.said)
        complaints = server.complaints()

    for secret in (ALICE, BOB):
        assert secret not in said + complaints + heard
    assert "alice" in heard  # as a name, where it helps


def _a_session_with_failures(server: Server) -> str:
    """Do, with tokens, what goes wrong in every way; return what was heard."""
    heard = ""
    for token in (ALICE, BOB, WRONG):
        bearing = f"authorization: Bearer {token}"
        for line in ("GET /health", "POST /step", "GET /envs", "GET /envs/none/state"):
            heard += is_over(server.raw(request(server, line, CLOSE, JSON, bearing))).decode()
        for garbage in NOT_HTTP.values():
            hostile = server.raw(request(server, "GET /health", bearing))
            try:
                hostile.sendall(garbage)
            except ConnectionError:
                pass
            heard += is_over(hostile).decode()
        two = request(server, "GET /health", CLOSE, bearing, bearing)
        heard += is_over(server.raw(two)).decode()
        long = HANDSHAKE.format(
            path="/ws", host=server.address, more=f"{bearing}\r\nx: {'y' * 9000}\r\n"
        )
        heard += is_over(server.raw(long.encode())).decode()
    more = f"Authorization: Bearer {ALICE}\r\n"
    for wrong in (frame(b"\xff"), frame(b"{"), frame(RESET.encode(), 2), frame(b"x", 3)):
        hostile = server.websocket(more=more)
        hostile.sendall(frame(STEP.encode()) + wrong + frame(b'{"type":"close"}'))
        heard += is_over(hostile).decode(errors="replace")
    with connect(
        f"ws://{server.address}/ws",
        proxy=None,
        additional_headers={"authorization": f"Bearer {ALICE}"},
    ) as first:
        first.send(RESET)
        first.recv(timeout=60)
        second = server.websocket(more=more)  # over the quota
        heard += is_over(second).decode(errors="replace")
        first.send(json.dumps({"type": "step", "data": {"no": "field"}}))
        heard += str(first.recv(timeout=60))
    return heard


@pytest.mark.parametrize("name", QUERIES)
def test_a_token_in_a_url_opens_nothing(tmp_path: Path, name: str) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"{ALICE}\n")
    file.chmod(0o600)
    with attacked("--token-file", str(file)) as server:
        for path in (f"/health?{name}={ALICE}", f"/health?{name}=Bearer%20{ALICE}",
                     f"/envs/echo/state?{name}={ALICE}", f"/{ALICE}/health"):  # fmt: skip
            assert status(is_over(server.raw(request(server, f"GET {path}", CLOSE)))) == 401
        user = request(server, f"GET http://{ALICE}@{server.address}/health", CLOSE)
        assert status(is_over(server.raw(user))) == 401
        with pytest.raises(InvalidStatus, match="401"):
            connect(f"ws://{server.address}/ws?{name}={ALICE}", proxy=None)
        protocols = HANDSHAKE.format(
            path="/ws",
            host=server.address,
            more=f"Sec-WebSocket-Protocol: bearer, {ALICE}\r\nCookie: {name}={ALICE}\r\n",
        )
        assert status(is_over(server.raw(protocols.encode()))) == 401
        assert ALICE not in server.complaints()
