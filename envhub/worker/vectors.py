"""Many environments in one session process: a batch in, a batch out, through shared memory.

What is hosted is one of two: environments of Gymnasium's, one by one (`several.py`), or an
author's own class that steps them all at once (`whole.py`).
"""

from __future__ import annotations

import mmap
import os
import socket
import sys
import time
from typing import Any

from envhub.errors import LocalProtocolError
from envhub.wire.framing import HEADER, FrameBuffer, encode_frame
from envhub.wire.messages import Close, Closed, Gather, Message, decode, encode
from envhub.wire.vector import (
    ANSWERED,
    ASKED,
    VECTOR_REQUESTS,
    Answered,
    Ask,
    ResetBatch,
    Share,
    Shared,
    StepBatch,
    VectorRequest,
)
from envhub.worker.answer import Answering, failed
from envhub.worker.several import Several
from envhub.worker.whole import Whole

_READ_BYTES = 64 * 1024
# a wake-up costs half of it, and so does all that our caller does between two batches
_SPIN_S = 100e-6
_SOON_S = 150e-6  # what waits for less, a wake-up included, might have been spun for
_NUMBER_BYTES = 8


def serve(hub: socket.socket, answering: Answering, gather: Gather) -> None:
    """Answer the hub until it hangs up."""
    hosted = _Hosted(answering)
    request: Gather | VectorRequest = gather
    frames = _Frames(hub)
    flush, send, clock = sys.stdout.flush, hub.sendall, time.perf_counter
    soon = True  # the next request came soon after the last reply
    while True:
        try:
            reply = hosted.answer(request, frames)
        except BaseException as error:
            reply = failed(request.op, error)
        flush()
        send(_framed(reply, answering.frame_bytes))
        hosted.answered(request.op)
        if isinstance(request, Close):
            return
        since = clock()
        if soon:
            hosted.spin(request.op, since + _SPIN_S)
        frame = frames.next()
        soon = clock() - since < _SOON_S
        if frame is None:
            return
        request = decode(VECTOR_REQUESTS, frame)


def _framed(reply: Message, most_bytes: int) -> bytes:
    try:
        return encode_frame(encode(reply), max_bytes=most_bytes)
    except LocalProtocolError as error:
        number: int = reply.op  # type: ignore[attr-defined]
        return encode_frame(encode(failed(number, ValueError(f"the infos: {error}"))))


class _Frames:
    """The hub's frames, and the one descriptor that comes with them."""

    def __init__(self, hub: socket.socket) -> None:
        self._hub = hub
        self._buffer = FrameBuffer()
        self._handed: list[int] = []
        self.takes_descriptors = True  # it costs half a microsecond

    def next(self) -> bytes | bytearray | None:
        """Wait for a frame; None when the hub has hung up."""
        while (frame := self._buffer.next_frame()) is None:
            if self.takes_descriptors:
                data, handed, _, _ = socket.recv_fds(self._hub, _READ_BYTES, 1)
                self._handed += handed
            else:
                data = self._hub.recv(_READ_BYTES)
                # as a rule it is one, and whole
                if not len(self._buffer) and data[:4] == HEADER.pack(len(data) - 4):
                    return data[4:]
            if not data:
                return None
            self._buffer.receive_data(data)
        return frame

    def descriptor(self) -> int:
        """Return the descriptor that came, which is its taker's to close; -1 for none."""
        return self._handed.pop() if self._handed else -1


class _Hosted:
    """What this process hosts, and the memory that it shares with the hub.

    Args:
        answering: knows the class.
    """

    def __init__(self, answering: Answering) -> None:
        self._class = answering.environment_class
        self._envs: Several | Whole | None = None
        self._memory: mmap.mmap | None = None
        self._asked: Any = None  # the number of the hub's last call, where it may be seen
        self._answered: Any = None

    def answer(self, request: Gather | VectorRequest, frames: _Frames) -> Message:
        """Return the reply to one request. Raises what an environment does in a reset."""
        envs = self._envs
        if envs is None:
            if not isinstance(request, Gather):
                raise LocalProtocolError("no environments are there")
            kind = Whole if request.whole else Several
            self._envs = kind(self._class, request)
            return self._envs.gathered(request.op)
        match request:
            case StepBatch():
                return envs.step(request)
            case ResetBatch():
                return envs.reset(request)
            case Share():
                return self._share(envs, request, frames)
            case Ask():
                return Answered(request.op, envs.ask(request))
            case Close():
                envs.close()
                return Closed(request.op)
            case _:
                raise LocalProtocolError("the environments are there already")

    def answered(self, op: int) -> None:
        """Say so where the hub looks before it waits."""
        if self._memory is not None:
            self._answered[0] = op

    def spin(self, op: int, until: float) -> None:
        """Look for the next request for a moment, so that it need not wake us up."""
        asked, clock, give_way = self._asked, time.perf_counter, os.sched_yield
        if self._memory is None:
            return
        while asked[0] == op and clock() < until:
            give_way()

    def _share(self, envs: Several | Whole, request: Share, frames: _Frames) -> Shared:
        descriptor = frames.descriptor()
        if descriptor < 0 or self._memory is not None:
            raise LocalProtocolError("a Share out of turn")
        try:
            memory = mmap.mmap(descriptor, request.layout.size_bytes)
        finally:
            os.close(descriptor)
        self._asked, self._answered = (
            memoryview(memory)[at : at + _NUMBER_BYTES].cast("Q") for at in (ASKED, ANSWERED)
        )
        envs.share(memory, request)
        frames.takes_descriptors = False
        self._memory = memory
        return Shared(request.op)
