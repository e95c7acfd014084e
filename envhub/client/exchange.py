"""One request and its reply over HTTP, on a connection of their own: bounded in bytes and time.

A socket's timeout is for each read, so that a server which sends a byte now and then could
hold its client for ever. Here all that is left of the time is what the next read may take.
"""

from __future__ import annotations

import io
import socket
import time
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import SplitResult


class Deadline:
    """When an exchange must be over.

    Args:
        allowed_s: from now on.
    """

    def __init__(self, allowed_s: float) -> None:
        self._at = time.monotonic() + allowed_s

    def left_s(self) -> float:
        """Return the seconds that are left, which are more than none.

        Raises:
            TimeoutError: they are none.
        """
        left = self._at - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return left


class _Reader(io.RawIOBase):
    """What comes over a socket until the deadline."""

    def __init__(self, found: socket.socket, deadline: Deadline) -> None:
        self._socket = found
        self._inner = found.makefile("rb", buffering=0)  # holds the socket open
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._socket.settimeout(self._deadline.left_s())
        return self._inner.readinto(buffer)

    def close(self) -> None:
        self._inner.close()
        super().close()


class _Timed:
    """A socket, as far as a response needs one."""

    def __init__(self, found: socket.socket, deadline: Deadline) -> None:
        self._reader = _Reader(found, deadline)

    def makefile(self, mode: str) -> io.BufferedReader:
        assert mode == "rb"
        return io.BufferedReader(self._reader)


def exchange(
    url: SplitResult,
    method: str,
    path: str,
    body: str | None,
    headers: Mapping[str, str],
    *,
    timeout_s: float,
    longest: int,
) -> tuple[int, bytes]:
    """Return status and body of the reply; the body is cut one byte after `longest`.

    Args:
        url: with the scheme and the address of the server, as `speech.http_url` has it.
        method: of the request.
        path: with the query.
        body: of the request; None for none.
        headers: of the request.
        timeout_s: for all of it.
        longest: bytes of the reply's body.

    Raises:
        TimeoutError: it was not over in time.
        OSError, HTTPException: it did not come about.
    """
    deadline = Deadline(timeout_s)
    kind = HTTPSConnection if url.scheme == "https" else HTTPConnection
    connection = kind(url.netloc, timeout=timeout_s)

    def response(found: socket.socket, **options: Any) -> HTTPResponse:
        return HTTPResponse(_Timed(found, deadline), **options)  # type: ignore[arg-type]

    connection.response_class = response  # type: ignore[assignment]
    try:
        connection.connect()
        connection.sock.settimeout(deadline.left_s())
        connection.request(method, path, body, dict(headers))
        with connection.getresponse() as reply:
            return reply.status, reply.read(longest + 1)
    finally:
        connection.close()  # an idle one would be closed while an agent thinks
