"""`envhub.door.stream` over real sockets: order, limits, and clients that disappear."""

import inspect
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio
import anyio.abc
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from envhub.door import stream
from envhub.door.connections.guard import Bounds
from envhub.errors import (
    CapacityError,
    DeadlineExceeded,
    EnvhubError,
    EnvironmentFailed,
    WorkerLost,
    WorkerStartFailed,
)
from envhub.hub.session import Session

RESULT = b'{"observation":{"metadata":{}},"reward":null,"done":false}'
OBSERVATION = '{"type":"observation","data":' + RESULT.decode() + "}"
STEP = '{"type":"step","data":{}}'
HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


async def echo(verb: str, data: bytes) -> bytes:
    """Show what arrived at the session."""
    return json.dumps({"verb": verb, "data": json.loads(data or b"null")}).encode()


async def nothing() -> bytes:
    await anyio.sleep_forever()
    raise AssertionError("for ever is over")


async def ask(websocket: ClientConnection, frame: str | bytes) -> Any:
    await websocket.send(frame)
    with anyio.fail_after(10):
        return json.loads(await websocket.recv())


async def end_of(websocket: ClientConnection) -> tuple[int | None, str | None]:
    with anyio.fail_after(10), pytest.raises(ConnectionClosed):
        await websocket.recv()
    return websocket.close_code, websocket.close_reason


@pytest.fixture
def client(served: Any) -> Callable[[str], Any]:
    return lambda address: connect(f"ws://{address}/ws", proxy=None, max_size=None)


async def test_each_request_reaches_the_session(
    scripted: Any, served: Any, client: Any
) -> None:
    async with served(scripted(echo)) as address, client(address) as websocket:
        replies = [
            await ask(websocket, '{"type":"reset","data":{"seed":7}}'),
            await ask(websocket, '{"type":"step","data":{"op":"hé"}}'),
            await ask(websocket, '{"type":"state"}'),
        ]

    assert replies == [
        {"type": "observation", "data": {"verb": "reset", "data": {"seed": 7}}},
        {"type": "observation", "data": {"verb": "step", "data": {"op": "hé"}}},
        {"type": "state", "data": {"verb": "state", "data": None}},
    ]


async def test_pipelined_requests_are_answered_in_order(
    scripted: Any, served: Any, client: Any
) -> None:
    count = 3 * stream.MAX_WAITING
    async with served(scripted(echo)) as address, client(address) as websocket:
        for n in range(count):
            await websocket.send(f'{{"type":"step","data":{{"n":{n}}}}}')
        with anyio.fail_after(30):
            found = [json.loads(await websocket.recv()) for _ in range(count)]

    assert [reply["data"]["data"]["n"] for reply in found] == list(range(count))


@pytest.mark.parametrize("size", [100, 1_000_000])
async def test_what_is_too_much_to_wait_stays_with_the_client(
    scripted: Any, served: Any, size: int
) -> None:
    begun, go = anyio.Event(), anyio.Event()

    async def play(verb: str, data: bytes) -> bytes:
        begun.set()
        await go.wait()
        return RESULT

    text = json.dumps({"type": "step", "data": {"x": "x" * size}}).encode()
    frame = b"\x81" + (
        struct.pack("!BH", 0x80 | 126, len(text))
        if len(text) < 65_536
        else struct.pack("!BQ", 0x80 | 127, len(text))
    )
    frame += b"\0\0\0\0" + text
    most = 4 * stream.MAX_WAITING_CHARS
    async with served(scripted(play)) as address:
        host, port = address.split(":")
        async with await anyio.connect_tcp(host, int(port)) as client:
            client.extra(anyio.abc.SocketAttribute.raw_socket).setsockopt(
                socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536
            )
            await client.send(HANDSHAKE)
            with anyio.fail_after(10):
                await client.receive()
                await client.send(frame)
                await begun.wait()
            sent = 0
            with anyio.move_on_after(2):
                while sent < most:
                    await client.send(frame)
                    sent += len(frame)
            assert sent < most
            go.set()
            found = b""
            with anyio.fail_after(30):
                while found.count(b'observation",') < sent // len(frame):
                    found += await client.receive()


async def test_an_error_leaves_the_session_as_it_was(
    scripted: Any, served: Any, client: Any
) -> None:
    async def play(verb: str, data: bytes) -> bytes:
        if data == b'{"op":"boom"}':
            raise EnvironmentFailed("'boom key'")
        return RESULT

    hub = scripted(play)
    async with served(hub) as address, client(address) as websocket:
        failed = await ask(websocket, '{"type":"step","data":{"op":"boom"}}')
        unknown = await ask(websocket, '{"type":"bogus"}')
        after = await ask(websocket, STEP)

    assert failed["data"] == {"message": "'boom key'", "code": "EXECUTION_ERROR"}
    assert unknown["data"]["code"] == "UNKNOWN_TYPE"
    assert after == json.loads(OBSERVATION)
    assert len(hub.sessions) == 1


