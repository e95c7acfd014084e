"""Bearer tokens: who may use the door, where the network can reach it (RFC 6750).

A token travels in the header `Authorization` and nowhere else: not in a URL, where logs and
histories would keep it. What is kept here is a digest of each, so that neither a comparison's
time nor a dump of this process tells one.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from envhub.errors import UsageError

VARIABLE = "ENVHUB_TOKEN"
_LEAST = 16  # characters; what a person would guess is shorter
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750, 2.1
_MOST_BYTES = 64 * 1024


class Tokens:
    """Those that are accepted.

    Args:
        tokens: in plain text, at least one.

    Raises:
        UsageError: one is too short to be a secret, or there is none.
    """

    def __init__(self, tokens: Iterable[str]) -> None:
        given = list(tokens)
        if not given:
            raise UsageError(
                "no token is given", hint=f"a line of --token-file, or ${VARIABLE}"
            )
        for token in given:
            if len(token) < _LEAST or not _TOKEN.fullmatch(token):
                raise UsageError(
                    f"a token has {_LEAST} or more characters of A-Z a-z 0-9 - . _ ~ + / =",
                    hint="python3 -c 'import secrets; print(secrets.token_urlsafe(32))'",
                )
        self._digests = [_digest(token) for token in given]

    def has(self, header: str) -> bool:
        """Whether the header `Authorization` bears one of them."""
        scheme, _, token = header.partition(" ")
        found = _digest(token.strip())
        # all of them, whichever it is: the time tells nothing
        matches = [hmac.compare_digest(found, known) for known in self._digests]
        return scheme.lower() == "bearer" and any(matches)


def given(file: Path | None) -> Tokens | None:
    """Return the tokens of a file, a line each, and of $ENVHUB_TOKEN; None if there are none.

    Raises:
        UsageError: the file cannot be read, or others can read it; or a token is none.
    """
    found = [os.environ[VARIABLE]] if os.environ.get(VARIABLE) else []
    if file is not None:
        try:
            with file.open(encoding="ascii") as opened:
                if os.fstat(opened.fileno()).st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                    raise UsageError(
                        f"`{file}` can be read by others", hint=f"chmod 600 {file}"
                    )
                lines = opened.read(_MOST_BYTES).splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"`{file}` cannot be read: {error}") from None
        found += [line.strip() for line in lines if line.strip() and line[0] != "#"]
    return Tokens(found) if found or file is not None else None


class Bearer:
    """Refuse with 401 whoever bears no token; let everybody else through.

    Args:
        app: what is protected.
        tokens: that are accepted.
    """

    def __init__(self, app: ASGIApp, tokens: Tokens) -> None:
        self._app = app
        self._tokens = tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, WebSocket handshakes included."""
        if scope["type"] != "lifespan":
            headers = Headers(scope=scope).getlist("authorization")
            if len(headers) != 1 or not self._tokens.has(headers[0]):
                refused = PlainTextResponse(
                    "401: a token is needed: the header `Authorization: Bearer TOKEN`\n",
                    401,
                    {"www-authenticate": "Bearer"},
                )
                await refused(scope, receive, send)
                return
            # what is behind the door may be an author's application, which must not learn it
            kept = [(n, v) for n, v in scope["headers"] if n.lower() != b"authorization"]
            scope = {**scope, "headers": kept}
        await self._app(scope, receive, send)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
