"""One document of a server, by GET: bounded, and from where it was asked for.

A redirect is not followed: it would carry a token to whomever the server names.
"""

from __future__ import annotations

from collections.abc import Mapping
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from envhub.client import speech
from envhub.client.exchange import exchange
from envhub.errors import WorkerLost

_LONGEST = 16 * 1024 * 1024


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
    parts = urlsplit(url)
    try:
        status, text = exchange(
            parts, "GET", parts.path, None, headers or {}, timeout_s=timeout_s, longest=_LONGEST
        )
    except (OSError, HTTPException) as error:
        raise WorkerLost(f"{url} cannot be read: {error}") from None
    if not 200 <= status < 300:
        raise WorkerLost(f"{url} cannot be read: status {status}")
    return speech.json_object(text, _LONGEST, url)