async def test_a_close_message_frees_the_session_before_the_close_frame(
    scripted: Any, served: Any, client: Any
) -> None:
    hub = scripted(echo)
    async with served(hub) as address, client(address) as websocket:
        await ask(websocket, STEP)
        await websocket.send('{"type":"close"}')
        ended = await end_of(websocket)
        closed = hub.sessions[0].closed.is_set()

    assert ended == (1000, "")
    assert closed


@pytest.mark.parametrize("frame", ["[1,2]", '"str"', b'{"type":"state"}'])
async def test_what_is_no_request_at_all_ends_the_connection_normally(
    scripted: Any, served: Any, client: Any, frame: str | bytes
) -> None:
    hub = scripted(echo)
    async with served(hub) as address, client(address) as websocket:
        reply = await ask(websocket, frame)
        ended = await end_of(websocket)
        with anyio.fail_after(10):
            await hub.sessions[0].closed.wait()

    assert reply["data"]["code"] == "SESSION_ERROR"
    assert ended == (1000, "")


async def test_a_frame_over_the_limit_closes_with_1009(
    scripted: Any, served: Any, client: Any
) -> None:
    hub = scripted(echo)
    async with served(hub) as address, client(address) as websocket:
        await ask(websocket, STEP)
        with suppress(ConnectionClosed):  # the server may have read enough before the end
            await websocket.send('{"type":"step","data":{"op":"' + "x" * 17_000_000 + '"}}')
        ended = await end_of(websocket)
        with anyio.fail_after(10):
            await hub.sessions[0].closed.wait()

    assert ended == (1009, "frame with 17000032 bytes exceeds limit of 16777216 bytes")


# ------------------------------------------------------------------ sessions that do not open


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (CapacityError("no place became free"), "CAPACITY_REACHED"),
        (WorkerStartFailed("it ended"), "FACTORY_ERROR"),
        (DeadlineExceeded("start"), "FACTORY_ERROR"),
    ],
)
async def test_a_session_that_cannot_be_opened_is_refused_after_the_handshake(
    scripted: Any, served: Any, client: Any, failure: EnvhubError, code: str
) -> None:
    async def refuse() -> None:
        raise failure

    async with served(scripted(echo, refuse)) as address, client(address) as websocket:
        with anyio.fail_after(10):
            reply = json.loads(await websocket.recv())
        ended = await end_of(websocket)

    assert reply["type"] == "error"
    assert reply["data"]["code"] == code
    assert ended == (1000, "")


# ------------------------------------------------------------------ clients that disappear


async def vanish(websocket: ClientConnection) -> None:
    """End the connection as a crashed client does: no close frame, a reset."""
    linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"  # on, 0 s: close() sends RST
    websocket.transport.get_extra_info("socket").setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, linger
    )
    websocket.transport.abort()


async def leave(websocket: ClientConnection) -> None:
    """End the connection as the library does, without waiting for the server."""
    await websocket.close()


@pytest.mark.parametrize("end", [vanish, leave])
async def test_a_client_that_disappears_in_a_step_frees_the_session_at_once(
    scripted: Any, served: Any, client: Any, end: Callable[[ClientConnection], Awaitable[None]]
) -> None:
    started = anyio.Event()
    cancelled = anyio.Event()

    async def never(verb: str, data: bytes) -> bytes:
        started.set()
        try:
            return await nothing()
        finally:
            cancelled.set()

    hub = scripted(never)
    async with served(hub) as address, client(address) as websocket:
        await websocket.send(STEP)
        await websocket.send('{"type":"state"}')  # something is waiting behind it
        with anyio.fail_after(10):
            await started.wait()
            await end(websocket)
            await hub.sessions[0].closed.wait()

        assert cancelled.is_set()


async def test_a_client_that_disappears_while_it_queues_gives_up_its_turn(
    scripted: Any, served: Any, client: Any
) -> None:
    queued = anyio.Event()
    left = anyio.Event()

    async def queue() -> None:
        queued.set()
        try:
            await anyio.sleep_forever()
        finally:
            left.set()

    hub = scripted(echo, queue)
    async with served(hub) as address, client(address) as websocket:
        with anyio.fail_after(10):
            await queued.wait()
            await vanish(websocket)
            await left.wait()

    assert hub.sessions == []


