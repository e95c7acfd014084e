"""`envhub.door.origin`: what a browser sends for a foreign page never reaches a session."""

from http.client import HTTPConnection
from typing import Any

import anyio
import pytest
from websockets.asyncio.client import connect
from websockets.typing import Origin

FOREIGN = [
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:1"},
    {"Host": "evil.example"},
    {"Host": "localhost.evil.example:80"},
    {"Host": "127.0.0.1@evil.example"},
    {"Host": "10.0.0.1"},
    {"Host": "[::1"},
    {"Host": ""},
]


async def answer(verb: str, data: bytes) -> bytes:
    return b'{"observation":{},"reward":null,"done":false}'


RESET = (("content-length", "0"),)
HANDSHAKE = (
    ("upgrade", "websocket"),
    ("connection", "Upgrade"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA=="),
)


def ask(
    address: str, verb: str, path: str, *headers: tuple[str, str]
) -> tuple[int, str | None]:
    """Return status and content type of a request with exactly these headers."""
    connection = HTTPConnection(address, timeout=30)
    try:
        connection.putrequest(verb, path, skip_host=True)
        for name, value in headers:
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        return response.status, response.getheader("content-type")
    finally:
        connection.close()


def post(address: str, *headers: tuple[str, str]) -> tuple[int, str | None]:
    return ask(address, "POST", "/reset", *headers, *RESET)


def shake_hands(address: str, *headers: tuple[str, str]) -> tuple[int, str | None]:
    return ask(address, "GET", "/ws", *headers, *HANDSHAKE)


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
async def test_what_a_foreign_page_asks_is_refused(
    scripted: Any, served: Any, headers: dict[str, str]
) -> None:
    hub = scripted(answer)
    async with served(hub) as address:
        sent = {"Host": address, **headers}
        posted = await anyio.to_thread.run_sync(post, address, *sent.items())
        shaken = await anyio.to_thread.run_sync(shake_hands, address, *sent.items())

    assert posted == shaken == (403, "text/plain; charset=utf-8")
    assert hub.sessions == []


@pytest.mark.parametrize(
    "headers", [(), (("Host", "localhost"), ("Host", "evil.example"))], ids=["none", "two"]
)
async def test_there_is_exactly_one_host_header(
    scripted: Any, served: Any, headers: tuple[tuple[str, str], ...]
) -> None:
    """The HTTP parser refuses what is not, before the door is asked."""
    hub = scripted(answer)
    async with served(hub) as address:
        posted, _ = await anyio.to_thread.run_sync(post, address, *headers)
        shaken, _ = await anyio.to_thread.run_sync(shake_hands, address, *headers)

    assert (posted, shaken) == (400, 400)
    assert hub.sessions == []


@pytest.mark.parametrize("host", ["localhost:80", "LOCALHOST", "127.8.9.1", "[::1]:8000"])
async def test_loopback_has_many_names(scripted: Any, served: Any, host: str) -> None:
    async with served(scripted(answer)) as address:
        headers = ("Host", host), ("Origin", f"http://{host}")
        status, _ = await anyio.to_thread.run_sync(post, address, *headers)

    assert status == 200


async def test_a_web_page_of_the_door_itself_may_connect(scripted: Any, served: Any) -> None:
    async with served(scripted(answer)) as address:
        origin = Origin(f"http://{address}")
        async with connect(f"ws://{address}/ws", proxy=None, origin=origin) as websocket:
            await websocket.send('{"type":"state"}')
            with anyio.fail_after(10):
                reply = await websocket.recv()

    assert str(reply).startswith('{"type":"state"')
