"""A WebSocket to a hub for a program without an event loop: its thread writes and reads it.

The library speaks, but for the frame that nearly every message is.
"""

from __future__ import annotations

import os
import socket
import ssl
import time
from collections import deque
from typing import Any

from websockets.exceptions import WebSocketException
from websockets.frames import Opcode
from websockets.protocol import CONNECTING, OPEN
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from envhub.client import speech
from envhub.client.frames import Frames
from envhub.client.native.address import Address, refusal
from envhub.client.native.line import MAX_REPLY_BYTES, NOT_AGAIN
from envhub.errors import RemoteProtocolError
from envhub.wire import native, websocket

_READ_BYTES = 64 * 1024
_SEND_S = 60.0  # a hub that takes nothing for so long is as good as gone


class Cut(ConnectionError):
    """The connection has ended."""


class Dialled:
    """An open connection. Blocking; not for two threads at once.

    Args:
        address: of the hub.

    Raises:
        ConnectionLost: nobody answers there.
        UsageError: the hub refuses us.
    """

    def __init__(self, address: Address) -> None:
        self._protocol = Frames(
            parse_uri(address.url),
            subprotocols=[Subprotocol(native.VERSION)],
            max_size=MAX_REPLY_BYTES,
        )
        self._messages: deque[bytes] = deque()
        self._parts: list[bytes] = []
        try:
            self._socket = self._connected(address)
        except (*speech.NO_CONNECTION, WebSocketException) as error:
            raise refusal(address.url, error) from None

    def _connected(self, address: Address) -> socket.socket:
        protocol, until = self._protocol, time.monotonic() + address.connect_timeout_s
        uri = protocol.uri
        made = socket.create_connection((uri.host, uri.port), address.connect_timeout_s)
        try:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if uri.secure:
                context = ssl.create_default_context()
                made = context.wrap_socket(made, server_hostname=uri.host)
            request = protocol.connect()
            request.headers.update(address.headers)
            protocol.send_request(request)
            made.sendall(b"".join(protocol.data_to_send()))
            while protocol.state is CONNECTING and protocol.handshake_exc is None:
                made.settimeout(max(until - time.monotonic(), 0.001))
                if data := made.recv(_READ_BYTES):
                    protocol.receive_data(data)
                else:
                    protocol.receive_eof()
            if protocol.handshake_exc is not None:
                raise protocol.handshake_exc
        except BaseException:
            made.close()
            raise
        for event in protocol.events_received()[1:]:  # the first is the handshake's
            self._take(event)
        return made

    def send(self, message: bytes) -> None:
        """Send a message.

        Raises:
            OSError: the connection is cut.
        """
        self._socket.settimeout(_SEND_S)
        frame = websocket.written(message, os.urandom(4))
        if frame is not None:
            self._socket.sendall(frame)
        else:
            self._protocol.send_binary(message)
            self._flush()

    def ping(self) -> None:
        """Have the hub say something.

        Raises:
            OSError: the connection is cut.
        """
        self._protocol.send_ping(b"")
        self._flush()

    def receive(self, at_most_s: float) -> bytes | None:
        """Return the next message; None if something else has come, or a part of it.

        Raises:
            TimeoutError: nothing came in time.
            OSError: the connection is cut.
            RemoteProtocolError: the hub has refused what we said, or says nothing of ours.
        """
        if self._messages:
            return self._messages.popleft()
        self._socket.settimeout(at_most_s)
        data = self._socket.recv(_READ_BYTES)
        if self._protocol.is_between:
            said = websocket.read(data, masked=False)
            if isinstance(said, bytes):
                return said
        self._feed(data)
        return self._messages.popleft() if self._messages else None

    def _feed(self, data: bytes) -> None:
        protocol = self._protocol
        if data:
            protocol.receive_data(data)
        else:
            protocol.receive_eof()
        for event in protocol.events_received():
            self._take(event)
        self._flush()
        if protocol.state is not OPEN and not self._messages:
            closed = protocol.close_rcvd
            if closed is not None and closed.code in NOT_AGAIN:
                raise RemoteProtocolError(f"the hub did not take it: {closed.reason}")
            raise Cut("the hub has hung up")

    def _take(self, event: Any) -> None:
        if event.opcode is Opcode.TEXT:
            raise RemoteProtocolError("a text frame, where all are binary")
        if event.opcode in (Opcode.BINARY, Opcode.CONT):
            self._parts.append(bytes(event.data))
            if event.fin:
                self._messages.append(b"".join(self._parts))
                self._parts.clear()

    def _flush(self) -> None:
        """Send what the library has to say by itself: the answer to a ping, a goodbye."""
        if data := b"".join(self._protocol.data_to_send()):
            self._socket.settimeout(_SEND_S)
            self._socket.sendall(data)

    def close(self) -> None:
        """Hang up. Idempotent."""
        try:
            if self._protocol.state is OPEN:
                self._protocol.send_close(1000)
                self._flush()
        except OSError:
            pass
        finally:
            self._socket.close()

    def drop(self) -> None:
        """Be gone without a word, as in a fork: the connection may be another's. Idempotent."""
        self._socket.close()
