"""websockets' client connection, whose messages go straight to who waits for them.

The library's own way costs a call two tasks' turns and several locks. The handshake, pings,
the close and every frame that is not a whole message stay its own.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.client import ClientProtocol
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import OPEN, Event

from envhub.client.frames import Frames
from envhub.wire import websocket

_MASKS_BYTES = 4096  # drawn at once: asking the kernel for four bytes costs as much
_DATA = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)


def opened(
    url: str,
    hear: Callable[[str | bytes], None],
    has_room: Callable[[], None] = lambda: None,
    cut: Callable[[], None] = lambda: None,
    **settings: Any,
) -> Awaitable[Direct]:
    """Connect.

    Args:
        url: where.
        hear: told of every message.
        has_room: told when the server reads again.
        cut: told when the connection is no more.
        settings: of `websockets.asyncio.client.connect`, `max_size` among them.

    Raises: as that.
    """
    longest = settings["max_size"]

    def made(protocol: ClientProtocol, **options: Any) -> Direct:
        frames = Frames(
            protocol.uri, subprotocols=settings.get("subprotocols"), max_size=longest
        )
        return Direct(frames, hear, has_room, cut, longest, **options)

    connecting: Any = connect  # takes whatever makes one, too
    found: Awaitable[Direct] = connecting(url, create_connection=made, **settings)
    return found


class Direct(ClientConnection):
    """A connection that is not received from.

    Args: as `opened`, and the library's.
    """

    def __init__(
        self,
        protocol: Frames,
        hear: Callable[[str | bytes], None],
        has_room: Callable[[], None],
        cut: Callable[[], None],
        longest: int,
        **options: Any,
    ) -> None:
        super().__init__(protocol, **options)
        self._frames = protocol
        self._hear = hear
        self._has_room = has_room
        self._cut = cut
        self._longest = longest
        self._parts: list[Frame] = []  # of a message that is under way
        self._is_broken = False  # a text was none; what came behind it is not heard
        self._masks = b""
        self.is_full = False

    @property
    def is_open(self) -> bool:
        """Whether what is said may still reach somebody."""
        return self.protocol.state is OPEN and not self.transport.is_closing()

    def say(self, message: str | bytes) -> None:
        """Send a message; to nobody, if the connection is closed."""
        if not self.is_open:
            return
        if not self._masks:
            self._masks = os.urandom(_MASKS_BYTES)
        mask, self._masks = self._masks[:4], self._masks[4:]
        self.transport.write(websocket.written(message, mask))

    def data_received(self, data: bytes) -> None:
        """Take what has come."""
        if (
            len(data) <= self._longest
            and self._frames.is_between
            and self.protocol.state is OPEN
        ):
            message = websocket.read(data, masked=False)
            if message is not None:
                self._hear(message)
                return
        super().data_received(data)

    def process_event(self, event: Event) -> None:
        """Take a frame that the library has read."""
        if not isinstance(event, Frame) or event.opcode not in _DATA:
            super().process_event(event)
            return
        self._parts.append(event)
        if event.fin and not self._is_broken:
            parts, self._parts = self._parts, []
            data = b"".join(part.data for part in parts)
            try:
                message = data.decode() if parts[0].opcode is Opcode.TEXT else data
            except UnicodeDecodeError:
                self._is_broken = True
                self.protocol.fail(CloseCode.INVALID_DATA)
                self.transport.write(b"".join(self.protocol.data_to_send()))
                self.transport.close()
                return
            self._hear(message)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that nothing more will come."""
        super().connection_lost(exc)
        self._cut()

    def pause_writing(self) -> None:
        """Note that the server does not read."""
        self.is_full = True
        super().pause_writing()

    def resume_writing(self) -> None:
        """Note that it does."""
        self.is_full = False
        super().resume_writing()
        self._has_room()
