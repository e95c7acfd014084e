"""What a page in a browser can say of where it comes from, and to whom it believes to speak."""

from __future__ import annotations

import pytest

from tests.door.hostile.arena import HANDSHAKE, Server, is_over
from tests.door.hostile.test_requests import CLOSE, request, status

FOREIGN_HOSTS = [
    "evil.example", "evil.example:{port}", "127.0.0.1.evil.example", "localhost.evil.example",
    "127.0.0.1.nip.io", "localtest.me", "127.0.0.1@evil.example", "evil.example@127.0.0.1@evil",
    "evil.example#127.0.0.1", "evil.example/127.0.0.1", "evil.example\\127.0.0.1",
    "evil.example?127.0.0.1", "0.0.0.0", "[::]", "[::ffff:10.0.0.1]", "10.0.0.1", "2130706433",
    "0x7f.1", "0177.0.0.1", "127.1", "[::1", "::1]", "[]", "", "localhost evil.example",
    "localhost,evil.example", "localhost.", "127.0.0.1.", "LOCALHOST.EVIL.EXAMPLE",
    "xn--localhost", "evil.example@127.0.0.1", "@localhost", "a:b@localhost:{port}",
    "[fe80::1%25lo]", "[127.0.0.1]",
]  # fmt: skip
FOREIGN_ORIGINS = [
    "null", "http://evil.example", "http://evil.example:{port}", "http://127.0.0.1",
    "http://127.0.0.1:1", "http://127.0.0.1:{port}.evil.example", "file://", "about:blank",
    "http://evil.example@127.0.0.1:{port}", "http://127.0.0.1:{port}@evil.example",
    "chrome-extension://abc", "http://localhost:{port}", "http://127.0.0.1:{port}:1",
    "http://[::1]:{port}", "127.0.0.1:{port}", "", "http://127.0.0.1:{port}, http://evil.example",
    "http://127.0.0.1.:{port}", "http://[127.0.0.1]:{port}", "http://[::1",
]  # fmt: skip


def asked(server: Server, *headers: str, host: str | None = None) -> tuple[int, int]:
    """Return what a request and a WebSocket's handshake with these headers are answered."""
    plain = request(server, "POST /reset", CLOSE, "content-length: 0", *headers, host=host)
    name = server.address if host is None else host
    more = "".join(f"{header}\r\n" for header in headers)
    shaken = HANDSHAKE.format(path="/ws", host=name, more=more).encode()
    hostile = server.raw(shaken)
    replied = status(hostile.recv(65536))
    hostile.close()
    return status(is_over(server.raw(plain))), replied


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
def test_another_name_for_us_is_not_ours(server: Server, host: str) -> None:
    port = server.host[1]

    assert {*asked(server, host=host.format(port=port))} <= {400, 403}


@pytest.mark.parametrize("origin", FOREIGN_ORIGINS)
def test_a_page_from_elsewhere_is_refused(server: Server, origin: str) -> None:
    port = server.host[1]

    assert asked(server, f"origin: {origin.format(port=port)}") == (403, 403)


def test_two_origins_are_refused_if_one_is_foreign(server: Server) -> None:
    ours = f"origin: http://{server.address}"

    assert asked(server, ours, "origin: http://evil.example") == (403, 400)
    assert asked(server, "origin: http://evil.example", ours) == (403, 400)


@pytest.mark.parametrize(
    "header", ["x-forwarded-host: 127.0.0.1", "x-host: 127.0.0.1", "forwarded: host=127.0.0.1"]
)
def test_no_other_header_says_who_we_are(server: Server, header: str) -> None:
    assert asked(server, header, host="evil.example") == (403, 403)


def test_a_whole_url_in_the_request_line_does_not_replace_the_host(server: Server) -> None:
    """RFC 9112 would have the server believe the line. It believes neither."""
    line = f"GET http://{server.address}/health"
    plain = request(server, line, CLOSE, host="evil.example")

    assert status(is_over(server.raw(plain))) == 403


@pytest.mark.parametrize("host", ["localhost:{port}", "127.0.0.1", "[::1]:{port}", "LocalHost"])
def test_our_own_names_are_ours(server: Server, host: str) -> None:
    """The control."""
    name = host.format(port=server.host[1])

    assert asked(server, host=name) == (200, 101)
    assert asked(server, f"origin: http://{name}", host=name) == (200, 101)
