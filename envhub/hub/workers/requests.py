"""What is asked of a zygote, in order. Its socket holds some two hundred requests."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable


class Requests:
    """Sends them, each when there is room for it.

    Args:
        control: the socket to the zygote; not blocking, and not ours to close.
    """

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._loop = asyncio.get_running_loop()
        self._turn = asyncio.Lock()  # or a thousand would try whenever there is room for one
        self._room: asyncio.Future[None] | None = None
        self._stopped = False

    async def send(self, packet: bytes, opening: Callable[[], list[int]]) -> None:
        """Send one, with descriptors.

        Args:
            packet: says what is asked.
            opening: opens the descriptors, when it is the turn of this one: if thousands held
                theirs while they wait, there might be none left.

        Raises:
            OSError: the zygote is gone; and what `opening` raises.
        """
        async with self._turn:
            handed = [] if self._stopped else opening()
            while not self._stopped:
                try:
                    socket.send_fds(self._control, [packet], handed)
                    return
                except BlockingIOError:
                    await self._wait_for_room()
        raise BrokenPipeError

    def stop(self) -> None:
        """Send no more: the socket is about to be closed. Idempotent."""
        self._stopped = True
        self._note_room()

    async def _wait_for_room(self) -> None:
        self._room = self._loop.create_future()
        self._loop.add_writer(self._control.fileno(), self._note_room)
        try:
            await self._room
        finally:
            self._note_room()

    def _note_room(self) -> None:
        room, self._room = self._room, None
        if room is not None:
            self._loop.remove_writer(self._control.fileno())
            if not room.done():
                room.set_result(None)
