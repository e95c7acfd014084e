"""A WebSocket to a hub for a program without an event loop: its threads write and read it.

The library speaks, but for the frame that nearly every message is.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import threading
import time
from collections import deque
from contextlib import suppress
from math import ceil
from typing import Any

from websockets.exceptions import WebSocketException
from websockets.frames import Close, CloseCode, Frame, Opcode
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
# Python does not run the handler of a signal that came just before the thread began to wait
NOTICE_S = 0.5
_MASKS_BYTES = 4096  # drawn at once: asking the kernel for four bytes costs as much
_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Cut(ConnectionError):
    """The connection has ended."""


class Dialled:
    """An open connection. Any thread may send, without waiting; one at a time receives.

    Args:
        address: of the hub.

    Raises:
        ConnectionLost: nobody answers there.
        UsageError: the hub refuses us.
    """

    def __init__(self, address: Address) -> None:
        self._owner = os.getpid()
        self._protocol = Frames(
            parse_uri(address.url),
            subprotocols=[Subprotocol(native.VERSION)],
            max_size=MAX_REPLY_BYTES,
        )
        self._messages: deque[bytes] = deque()
        self._parts: list[bytes] = []
        self._masks = b""
        self._sending = threading.RLock()  # TLS has no room for two threads at once
        self._unsent: deque[bytes | memoryview] = deque()
        self._is_received = self._is_dropped = False
        try:
            self._socket = self._connected(address)
        except (*speech.NO_CONNECTION, WebSocketException) as error:
            raise refusal(address.url, error) from None
        self._is_secure = isinstance(self._socket, ssl.SSLSocket)
        self._socket.setblocking(False)
        self._polled = select.poll()
        self._polled.register(self._socket, select.POLLIN)

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

    # ------------------------------------------------------------ sending

    def send(self, message: bytes) -> None:
        """Send a message, or as much of it as the hub takes now: see `is_behind`.

        Raises:
            OSError: the connection is cut.
        """
        with self._sending:
            if not self._masks:
                self._masks = os.urandom(_MASKS_BYTES)
            mask, self._masks = self._masks[:4], self._masks[4:]
            self._unsent.append(websocket.written(message, mask))
            self._send_on()

    def ping(self) -> None:
        """Have the hub say something. For who receives.

        Raises:
            OSError: the connection is cut.
        """
        self._protocol.send_ping(b"")
        self._flush()

    @property
    def is_behind(self) -> bool:
        """Whether there is something left to send."""
        return bool(self._unsent)

    def send_on(self, at_most_s: float) -> None:
        """Send more of what is left, once the hub takes it. Also while another thread receives.

        Raises:
            OSError: the connection is cut.
        """
        taking = select.poll()
        with self._sending:
            self._check()
            taking.register(self._socket, select.POLLOUT)
        taking.poll(ceil(at_most_s * 1000))
        with self._sending:
            self._send_on()

    def _send_on(self) -> None:
        self._check()
        unsent = self._unsent
        with suppress(*_NOT_NOW):
            while unsent:
                sent = self._socket.send(unsent[0])
                if sent < len(unsent[0]):
                    unsent[0] = memoryview(unsent[0])[sent:]
                else:
                    unsent.popleft()

    def _flush(self) -> None:
        """Send what the library has to say by itself: the answer to a ping, a goodbye."""
        if data := b"".join(self._protocol.data_to_send()):
            with self._sending:
                self._unsent.append(data)
                self._send_on()

    # ------------------------------------------------------------ receiving

    def receive(self, at_most_s: float) -> bytes | None:
        """Return the next message; None if something else has come, or a part of it.

        Raises:
            TimeoutError: nothing came in time.
            OSError: the connection is cut.
            RemoteProtocolError: the hub has refused what we said, or says nothing of ours.
        """
        if self._messages:
            return self._messages.popleft()
        self._is_received = True
        try:
            self._check()
            data = self._read(at_most_s)
        finally:
            self._is_received = False
            if self._is_dropped:
                self._socket.close()
        if data is None:
            return None
        if self._protocol.is_between:
            said = websocket.read(data, masked=False)
            if isinstance(said, bytes):
                return said
        self._feed(data)
        return self._messages.popleft() if self._messages else None

    def _read(self, at_most_s: float) -> bytes | None:
        if self._is_secure:  # it may have read ahead what poll knows nothing of
            with self._sending, suppress(*_NOT_NOW):
                return self._socket.recv(_READ_BYTES)
        is_behind = self.is_behind
        if is_behind:
            self._polled.modify(self._socket, select.POLLIN | select.POLLOUT)
        try:
            while not self._polled.poll(ceil(min(at_most_s, NOTICE_S) * 1000)):
                at_most_s -= NOTICE_S
                if at_most_s <= 0:
                    raise TimeoutError
        finally:
            if is_behind:
                self._polled.modify(self._socket, select.POLLIN)
        if is_behind:
            with self._sending:
                self._send_on()
        try:
            if not self._is_secure:
                return self._socket.recv(_READ_BYTES)
            with self._sending:
                return self._socket.recv(_READ_BYTES)
        except _NOT_NOW:
            return None

    def _feed(self, data: bytes) -> None:
        protocol = self._protocol
        if data:
            protocol.receive_data(data)
        else:
            protocol.receive_eof()
        for event in protocol.events_received():
            self._take(event)
        with suppress(OSError):  # first what it has said, and why it hung up
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

    # ------------------------------------------------------------ the end

    def _check(self) -> None:
        if self._is_dropped:
            raise Cut("the connection was dropped")

    def close(self) -> None:
        """Hang up. Idempotent."""
        goodbye = Frame(Opcode.CLOSE, Close(CloseCode.NORMAL_CLOSURE, "").serialize())
        with suppress(OSError), self._sending:
            self._unsent.append(goodbye.serialize(mask=True))
            self._send_on()
        self.drop()

    def drop(self) -> None:
        """Be gone without a word: the connection may be another's, as in a fork. Idempotent.

        Who receives is woken up, and has ended it when it is.
        """
        self._is_dropped = True
        if os.getpid() != self._owner:
            self._socket.close()
            return
        with self._sending:  # or what another thread sends would go to who has the number next
            if not self._is_received:
                self._socket.close()
                return
            with suppress(OSError):  # the library's own would end TLS while it is read
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
