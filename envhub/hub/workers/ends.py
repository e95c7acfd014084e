"""The sockets and pipes between the hub and one new session process, and its first word."""

from __future__ import annotations

import asyncio
import os
import select
import socket

import msgspec

from envhub.errors import RemoteProtocolError, WorkerStartFailed
from envhub.hub.workers.packets import HELLOS
from envhub.wire.framing import FrameBuffer
from envhub_sandbox import LayerFailed

_HELLO_BYTES = 64 * 1024


class Ends:
    """Our ends, and those that the zygote hands to the child. None is there before `open`.

    Args:
        broker: also make the socket on which it asks for agent sandboxes.
        uid: the spare user that it runs as; -1 if it runs as we do.
    """

    channel: socket.socket

    def __init__(self, *, broker: bool, uid: int) -> None:
        self._open: list[socket.socket] = []
        self.output = self._write = -1
        self.broker: socket.socket | None = None
        self._wants_broker = broker
        self._uid = uid

    def open(self) -> list[int]:
        """Open them; return those to hand over. Whatever comes of it, `close` closes them.

        Raises:
            OSError: there is no descriptor left.
        """
        self.channel, theirs = self._pair(socket.SOCK_STREAM)
        self.channel.setblocking(False)
        self.output, self._write = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.output, False)
        if self._uid >= 0:  # or /dev/stdout could not be opened by name in there
            os.fchown(self._write, self._uid, self._uid)
        handed = [theirs.fileno(), self._write]
        if self._wants_broker:
            self.broker, theirs = self._pair(socket.SOCK_SEQPACKET)
            handed.append(theirs.fileno())
        return handed

    def close_theirs(self) -> None:
        """Close what has been handed over. Idempotent."""
        for end in self._open[1::2]:
            end.close()
        if self._write >= 0:
            os.close(self._write)
            self._write = -1

    def close(self) -> None:
        """Close everything. Idempotent."""
        self.close_theirs()
        for end in self._open:
            end.close()
        if self.output >= 0:
            os.close(self.output)
            self.output = -1

    def _pair(self, kind: socket.SocketKind) -> tuple[socket.socket, socket.socket]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
        self._open += [ours, theirs]
        return ours, theirs


def has_hung_up(channel: socket.socket) -> bool:
    """Whether the other side is gone. An empty read does not say so: packets may be empty."""
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    return any(events & select.POLLHUP for _, events in poll.poll(0))


async def hear_hello(channel: socket.socket, name: str, deadline_s: float) -> tuple[str, ...]:
    """Return the layers that a new process says are around it.

    Raises:
        LayerFailed: it could not build one.
        WorkerStartFailed: it ended, or said nothing in time, or no hello.
    """
    process = f"a session process of `{name}`"
    undecodable = (msgspec.DecodeError, ValueError, RecursionError)  # text that is no UTF-8
    frames = FrameBuffer(max_bytes=_HELLO_BYTES)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(deadline_s):
            while (frame := frames.next_frame()) is None:
                data = await loop.sock_recv(channel, _HELLO_BYTES)
                if not data:
                    raise WorkerStartFailed(f"{process} ended before it was isolated")
                frames.receive_data(data)
        hello = HELLOS.decode(frame)
        if len(frames):
            raise RemoteProtocolError("bytes after the hello")
    except TimeoutError:
        raise WorkerStartFailed(f"{process} was not isolated in {deadline_s:g} s") from None
    except (RemoteProtocolError, OSError, *undecodable) as error:
        raise WorkerStartFailed(f"{process}: {error}") from error
    if hello.failed is not None:
        raise LayerFailed(*hello.failed)
    return hello.layers or ()
