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
from collections.abc import Callable

from envhub.authoring import agent
from envhub.errors import RemoteProtocolError, UsageError
from envhub.wire.framing import FrameBuffer
from envhub.wire.messages import REQUESTS, Close, Gather, Reply, decode
from envhub.worker.answer import Answering, failed

_READ_BYTES = 64 * 1024  # larger reads cost more than they save, measured 4x at small frames


Shell = Callable[[socket.socket, Answering], None]


def run(shell: Shell, answering: Answering, descriptors: list[int]) -> None:
    """Serve the hub on the first descriptor; the third, if there, asks it for agents.

    Args:
        shell: see `shell_for`.
        answering: has constructed nothing yet.
        descriptors: the session's.
    """
    try:
        serve(shell, answering, descriptors)
    except (RemoteProtocolError, ConnectionError) as error:
        print(f"envhub: the hub's side of the session broke: {error}", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # no atexit, no finalisers: the session is over, and this is a fork


def serve(shell: Shell, answering: Answering, descriptors: list[int]) -> None:
    """As `run`, up to the end of the process."""
    hub = socket.socket(fileno=descriptors[0])
    if len(descriptors) > 2:
        agent.connect(descriptors[2])
    _reseed()
    shell(hub, answering)


def is_async(environment: type) -> bool:
    """Whether the class has a reset, a step… of its own that must be awaited."""
    names = ("reset", "step", "reset_async", "step_async", "close", "cancel")
    methods = [getattr(environment, name, None) for name in names]
    kinds = (inspect.iscoroutinefunction, inspect.isasyncgenfunction)
    return any(is_kind(method) for is_kind in kinds for method in methods)


def shell_for(on_loop: bool, *, cancels: bool) -> Shell:
    """Return what serves environments; touched in the zygote, so that forks share it.

    Args:
        on_loop: on an event loop, for those that have `async` methods.
        cancels: also hear the hub during a call, for those that have a `cancel`.
    """
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    if not on_loop and cancels:
        from envhub.worker import cancelling

        return cancelling.serve
    if not on_loop:
        return _serve
    from envhub.worker import loop  # asyncio costs a megabyte; most do without

    loop.warm_up()
    return loop.run


def _serve(hub: socket.socket, answering: Answering) -> None:
    buffer = FrameBuffer()
    while data := hub.recv(_READ_BYTES):
        frame = buffer.receive(data)
        while frame is not None:
            request = decode(REQUESTS, frame)
            reply = (
                answering.answer(request)
                if type(request) is not Gather
                else _serve_many(hub, answering, request)
            )
            if reply is None:
                return
            sys.stdout.flush()
            hub.sendall(answering.framed(reply))
            if type(request) is Close:
                return
            frame = buffer.next_frame() if buffer.waiting else None


def _serve_many(hub: socket.socket, answering: Answering, request: Gather) -> Reply | None:
    """Serve many environments until the hub hangs up; return why that cannot be."""
    try:
        from envhub.worker import vectors  # and with it numpy: most do without
    except ImportError as error:
        return failed(request.op, UsageError(f"cannot be vectorised: {error}"))
    vectors.serve(hub, answering, request)
    return None


def _reseed() -> None:
    """Give numpy's global generator a seed of its own; Python's own reseeds itself at fork."""
    numpy = sys.modules.get("numpy")
    if numpy is not None and "numpy.random" in sys.modules:
        numpy.random.seed(int.from_bytes(os.urandom(4), "big"))
