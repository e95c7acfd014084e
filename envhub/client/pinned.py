"""Holds a server to the schema that its client was written for."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any

from envhub.errors import RemoteProtocolError, WorkerLost
from envhub.hub import schemas

_LONGEST = 16 * 1024 * 1024  # of a document; what is longer is cut, and then no JSON


def check(
    base_url: str,
    pinned: str | Mapping[str, Any],
    headers: Mapping[str, str],
    timeout_s: float,
) -> None:
    """Compare what the server says with what was pinned.

    Raises:
        SchemaMismatch: they differ; it says in what, if a document was pinned.
        WorkerLost: the server does not say.
        RemoteProtocolError: what it says is no document.
    """
    url = base_url if "://" in base_url else f"http://{base_url}"
    url = f"http{url.removeprefix('http').removeprefix('ws').rstrip('/')}/schema"
    try:
        request = urllib.request.Request(url, headers=dict(headers))  # noqa: S310 (its address)
        with urllib.request.urlopen(request, timeout=timeout_s) as reply:  # noqa: S310
            found = json.loads(reply.read(_LONGEST))
    except (OSError, ValueError, RecursionError, HTTPException) as error:
        raise WorkerLost(f"{url} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise RemoteProtocolError(f"{url} has no object")
    schemas.check(f"the environment at {base_url}", found, pinned)
