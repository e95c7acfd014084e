"""The library's reading of what a server sends, which also knows when it is between frames."""

from __future__ import annotations

from websockets.client import ClientProtocol
from websockets.http11 import Response

from envhub.wire import websocket


class Frames(websocket.Between, ClientProtocol):
    """A client's half of a WebSocket."""

    def process_response(self, response: Response) -> None:
        """Take the handshake's answer, and note what came with it."""
        super().process_response(response)
        self.left = len(self.reader.buffer)
