"""Requests that no honest client makes. Each ends its own connection, and nothing else."""

from __future__ import annotations

import gzip
import json
import socket

import pytest

from tests.door.hostile.arena import HANDSHAKE, Server, is_over, until

STEP = b'{"action":{"message":"hi"}}'


def request(
    server: Server,
    line: str = "POST /step",
    *headers: str,
    body: bytes = b"",
    host: str | None = None,
) -> bytes:
    """Return a request with exactly these headers, and a Host."""
    name = server.address if host is None else host
    lines = [f"{line} HTTP/1.1", f"Host: {name}", *headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def status(said: bytes) -> int:
    """Return the status of the first reply; 0 where there is none."""
    return int(said.split(b" ", 2)[1]) if said.startswith(b"HTTP/1.1 ") else 0


JSON = "content-type: application/json"
CLOSE = "connection: close"
CHUNKED = "transfer-encoding: chunked"

NOT_HTTP = {
    "nothing of it": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 64,
    "NUL": b"GET /\0 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "no version": b"GET /\r\nHost: localhost\r\n\r\n",
    "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a header without a name": b"GET / HTTP/1.1\r\nHost: localhost\r\n: x\r\n\r\n",
    "a space before the colon": b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n",
    "NUL in a header": b"GET / HTTP/1.1\r\nHost: localhost\r\nx: \0\r\n\r\n",
    "a return in a header": b"GET / HTTP/1.1\r\nHost: localhost\r\nx: a\rb\r\n\r\n",
    "a method that is none": b"G(T / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a space in the path": b"GET /a b HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "letters beyond ASCII in the path": b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a line without end": b"GET /" + b"a" * 400_000,
    "headers without end": b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 60_000,
    "one header without end": b"GET / HTTP/1.1\r\nx: " + b"y" * 400_000,
}


@pytest.mark.parametrize("what", NOT_HTTP)
def test_what_is_no_http_is_refused(server: Server, what: str) -> None:
    hostile = server.raw()
    try:
        hostile.sendall(NOT_HTTP[what])
    except ConnectionError:
        pass

    assert status(is_over(hostile)) in (0, 400, 403)


# what two servers might take for requests of different lengths
SMUGGLED = {
    "both lengths": ["content-length: 4", CHUNKED],
    "both lengths, the other way round": [CHUNKED, "content-length: 4"],
    "two lengths": ["content-length: 4", "content-length: 5"],
    "two lengths in one": ["content-length: 4, 5"],
    "a length with a sign": ["content-length: +4"],
    "a length below zero": ["content-length: -1"],
    "a length in hexadecimal": ["content-length: 0x4"],
    "a length with an underscore": ["content-length: 1_0"],
    "a length beyond all": ["content-length: " + "9" * 30],
    "an encoding that there is not": ["transfer-encoding: xchunked"],
    "two encodings": ["transfer-encoding: gzip, chunked"],
    "chunked twice": [CHUNKED, CHUNKED],
    "an encoding behind a tab": ["transfer-encoding:\tchunked\x0b"],
    "a folded header": ["x: y", " transfer-encoding: chunked"],
}


@pytest.mark.parametrize("what", SMUGGLED)
def test_no_request_hides_in_the_body_of_another(server: Server, what: str) -> None:
    inner = request(server, "GET /health")
    body = b"0\r\n\r\n" + inner
    hostile = server.raw(request(server, "POST /step", JSON, *SMUGGLED[what], body=body))
    said = is_over(hostile)

    assert b"healthy" not in said
    assert b"HTTP/1.1 2" not in said
    assert status(said) in (0, 400, 413, 422, 501)


CHUNKS = {
    "a length that is none": b"zz\r\nx\r\n0\r\n\r\n",
    "a length below zero": b"-1\r\nx\r\n0\r\n\r\n",
    "a length beyond all": b"f" * 40 + b"\r\nx",
    "a length without end": b"1" * 400_000,
    "an extension without end": b"1;" + b"x" * 400_000,
    "a chunk longer than its length": b"1\r\nxyz\r\n0\r\n\r\n",
    "trailers without end": b"0\r\n" + b"x: y\r\n" * 60_000,
    "too many": b"1\r\n \r\n" * 70_000,
}


@pytest.mark.parametrize("what", CHUNKS)
def test_chunks_that_are_none_end_the_request(server: Server, what: str) -> None:
    hostile = server.raw(request(server, "POST /step", JSON, CHUNKED))
    try:
        hostile.sendall(CHUNKS[what])
    except ConnectionError:
        pass

    assert status(is_over(hostile)) in (0, 400)


@pytest.mark.parametrize("kind", ["gzip", "deflate", "br"])
def test_a_compressed_body_stays_as_it_is(server: Server, kind: str) -> None:
    """A thousandth of what it would be: 64 MiB of zeros."""
    bomb = gzip.compress(b'{"action":{"message":"' + b"0" * 2**26 + b'"}}')
    before = server.held()["memory"]
    length = f"content-length: {len(bomb)}"
    encoded = f"content-encoding: {kind}"
    sent = request(server, "POST /step", JSON, CLOSE, encoded, length, body=bomb)
    said = is_over(server.raw(sent))

    assert status(said) in (400, 422)
    assert server.held()["memory"] - before < 2**25


def test_a_body_over_the_bound_is_refused_before_it_has_come(server: Server) -> None:
    sent = request(server, "POST /step", JSON, f"content-length: {2**40}")
    hostile = server.raw(sent)
    before = server.held()["memory"]
    try:
        for _ in range(64):
            hostile.sendall(b" " * 2**20)
    except ConnectionError:
        pass
    server.episode()

    assert server.held()["memory"] - before < 2**26
    assert status(is_over(hostile)) in (0, 413)


NESTED = {
    "lists": b'{"action":' + b"[" * 200_000,
    "whole lists": b'{"action":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "objects": b'{"a":' * 100_000,
    "a number": b'{"action":' + b"9" * 5000 + b"}",
    "no UTF-8": b'{"action":"\xff"}',
}


@pytest.mark.parametrize("what", NESTED)
@pytest.mark.parametrize("path", ["/step", "/reset", "/mcp", "/x/tasks"])
def test_a_body_nested_without_end_is_refused(server: Server, what: str, path: str) -> None:
    body = NESTED[what]
    head = request(server, f"POST {path}", JSON, CLOSE, f"content-length: {len(body)}")
    said = is_over(server.raw(head + body))

    assert status(said) in ((200,) if path == "/mcp" else (400, 422))


WAITING = {
    "silence": b"",
    "a letter": b"G",
    "a line": b"GET /health HTTP/1.1\r\n",
    "headers, but for the last line": b"GET /health HTTP/1.1\r\nHost: localhost\r\n",
    "a body without its last byte": b"POST /step HTTP/1.1\r\nHost: localhost\r\n"
    b"content-type: application/json\r\ncontent-length: 28\r\n\r\n" + STEP,
    "chunks without the last": b"POST /step HTTP/1.1\r\nHost: localhost\r\n"
    b"transfer-encoding: chunked\r\n\r\n1\r\nx\r\n",
    "a handshake without its end": HANDSHAKE.format(path="/ws", host="localhost", more="")[
        :-2
    ].encode(),
    "a promise of a body": b"POST /step HTTP/1.1\r\nHost: localhost\r\nexpect: 100-continue\r\n"
    b"content-length: 28\r\n\r\n",
    "half of a second request": b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /hea",
}


@pytest.mark.parametrize("what", WAITING)
def test_a_request_without_end_is_cut_off(server: Server, what: str) -> None:
    hostile = server.raw(WAITING[what])
    server.episode()
    is_over(hostile)


@pytest.mark.parametrize("length", [0, 64], ids=["header", "body"])
def test_a_request_that_drips_is_cut_off(server: Server, length: int) -> None:
    """Each byte is in time for any timeout that counts from the one before."""
    sent = request(server, "POST /step", JSON, f"content-length: {10**6}") if length else b""
    hostile = server.raw(sent)
    rest = iter(b" " * 10**6 if length else b"GET /" + b"a" * 10**6)
    hostile.settimeout(0.05)

    def is_cut() -> bool:
        try:
            hostile.sendall(bytes([next(rest)]))
            return hostile.recv(4096) == b""
        except TimeoutError:
            return False
        except ConnectionError:
            return True

    until(is_cut, "the end of a dripping client")
    hostile.close()


UPGRADES = {
    "a header that is too long for it": HANDSHAKE.format(
        path="/ws", host="{host}", more=f"x: {'y' * 10_000}\r\n"
    ),
    "more headers than it takes": HANDSHAKE.format(
        path="/ws", host="{host}", more="x: y\r\n" * 500
    ),
    "by POST": HANDSHAKE.format(path="/reset", host="{host}", more="").replace("GET", "POST"),
    "with a body": HANDSHAKE.format(path="/ws", host="{host}", more="content-length: 4\r\n")
    + "abcd",
    "without a key": HANDSHAKE.format(path="/ws", host="{host}", more="").replace(
        "Sec-WebSocket-Key", "x"
    ),
    "of another version": HANDSHAKE.format(path="/ws", host="{host}", more="").replace(
        "13", "7"
    ),
    "to another protocol": HANDSHAKE.format(path="/health", host="{host}", more="").replace(
        "Upgrade: websocket", "Upgrade: h2c"
    ).replace("GET", "PUT"),
}  # fmt: skip


@pytest.mark.parametrize("what", UPGRADES)
def test_a_handshake_that_is_none_leaves_nothing_behind(server: Server, what: str) -> None:
    """Uvicorn alone stumbled over some of these, and kept a connection that had ended."""
    hostile = server.raw(UPGRADES[what].format(host=server.address).encode())
    said = hostile.recv(65536) if what == "with a body" else is_over(hostile)
    hostile.close()

    assert status(said) in (0, 101, 400, 404, 405, 426)


@pytest.mark.parametrize("number", [3, 20_000])
def test_requests_in_one_go_are_answered_in_turn(server: Server, number: int) -> None:
    """However many a client sends ahead, the server reads no further than it answers."""
    one = request(server, "GET /health")
    before = server.held()["memory"]
    hostile = server.raw()
    hostile.settimeout(0.5)
    try:
        hostile.sendall(one * number)
    except (TimeoutError, ConnectionError):
        pass  # it is not read on
    server.episode()
    said = b""
    while said.count(b"healthy") < min(number, 3):
        said += hostile.recv(65536)
    hostile.close()

    assert server.held()["memory"] - before < 2**25


PATHS = [
    "/envs/../../etc/passwd", "/envs/..%2f..%2fetc/passwd", "/envs/%2e%2e/%2e%2e/state",
    "/envs/%00/state", "/envs/echo%00/state", "//envs//echo//state",
    "/envs/echo/../echo/state", "/%", "/%zz", "/envs/%ff%fe/state", "/envs/;/state",
    "/envs/echo/state/", "/envs/__class__/state", "/envs/" + "a" * 8000 + "/state", "*",
    "http://evil.example/envs/none/state", "/envs/ECHO/state", "/envs/.echo/state",
    "/?" + "&" * 8000,
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path[:40])
def test_absurd_paths_lead_nowhere(server: Server, path: str) -> None:
    said = is_over(server.raw(request(server, f"GET {path}", CLOSE)))
    shaken = HANDSHAKE.format(path=path, host=server.address, more="")
    refused = is_over(server.raw(shaken.encode()))

    assert status(said) in (307, 400, 404)
    assert b"root:" not in said
    assert status(refused) in (0, 400, 404, 403)


def test_a_client_that_has_gone_in_a_request_leaves_nothing(server: Server) -> None:
    """With a reset, as a killed process leaves it, at each point of a request."""
    whole = request(server, "POST /step", JSON, f"content-length: {len(STEP)}", body=STEP)
    for cut in range(1, len(whole), 7):
        hostile = server.raw(whole[:cut])
        hostile.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        hostile.close()


def test_the_honest_request_works(server: Server) -> None:
    """The control: a server that refused everything would pass most of these."""
    whole = request(
        server, "POST /step", JSON, CLOSE, f"content-length: {len(STEP)}", body=STEP
    )
    chunked = request(server, "POST /step", JSON, CLOSE, CHUNKED)
    chunked += b"".join(b"1\r\n%c\r\n" % byte for byte in STEP) + b"0\r\n\r\n"
    for sent in (whole, chunked):
        said = is_over(server.raw(sent))
        assert status(said) == 200
        assert json.loads(said.partition(b"\r\n\r\n")[2])["reward"] == 2.0
