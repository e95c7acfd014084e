"""Who may talk to a door on loopback: no page of a foreign site, and no rebound name.

A browser sends a page's requests to 127.0.0.1 as willingly as to anywhere else, so being on
loopback protects from the network, not from the web. Two headers do: `Origin` names the page
that asks, and `Host` the name that was resolved to reach this socket (DNS rebinding:
https://crypto.stanford.edu/dns/dns-rebinding.pdf). Programs send no `Origin`.
"""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from envhub.door import refusals


class SameOrigin:
    """Refuse with 403 what a foreign web page caused; let everything else through.

    Args:
        app: what is protected.
        host: name or address that the door is bound to, valid in `Host` beside loopback's.
        any_host: others are valid, too: a machine on a network has many names, and what
            protects its door is a token, which no page knows.
    """

    def __init__(self, app: ASGIApp, host: str, *, any_host: bool = False) -> None:
        self._app = app
        self._host = host.lower()
        self._any_host = any_host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, WebSocket handshakes included."""
        complaint = self._complaint(Headers(scope=scope)) if scope["type"] != "lifespan" else ""
        if complaint:
            refusals.note(scope, "origin")
            await PlainTextResponse(complaint, status_code=403)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _complaint(self, headers: Headers) -> str:
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            return f"403: the Host header is {hosts}, expected a loopback address\n"
        for origin in headers.getlist("origin"):
            if _netloc(origin) != hosts[0].lower():
                return f"403: a page of {origin!r} asked, expected one of {hosts[0]!r}\n"
        return ""

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
            if "@" in host:
                return False
            if self._any_host and name:
                return True
            return name in ("localhost", self._host) or ip_address(name).is_loopback
        except ValueError:  # neither a name that we know nor an address
            return False


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:  # brackets around what is no address
        return ""
