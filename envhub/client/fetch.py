"""One document of a server, by GET: bounded, and from where it was asked for.

A redirect is not followed: it would carry a token to whomever the server names.
"""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException, HTTPMessage
from typing import IO, Any

from envhub.client import speech
from envhub.errors import WorkerLost

_LONGEST = 16 * 1024 * 1024


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> None:
        """Follow none."""


_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)


def document(
    base_url: str, path: str, headers: Mapping[str, str] | None = None, timeout_s: float = 60.0
) -> dict[str, Any]:
    """Return the JSON object at a path below an environment's or a server's address.

    Raises:
        UsageError: `base_url` is no address.
        WorkerLost: nobody answers there, or not with it.
        RemoteProtocolError: what is there is no JSON object.
    """
    url = speech.http_url(base_url) + path
    request = urllib.request.Request(url, headers=dict(headers or {}))  # noqa: S310 (checked)
    try:
        with _OPENER.open(request, timeout=timeout_s) as reply:
            text = reply.read(_LONGEST + 1)
    except (OSError, HTTPException) as error:
        raise WorkerLost(f"{url} cannot be read: {error}") from None
    return speech.json_object(text, _LONGEST, url)
