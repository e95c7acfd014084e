"""Opening handshakes, right and wrong: RFC 6455, 4.1, 4.2 and 10.2; RFC 7692, 5.1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tests.door.websocket.lanes import LANES

KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # of RFC 6455's own example (1.3)
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
YES = (101,)
NO = tuple(range(400, 500))
BOTH = ("openenv", "native")
ENDED = 0  # instead of a status: the server has hung up without one


@dataclass(frozen=True)
class Handshake:
    """A handshake, by how it differs from an honest one.

    Args:
        name: in what.
        section: that decides it, of RFC 6455 unless it says another.
        statuses: with which the server may answer.
        headers: that are other than an honest client's; None for left out. `{host}` is the
            server's own address.
        more: further lines of the header, as they are.
        line: the first one; `{path}` is the lane's.
        behind: bytes behind the header, in the same segment.
        answered: headers that a refusal must have, in small letters.
        lanes: for which it is one.
    """

    name: str
    section: str
    statuses: tuple[int, ...]
    headers: dict[str, str | None] = field(default_factory=dict)
    more: tuple[str, ...] = ()
    line: str = "GET {path} HTTP/1.1"
    behind: bytes = b""
    answered: tuple[bytes, ...] = ()
    lanes: tuple[str, ...] = BOTH

    def request(self, way: str, host: str) -> bytes:
        """Return it as bytes."""
        lane = LANES[way]()
        honest: dict[str, str | None] = {
            "Host": "{host}",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": KEY,
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Protocol": "envhub.v1" if way == "native" else None,
        }
        said = {**honest, **self.headers}
        lines = [f"{name}: {value}" for name, value in said.items() if value is not None]
        text = "\r\n".join([self.line, *lines, *self.more, "", ""])
        whole = text.replace("{path}", lane.path).replace("{host}", host)
        return whole.encode("latin-1") + self.behind


def _yes(name: str, section: str, *more: str, **headers: str | None) -> Handshake:
    return Handshake(name, section, YES, _named(headers), more)


def _no(name: str, section: str, *more: str, **headers: str | None) -> Handshake:
    return Handshake(name, section, (*NO, ENDED), _named(headers), more)


def _free(name: str, section: str, *more: str, **headers: str | None) -> Handshake:
    return Handshake(name, section, (*YES, *NO, ENDED), _named(headers), more)


def _named(headers: dict[str, str | None]) -> dict[str, str | None]:
    names = {"key": "Sec-WebSocket-Key", "version": "Sec-WebSocket-Version"}
    return {names.get(name, name.title()): value for name, value in headers.items()}


def _spelt(name: str, spelling: Callable[[str], str]) -> Handshake:
    """Return one whose headers' names are written otherwise."""
    names = {
        "Host": "{host}",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": KEY,
        "Sec-WebSocket-Version": "13",
    }
    lines = tuple(f"{spelling(name)}: {value}" for name, value in names.items())
    return Handshake(name, "9110, 5.1: case-insensitive", YES, dict.fromkeys(names), lines)


def _line(name: str, section: str, line: str, *statuses: int) -> Handshake:
    return Handshake(name, section, statuses or (*NO, 501, 505, ENDED), line=line)


def _version(name: str, section: str, *more: str, version: str | None) -> Handshake:
    """Return one whose refusal must say which version there is (4.2.2, 4.4)."""
    return Handshake(
        name,
        section,
        (400, 426),
        {"Sec-WebSocket-Version": version},
        more,
        answered=(b"sec-websocket-version: 13",),
    )


AS_SHOULD_BE = [
    _yes("an honest handshake", "4.2"),
    _yes("Upgrade in other letters", "4.2.1, 3: case-insensitive", upgrade="WebSocket"),
    _yes("Connection in other letters", "4.2.1, 4: case-insensitive", connection="uPGRADE"),
    _yes("several words in Connection", "4.2.1, 4: includes", connection="keep-alive, Upgrade"),
    _yes("Upgrade last in Connection", "4.2.1, 4", connection="keep-alive,  foo ,upgrade"),
    _yes("Connection in two lines", "4.2.1, 4; 9110, 5.3", "Connection: keep-alive"),
    _spelt("names in small letters", str.lower),
    _spelt("names in capitals", str.upper),
    _yes("spaces around values", "9110, 5.5", "x-more:   1  \t", upgrade="  websocket  "),
    _yes("headers that nobody knows", "4.2.1, 10", "X-A: b", "Cookie: a=b; c=d", "X-Empty:"),
    _yes("letters beyond ASCII in a header", "9110, 5.5", "X-Name: caf\xe9"),
    _yes("its own page as Origin", "4.2.1, 7; 10.2", "Origin: http://{host}"),
    _free("more words in Upgrade", "4.2.1, 3: containing", upgrade="h2c, websocket"),
    _free(
        "Sec-WebSocket-Accept in a request",
        "11.3.3: only in a response",
        "Sec-WebSocket-Accept: " + ACCEPT.decode(),
    ),
]

