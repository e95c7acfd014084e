"""Bearer tokens: who may use the door, and how much of it each (RFC 6750).

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
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from envhub.door import holders, refusals
from envhub.door.holders import Holder
from envhub.errors import UsageError
from envhub.hub.environments import gym

VARIABLE = "ENVHUB_TOKEN"
STRANGER = (
    "envhub.stranger"  # a key of the scope: it bears no token, and is served all the same
)
OPEN_TO_ALL = ("/healthz", "/readyz")
_LEAST = 16  # characters; what a person would guess is shorter
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750, 2.1
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_MOST_BYTES = 64 * 1024
_MOST_SESSIONS = 1_000_000


class Tokens:
    """Those that are accepted, and whose each is.

    Args:
        lines: a token each, in plain text, and what its holder may: `TOKEN`, or
            `TOKEN name=alice sessions=64 rate=1000 envs=echo,coding`. Empty ones and those
            that begin with # say nothing.
        single: one more, without quotas.
        queue_s: how long a holder's session waits for another of its own to close.

    Raises:
        UsageError: there is no token, one is too short to be a secret, or what stands beside
            it means nothing. No message has a word of the line in it: it may be a secret.
    """

    def __init__(
        self, lines: Iterable[str], *, single: str = "", queue_s: float = holders.QUEUE_S
    ) -> None:
        self._known: dict[bytes, Holder] = {}
        self._names: dict[str, str] = {}  # where each was given
        if single:
            self._add(single, {"name": "token-env"}, f"${VARIABLE}", queue_s)
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.lstrip()[0] == "#":
                continue
            where = f"line {number}"
            token, *pairs = line.split()
            _check_token(token, where)
            self._add(token, _quota(pairs, number, where), where, queue_s)
        if not self._known:
            raise UsageError(
                "no token is given", hint=f"a line of --token-file, or ${VARIABLE}"
            )

    def _add(self, token: str, quota: dict[str, Any], where: str, queue_s: float) -> None:
        _check_token(token, where)
        name = quota["name"]
        if name in self._names:
            raise UsageError(f"{where}: its name is that of {self._names[name]}")
        if name == token:
            raise UsageError(f"{where}: a holder's name is no secret, and must not be one")
        digest = _digest(token)
        if digest in self._known:
            raise UsageError(f"{where}: this token was given before")
        self._names[name] = where
        self._known[digest] = Holder(key=f"token:{name}", queue_s=queue_s, **quota)

    @property
    def holders(self) -> list[Holder]:
        """Whose they are."""
        return list(self._known.values())

    def find(self, header: str) -> Holder | None:
        """Return whose token the header `Authorization` bears; None for nobody's."""
        scheme, _, token = header.partition(" ")
        found = _digest(token.strip())
        # all of them, whichever it is: the time tells nothing
        matches = [h for known, h in self._known.items() if hmac.compare_digest(found, known)]
        return matches[0] if matches and scheme.lower() == "bearer" else None


def given(file: Path | None, *, queue_s: float = holders.QUEUE_S) -> Tokens | None:
    """Return the tokens of a file, a line each, and of $ENVHUB_TOKEN; None if there are none.

    Raises:
        UsageError: the file cannot be read, or others can read it; or a line is none.
    """
    single = os.environ.get(VARIABLE, "")
    lines: list[str] = []
    if file is not None:
        try:
            with file.open(encoding="ascii") as opened:
                if os.fstat(opened.fileno()).st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                    raise UsageError(
                        f"`{file}` can be read by others", hint=f"chmod 600 {file}"
                    )
                text = opened.read(_MOST_BYTES + 1)
        except OSError as error:
            raise UsageError(f"`{file}` cannot be read: {error.strerror or error}") from None
        except UnicodeDecodeError:
            raise UsageError(f"`{file}` cannot be read: it is not all ASCII") from None
        if len(text) > _MOST_BYTES:
            raise UsageError(f"`{file}` is over {_MOST_BYTES} bytes")
        lines = text.splitlines()
    if not single and file is None:
        return None
    return Tokens(lines, single=single, queue_s=queue_s)


def _check_token(token: str, where: str) -> None:
    if len(token) < _LEAST or not _TOKEN.fullmatch(token):
        raise UsageError(
            f"{where}: a token has {_LEAST} or more characters of A-Z a-z 0-9 - . _ ~ + / =",
            hint="python3 -c 'import secrets; print(secrets.token_urlsafe(32))'",
        )


def _quota(pairs: list[str], number: int, where: str) -> dict[str, Any]:
    """Return what stands beside a token, as arguments of a Holder."""
    given: dict[str, str] = {}
    for place, pair in enumerate(pairs, 2):
        key, equals, value = pair.partition("=")
        if not equals or key not in _READ:
            raise UsageError(
                f"{where}: word {place} is no KEY=VALUE with a key among {', '.join(_READ)}"
            )
        if key in given:
            raise UsageError(f"{where}: `{key}` is given twice")
        given[key] = value
    found: dict[str, Any] = {"name": f"token-{number}"}
    for key, value in given.items():
        argument, read, meaning = _READ[key]
        try:
            found[argument] = read(value)
        except ValueError:
            raise UsageError(f"{where}: `{key}` is {meaning}") from None
    return found


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError
    return text


def _names(text: str) -> frozenset[str]:
    names = text.split(",")
    return frozenset(name if gym.is_id(name) else _name(name) for name in names)


def _count(text: str) -> int:
    if not (text.isdecimal() and 0 < int(text[:10]) <= _MOST_SESSIONS):
        raise ValueError
    return int(text)


def _per_second(text: str) -> float:
    number = float(text)
    if not 1e-3 <= number <= 1e9:  # neither nan nor infinite
        raise ValueError
    return number


# key: argument of a Holder, what reads it, and what it must be
_READ: dict[str, tuple[str, Callable[[str], Any], str]] = {
    "name": ("name", _name, "1 to 64 characters of A-Z a-z 0-9 - . _"),
    "sessions": ("sessions", _count, "a whole number above zero"),
    "rate": ("rate", _per_second, "a number above zero"),
    "envs": ("environments", _names, "names of environments, with commas between them"),
}


class Bearer:
    """Refuse with 401 whoever bears no token, but for OPEN_TO_ALL; let the rest through.

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
            holder = self._tokens.find(headers[0]) if len(headers) == 1 else None
            if holder is None and not _is_open_to_all(scope):
                refusals.note(scope, "token")
                refused = PlainTextResponse(
                    "401: a token is needed: the header `Authorization: Bearer TOKEN`\n",
                    401,
                    {"www-authenticate": "Bearer"},
                )
                await refused(scope, receive, send)
                return
            # what is behind the door may be an author's application, which must not learn it
            kept = [(n, v) for n, v in scope["headers"] if n.lower() != b"authorization"]
            scope = {**scope, "headers": kept, STRANGER: holder is None}
            if holder is not None:
                scope[holders.SCOPE_KEY] = holder
        await self._app(scope, receive, send)


def _is_open_to_all(scope: Scope) -> bool:
    """Whether it is a request that is answered by us and by nothing behind the door."""
    asked = scope["type"], scope.get("method"), scope.get("path")
    return asked in {
        ("http", method, path) for method in ("GET", "HEAD") for path in OPEN_TO_ALL
    }


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
