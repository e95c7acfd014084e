"""Plays one conversation with a server, and keeps every reply as the text that came."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from http.client import HTTPConnection

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

DEADLINE_S = 90.0  # of one reply; an author may wait 30 s for what is not there
JSON = "application/json"
SESSION = "$SESSION"  # in a request: the id of the session that was last created
_MOST_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Ask:
    """One HTTP request, on a connection of its own."""

    method: str
    path: str
    body: str | None = None
    content_type: str | None = JSON


@dataclass(frozen=True, slots=True)
class Open:
    """Connect a WebSocket; what the server says unasked is the reply to the first `Say`."""

    path: str = "/ws"
    name: str = "a"


@dataclass(frozen=True, slots=True)
class Say:
    """Send a frame, and take one reply: a frame, or the end of the connection."""

    frame: str | bytes
    name: str = "a"


@dataclass(frozen=True, slots=True)
class Settle:
    """Close the WebSockets, and wait until the server has a place for another session.

    OpenEnv's frees it at some time after the client has left. Leaves no reply.
    """


Move = Ask | Open | Say | Settle


@dataclass(frozen=True, slots=True)
class Talk:
    """A conversation: some moves under a name."""

    name: str
    moves: tuple[Move, ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """What one move brought.

    Args:
        talk: the conversation's name.
        label: the conversation, the number of the move, and the move, for people.
        text: status, content type and body; or a frame; or how the connection ended.
    """

    talk: str
    label: str
    text: str


def play(address: str, talks: Sequence[Talk]) -> list[Reply]:
    """Return the replies of the server at `address`, in order."""
    host = address.removeprefix("http://")
    replies: list[Reply] = []
    for talk in talks:
        with ExitStack() as stack:
            replies += _Player(host, talk, stack).replies()
    return replies


class _Player:
    """One conversation under way."""

    def __init__(self, host: str, talk: Talk, stack: ExitStack) -> None:
        self._host = host
        self._talk = talk
        self._stack = stack
        self._open: dict[str, ClientConnection] = {}
        self._session = "none"

    def replies(self) -> Iterator[Reply]:
        for number, move in enumerate(self._talk.moves):
            talk = self._talk.name
            label = f"{talk} {number:02}: "
            match move:
                case Ask(method, path, body):
                    text = self._ask(move)
                    yield Reply(talk, f"{label}{method} {path} {(body or '')[:120]}", text)
                case Open(path, name):
                    url = f"ws://{self._host}{path.replace(SESSION, self._session)}"
                    self._open[name] = self._stack.enter_context(
                        connect(url, proxy=None, max_size=_MOST_BYTES, close_timeout=5)
                    )
                case Say(frame, name) if name in self._open:
                    yield Reply(talk, f"{label}{name} {frame[:120]!r}", self._say(frame, name))
                case Say(frame, name):
                    yield Reply(
                        talk, f"{label}{name} {frame[:120]!r}", "not sent: it was closed"
                    )
                case Settle():
                    self._settle()

    def _ask(self, move: Ask) -> str:
        connection = HTTPConnection(self._host, timeout=DEADLINE_S)
        try:
            headers = {} if move.content_type is None else {"content-type": move.content_type}
            body = move.body and move.body.replace(SESSION, self._session).encode()
            connection.request(move.method, move.path, body, headers)
            response = connection.getresponse()
            text = response.read().decode()
            self._note(text)
            return f"{response.status} {response.getheader('content-type', '-')} {text}"
        finally:
            connection.close()

    def _say(self, frame: str | bytes, name: str) -> str:
        websocket = self._open[name]
        if isinstance(frame, str):
            frame = frame.replace(SESSION, self._session)
        with suppress(ConnectionClosed):  # what was said before the end can still be read
            websocket.send(frame)
        try:
            reply = websocket.recv(timeout=DEADLINE_S)
        except ConnectionClosed as end:
            del self._open[name]
            code = end.rcvd.code if end.rcvd else "without a word"
            return f"closed {code}"
        assert isinstance(reply, str), "OpenEnv's protocol has no binary frames"
        self._note(reply)
        return reply

    def _note(self, text: str) -> None:
        """Remember the id of a session that a reply is about to give us."""
        with suppress(ValueError, KeyError, TypeError, AttributeError):
            reply = json.loads(text)
            self._session = reply.get("data", reply)["result"]["session_id"]

    def _settle(self) -> None:
        self._stack.close()
        self._open.clear()
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            text = self._ask(_rpc("openenv/session/create"))
            if '"result"' in text:
                self._ask(_rpc("openenv/session/close", session_id=SESSION))
                return
            time.sleep(0.05)
        raise AssertionError(f"no place became free: {text}")


def _rpc(method: str, **params: str) -> Ask:
    request = {"jsonrpc": "2.0", "method": method, "params": params, "id": 0}
    return Ask("POST", "/mcp", json.dumps(request))
