"""Requests over HTTP, as a client makes them."""

from __future__ import annotations

import json
from http.client import HTTPConnection
from typing import Any

import anyio.to_thread

JSON = {"content-type": "application/json"}


class Reply:
    """Status, headers and body of a response."""

    def __init__(self, connection: HTTPConnection) -> None:
        response = connection.getresponse()
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.text = response.read().decode()

    @property
    def json(self) -> Any:
        return json.loads(self.text)


async def ask(
    address: str,
    method: str,
    path: str,
    body: Any = None,
    headers: dict[str, str] | None = None,
) -> Reply:
    """Make one request in a thread, on a connection of its own."""

    def exchange() -> Reply:
        connection = HTTPConnection(address, timeout=30)
        try:
            connection.request(method, path, body, {**JSON, **(headers or {})})
            return Reply(connection)
        finally:
            connection.close()

    return await anyio.to_thread.run_sync(exchange)
