"""The two ways to speak to a session over a WebSocket, as far as a raw client needs them.

Neither server says back what it is told, but their `echo` environment does: a step that is
answered by the text it carried has come through whole, in its order.
"""

from __future__ import annotations

import json
import os
import struct
from typing import Any

import msgspec

from tests.door.websocket.frames import BINARY, TEXT


class Lane:
    """One way. It keeps count of what it asks, so each connection has one of its own.

    Attributes:
        path: of the handshake.
        headers: that the handshake needs beyond RFC 6455's.
        opcode: of its messages.
    """

    path: str
    headers: str = ""
    opcode: int

    def opening(self) -> bytes:
        """Return the message that begins an episode."""
        raise NotImplementedError

    def asking(self, text: str | bytes) -> bytes:
        """Return the message of a step that is answered by the text. Bytes may be any."""
        raise NotImplementedError

    def answers(self, message: bytes) -> list[str]:
        """Return the texts in a reply; what is no text of a step stands there in brackets."""
        raise NotImplementedError

    def sized(self, size: int) -> tuple[bytes, str]:
        """Return a step's message of exactly so many bytes, and its text."""
        least = len(self.asking(""))
        self.unask()
        assert size >= least, f"the shortest message has {least} bytes"
        text = "x" * (size - least)
        message = self.asking(text)
        assert len(message) == size
        return message, text

    def unask(self) -> None:
        """Take the last message back, which was never sent."""


class OpenEnv(Lane):
    """OpenEnv's: text, JSON, a session for the connection."""

    path = "/ws"
    opcode = TEXT

    def opening(self) -> bytes:
        return b'{"type":"reset","data":{"seed":1}}'

    def asking(self, text: str | bytes) -> bytes:
        said = text if isinstance(text, bytes) else json.dumps(text)[1:-1].encode()
        return b'{"type":"step","data":{"message":"%s"}}' % said

    def answers(self, message: bytes) -> list[str]:
        reply = json.loads(message)
        if reply["type"] != "observation":
            return [f"[{reply['type']} {reply['data'].get('code', '')}]"]
        return [reply["data"]["observation"]["message"]]


class Native(Lane):
    """Ours: binary, MessagePack, many sessions for the connection, of which this is one.

    Lengths and numbers are always written in their longest form: a message then grows by a
    byte when its text does.
    """

    path = "/v1/connect"
    headers = "Sec-WebSocket-Protocol: envhub.v1\r\n"
    opcode = BINARY

    def __init__(self) -> None:
        self._op = 1
        self._acked = 0

    def opening(self) -> bytes:
        opening = ["open", 1, os.urandom(16), "echo"]
        options = msgspec.msgpack.encode({"seed": 1})
        return msgspec.msgpack.encode([0, 0, [opening, ["reset", 1, 1, 0, options]]])

    def asking(self, text: str | bytes) -> bytes:
        said = text if isinstance(text, bytes) else text.encode()
        action = b"\x81\xa7message\xdb" + struct.pack("!I", len(said)) + said
        self._op += 1
        numbers = struct.pack("!BIBI", 0xCE, self._op, 0xCE, self._acked)
        step = b"\x95\xa4step\x01" + numbers + b"\xc6" + struct.pack("!I", len(action)) + action
        return b"\x93\x00\x00\x91" + step

    def unask(self) -> None:
        self._op -= 1

    def answers(self, message: bytes) -> list[str]:
        return [said for reply in msgspec.msgpack.decode(message) for said in self._said(reply)]

    def _said(self, reply: list[Any]) -> list[str]:
        match reply:
            case ["opened" | "process", *_]:
                return []
            case ["observed", _, op, payload, *_]:
                self._acked = op
                return [msgspec.msgpack.decode(payload)["message"]]
            case ["failed", _, _, code, *_]:
                return [f"[failed {code}]"]
        return [f"[{reply[0]}]"]


LANES: dict[str, type[Lane]] = {"openenv": OpenEnv, "native": Native}
