"""A session process: one environment, one request in, one reply out, until the hub hangs up.

An environment with ordinary methods runs in a blocking loop on one thread, constructor and
close included. One with `async` methods runs on an event loop that keeps running between the
calls; its ordinary methods have one thread beside it. Either way requests are answered one
at a time, in order.
"""

from __future__ import annotations

import inspect
import os
import socket
import sys

from envhub.authoring import agent
from envhub.authoring.schema import Signature
from envhub.errors import RemoteProtocolError
from envhub.wire.framing import MAX_FRAME_BYTES, FrameBuffer
from envhub.wire.messages import REQUESTS, Close, decode
from envhub.worker.answer import Answering, framed

_READ_BYTES = 64 * 1024  # larger reads cost more than they save, measured 4x at small frames


def run(
    environment: type,
    signature: Signature,
    descriptors: list[int],
    frame_bytes: int = MAX_FRAME_BYTES,
) -> None:
    """Serve the hub on the first descriptor; the third, if there, asks it for agents.

    Args:
        environment: the author's class.
        signature: of it.
        descriptors: of this session.
        frame_bytes: longest reply; one that is longer is an error of the environment.
    """
    hub = socket.socket(fileno=descriptors[0])
    if len(descriptors) > 2:
        agent.connect(socket.socket(fileno=descriptors[2]))
    _reseed()
    try:
        if is_async(environment):
            from envhub.worker import loop  # asyncio costs a megabyte; most do without

            loop.run(hub, Answering(environment, signature), frame_bytes)
        else:
            _serve(hub, Answering(environment, signature), frame_bytes)
    except (RemoteProtocolError, ConnectionError) as error:
        print(f"envhub: the hub's side of the session broke: {error}", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # no atexit, no finalisers: the session is over, and this is a fork


def is_async(environment: type) -> bool:
    """Whether the class has a reset or a step of its own that must be awaited."""
    names = ("reset", "step", "reset_async", "step_async", "close")
    return any(inspect.iscoroutinefunction(getattr(environment, name, None)) for name in names)


def warm_up(environment: type) -> None:
    """Touch in the zygote what every session will need, so that forks share it."""
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    if is_async(environment):
        from envhub.worker import loop

        loop.warm_up()


def _serve(hub: socket.socket, answering: Answering, frame_bytes: int) -> None:
    buffer = FrameBuffer()
    while data := hub.recv(_READ_BYTES):
        buffer.receive_data(data)
        while (frame := buffer.next_frame()) is not None:
            request = decode(REQUESTS, frame)
            reply = answering.answer(request)
            sys.stdout.flush()
            hub.sendall(framed(reply, frame_bytes))
            if isinstance(request, Close):
                return


def _reseed() -> None:
    """Give numpy's global generator a seed of its own; Python's own reseeds itself at fork."""
    numpy = sys.modules.get("numpy")
    if numpy is not None and "numpy.random" in sys.modules:
        numpy.random.seed(int.from_bytes(os.urandom(4), "big"))