LINES = [
    _line("POST", "4.1, 2; 4.2.1, 1: GET", "POST {path} HTTP/1.1"),
    _line("HEAD", "4.2.1, 1", "HEAD {path} HTTP/1.1", *NO, 501, ENDED),
    _line("OPTIONS", "4.2.1, 1", "OPTIONS {path} HTTP/1.1", 200, 204, *NO, 501, ENDED),
    _line("CONNECT", "4.2.1, 1", "CONNECT {path} HTTP/1.1"),
    _line("a method in small letters", "4.2.1, 1; 9110, 9.1", "get {path} HTTP/1.1"),
    _line("HTTP/1.0", "4.2.1, 1: 1.1 or higher", "GET {path} HTTP/1.0"),
    _line("HTTP/0.9", "4.2.1, 1", "GET {path} HTTP/0.9"),
    _line("HTTP/2.0", "4.2.1, 1", "GET {path} HTTP/2.0", *NO, 505, ENDED),
    _line("a line without a version", "4.2.1, 1", "GET {path}"),
    _line("no target", "4.2.1, 1", "GET  HTTP/1.1"),
    _line("another path", "4.2.2", "GET /no/such/path HTTP/1.1", *NO),
    _line("a path of HTTP alone", "4.2.2", "GET /healthz HTTP/1.1", 200, *NO),
    _line("a query", "3", "GET {path}?a=b&c=%20d HTTP/1.1", 101),
    _line(
        "the whole address as the target",
        "3; 9112, 3.2.2",
        "GET http://{host}{path} HTTP/1.1",
        101,
        *NO,
    ),
    _line("a space in the target", "9112, 3.2", "GET {path} x HTTP/1.1"),
    _line("a bare line feed", "9112, 2.2", "GET {path} HTTP/1.1\n", 101, *NO, ENDED),
]