async def test_a_client_that_does_not_read_is_given_up(scripted: Any, served: Any) -> None:
    bounds = Bounds(stall_s=0.2, look_s=0.1)
    large = b'{"observation":"' + b"x" * 8_000_000 + b'"}'

    answered = anyio.Event()

    async def play(verb: str, data: bytes) -> bytes:
        answered.set()
        return large

    hub = scripted(play)
    async with served(hub, bounds=bounds) as address:
        host, port = address.split(":")
        async with await anyio.connect_tcp(host, int(port)) as deaf:
            await deaf.send(HANDSHAKE)
            with anyio.fail_after(10):
                await deaf.receive()  # the handshake's answer, and nothing after it
            masked = bytes([0x81, 0x80 | len(STEP), 0, 0, 0, 0]) + STEP.encode()
            await deaf.send(masked * 4)
            with anyio.fail_after(10):
                await answered.wait()
                await hub.sessions[0].closed.wait()


async def test_a_server_that_stops_closes_the_sessions_of_its_clients(
    scripted: Any, served: Any, client: Any
) -> None:
    started = anyio.Event()

    async def never(verb: str, data: bytes) -> bytes:
        started.set()
        return await nothing()

    hub = scripted(never)
    async with served(hub) as address:
        websocket = await client(address)
        await websocket.send(STEP)
        with anyio.fail_after(10):
            await started.wait()

    assert hub.sessions[0].closed.is_set()
    assert await end_of(websocket) == (1012, "")


# ------------------------------------------------------------------ workers that fail or lie


async def test_a_lost_process_is_an_error_until_the_next_reset(
    scripted: Any, served: Any, client: Any
) -> None:
    """The connection stays: closed, the official client's next call would race with that."""

    async def play(verb: str, data: bytes) -> bytes:
        if verb == "step":
            raise WorkerLost("the session's process ended: signal 9")
        return b'{"observation":{},"reward":null,"done":false}'

    hub = scripted(play)
    async with served(hub) as address, client(address) as websocket:
        lost = await ask(websocket, STEP)
        again = await ask(websocket, STEP)
        state = await ask(websocket, '{"type":"state"}')
        reset = await ask(websocket, '{"type":"reset"}')

    assert lost == {
        "type": "error",
        "data": {
            "message": "the session's process ended: signal 9",
            "code": "EXECUTION_ERROR",
            "cause": "worker_lost",
        },
    }
    assert again == state
    assert again["data"]["cause"] == "worker_lost"
    assert "reset begins another" in again["data"]["message"]
    assert reset["type"] == "observation"


@pytest.mark.parametrize(
    "payload", [b'{},"type":"error"', b"[]", b'{"a":"\xff"}', b"", b'{"reward":NaN}']
)
async def test_a_lying_worker_loses_its_session(
    scripted: Any, served: Any, client: Any, payload: bytes
) -> None:
    async def play(verb: str, data: bytes) -> bytes:
        return payload

    hub = scripted(play)
    async with served(hub) as address, client(address) as websocket:
        reply = await ask(websocket, STEP)
        ended = await end_of(websocket)
        with anyio.fail_after(10):
            await hub.sessions[0].closed.wait()

    assert reply["type"] == "error"
    assert reply["data"]["code"] == "EXECUTION_ERROR"
    assert reply["data"]["cause"] == "remote_protocol"
    assert ended == (1011, "")


async def test_a_bug_in_the_hub_is_an_error_frame_and_a_log_line(
    scripted: Any, served: Any, client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def play(verb: str, data: bytes) -> bytes:
        raise AssertionError("impossible")

    async with served(scripted(play)) as address, client(address) as websocket:
        reply = await ask(websocket, STEP)
        ended = await end_of(websocket)

    assert reply["data"]["cause"] == "internal"
    assert ended == (1011, "")
    assert "impossible" in caplog.text


@pytest.mark.parametrize(
    "method", ["reset_raw", "step_raw", "begin_step_raw", "state_raw", "aclose"]
)
async def test_the_scripted_session_has_the_interface_of_the_real_one(
    scripted: Any, method: str
) -> None:
    fake = getattr(type(await scripted(echo).open("play")), method)
    real = getattr(Session, method)

    assert list(inspect.signature(fake).parameters) == list(inspect.signature(real).parameters)


async def test_a_client_may_ask_how_its_session_is_isolated(
    scripted: Any, served: Any, client: Any
) -> None:
    async with served(scripted(echo)) as address, client(address) as websocket:
        answer = await ask(websocket, '{"type":"receipt"}')
        wrong = await ask(websocket, '{"type":"receipt","data":{}}')

    assert answer["type"] == "receipt"
    assert answer["data"]["tier"] == "strict"
    assert answer["data"]["seen"] == ["seccomp"]
    assert wrong["data"]["code"] == "UNKNOWN_TYPE"