HEADERS = [
    _no("no Host", "4.2.1, 2", host=None),
    _no("two of Host", "4.2.1, 2; 9112, 3.2", "Host: {host}"),
    _no("another Host", "4.2.1, 2; docs/protocol.md", host="evil.example"),
    _no("an empty Host", "4.2.1, 2", host=""),
    _no("no Upgrade", "4.2.1, 3", upgrade=None),
    _no("another Upgrade", "4.2.1, 3", upgrade="h2c"),
    _no("an Upgrade that only begins so", "4.2.1, 3", upgrade="websockets"),
    _no("an empty Upgrade", "4.2.1, 3", upgrade=""),
    _no("no Connection", "4.2.1, 4", connection=None),
    _no("another Connection", "4.2.1, 4", connection="close"),
    _no("a Connection that only contains the word", "4.2.1, 4", connection="no-upgrade-please"),
    _no("no key", "4.2.1, 5", key=None),
    _no("an empty key", "4.2.1, 5", key=""),
    _no("a key of 15 bytes", "4.2.1, 5: 16 bytes", key="AAAAAAAAAAAAAAAAAAAA"),
    _no("a key of 17 bytes", "4.2.1, 5", key="AAAAAAAAAAAAAAAAAAAAAAA="),
    _no("a key that is no base64", "4.2.1, 5", key="!!!!!!!!!!!!!!!!!!!!!!=="),
    _no("a key without its padding", "4.2.1, 5", key="dGhlIHNhbXBsZSBub25jZQ"),
    _no("two keys", "11.3.1: must not appear more than once", f"Sec-WebSocket-Key: {KEY}"),
    _no("two keys that differ", "11.3.1", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="),
    _no("two keys in one", "11.3.1", key=f"{KEY}, {KEY}"),
    _version("a version that is missing", "4.2.1, 6; 4.4", version=None),
    _version("an empty version", "4.4", version=""),
    _version("version 0", "4.4", version="0"),
    _version("version 8", "4.4", version="8"),
    _version("version 12", "4.4", version="12"),
    _version("version 14", "4.4", version="14"),
    _version("version 113", "4.4", version="113"),
    _version("version 013", "4.4; 4.3: no leading zero", version="013"),
    _version("versions 13 and 8", "4.1, 9: one", version="13, 8"),
    Handshake(
        "versions in two lines",
        "11.3.5: must not appear more than once",
        (400, 426),
        more=("Sec-WebSocket-Version: 8",),
    ),
    _no("a foreign page as Origin", "10.2; docs/protocol.md", "Origin: http://evil.example"),
    _no("no page as Origin", "10.2", "Origin: null"),
    _no(
        "a foreign page behind its own",
        "10.2",
        "Origin: http://{host}",
        "Origin: http://evil.example",
    ),
    _no("another port of ours as Origin", "10.2", "Origin: http://127.0.0.1:1"),
    _no("a space before a colon", "9112, 5.1", "X-A : b"),
    _no("a line that is no header", "9112, 5", "nonsense"),
    _no("a header without a name", "9112, 5", ": b"),
    _no("NUL in a header", "9110, 5.5", "X-A: a\0b"),
    _no("a bare return in a header", "9112, 2.2", "X-A: a\rb"),
    _free("a folded header", "9112, 5.2", "X-A: b\r\n c"),
    _no("a header of 64 KiB", "10.4; docs/decisions/0013", "X-A: " + "a" * 65_536),
    _no("headers of 64 KiB", "10.4; docs/decisions/0013", *["X-A: " + "a" * 58] * 1000),
    _free("a header of 9 KiB", "docs/decisions/0013", "X-A: " + "a" * 9000),
    _free("200 headers", "docs/decisions/0013", *["X-A: b"] * 200),
    _no(
        "both lengths of a body", "9112, 6.1", "Content-Length: 5", "Transfer-Encoding: chunked"
    ),
    _no("two lengths of a body", "9112, 6.3", "Content-Length: 5", "Content-Length: 6"),
    _no("a length of a body that is none", "9112, 6.3", "Content-Length: +5"),
]

_NATIVE = ("native",)
_OTHER: dict[str, str | None] = {"Sec-WebSocket-Protocol": "other"}
PROTOCOLS = [
    Handshake(
        "none, where one is needed",
        "docs/protocol.md",
        (400,),
        {"Sec-WebSocket-Protocol": None},
        lanes=_NATIVE,
    ),
    Handshake(
        "another, where one is needed", "docs/protocol.md", (400,), _OTHER, lanes=_NATIVE
    ),
    Handshake(
        "in capitals",
        "11.3.4; 4.2.2: a value, as it was sent",
        (400,),
        {"Sec-WebSocket-Protocol": "ENVHUB.V1"},
        lanes=_NATIVE,
    ),
    Handshake("an empty one", "4.3", (400,), {"Sec-WebSocket-Protocol": ""}, lanes=_NATIVE),
    Handshake(
        "several in a line",
        "4.2.1, 8",
        YES,
        {"Sec-WebSocket-Protocol": "other,envhub.v1 , more"},
        lanes=_NATIVE,
    ),
    Handshake(
        "several in lines",
        "11.3.4",
        YES,
        _OTHER,
        ("Sec-WebSocket-Protocol: envhub.v1",),
        lanes=_NATIVE,
    ),
    Handshake(
        "one that nobody knows, where none is needed",
        "4.2.2: null",
        YES,
        _OTHER,
        lanes=("openenv",),
    ),
    Handshake(
        "ours, where none is needed",
        "4.2.2",
        YES,
        {"Sec-WebSocket-Protocol": "envhub.v1"},
        lanes=("openenv",),
    ),
]


def _offer(name: str, *offers: str, statuses: tuple[int, ...] = YES) -> Handshake:
    lines = tuple(f"Sec-WebSocket-Extensions: {offer}" for offer in offers)
    return Handshake(name, "4.2.2, 9.1; 7692, 5.1; docs/protocol.md", statuses, more=lines)


EXTENSIONS = [
    _offer("deflate", "permessage-deflate"),
    _offer(
        "deflate with a window of the client's", "permessage-deflate; client_max_window_bits"
    ),
    _offer(
        "deflate with both windows",
        "permessage-deflate; client_max_window_bits=8; server_max_window_bits=8",
    ),
    _offer(
        "deflate without contexts",
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
    ),
    _offer(
        "several offers", "permessage-deflate; server_max_window_bits=9, permessage-deflate"
    ),
    _offer("several lines", "permessage-deflate", "x-webkit-deflate-frame"),
    _offer(
        "deflate with parameters that there are not",
        "permessage-deflate; foo=bar",
        "permessage-deflate; server_max_window_bits=99",
    ),
    _offer("an extension that nobody knows", "x-nothing; a=b"),
    _offer("no extension at all", ""),
    *(
        _offer(f"what is no list of extensions: {bad}", bad, statuses=(101, 400, ENDED))
        for bad in (",", ";", "a;=b", "permessage-deflate; ;", 'a; b="', "a b c")
    ),
]
