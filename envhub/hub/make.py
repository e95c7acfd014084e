"""`envhub.make`: a session without a hub in sight. Sessions alike share one, in a thread."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from envhub.hub.background import BackgroundHub
from envhub.hub.embedded import EmbeddedSession
from envhub.hub.environments import caps as limits
from envhub.hub.environments.schemas import Pinned
from envhub.hub.hub import Hub


def make(
    name: str,
    *,
    envs: str | Path | Iterable[str | Path] = (),
    isolation: str = "strict",
    launcher: str = "auto",
    exactly: bool = False,
    allow_unprotected_agent_code: bool = False,
    caps: Mapping[str, float] | None = None,
    variables: Iterable[str] = (),
    schema: Pinned | None = None,
) -> EmbeddedSession:
    """Return a session of environment `name`, in a sandbox on this machine.

        with envhub.make("coding") as env:
            env.reset(seed=7)
            result = env.step({"code": "print(2**10)"})

    Sessions with the same arguments share one hub, which stays warm until the program ends
    or `close_hubs` is called.

    Args:
        name: of the environment.
        envs: folders to look in first.
        isolation: the lowest tier that will do; see `Hub`, as for the rest.
        launcher: "auto", "bubblewrap" or "built-in".
        exactly: take the tier of `isolation`, and no higher one.
        allow_unprotected_agent_code: with isolation "none".
        variables: of ours that the environment gets if its manifest names them.
        caps: the most that a manifest may ask for; see `Hub`.
        schema: what the environment's types must look like; see `Hub.open`.

    Raises: as `Hub.open`.
    """
    background = background_hub(
        envs=envs,
        isolation=isolation,
        launcher=launcher,
        exactly=exactly,
        allow_unprotected_agent_code=allow_unprotected_agent_code,
        caps=caps,
        variables=variables,
    )
    return EmbeddedSession(background, name, schema)


def background_hub(
    *,
    envs: str | Path | Iterable[str | Path] = (),
    isolation: str = "strict",
    launcher: str = "auto",
    exactly: bool = False,
    allow_unprotected_agent_code: bool = False,
    caps: Mapping[str, float] | None = None,
    variables: Iterable[str] = (),
) -> BackgroundHub:
    """Return the hub of sessions made with these arguments, which are those of `make`."""
    folders = (str(envs),) if isinstance(envs, str | Path) else tuple(str(p) for p in envs)
    capped = limits.checked(caps or {})
    options: dict[str, Any] = {
        "isolation": isolation,
        "launcher": launcher,
        "exactly": exactly,
        "allow_unprotected_agent_code": allow_unprotected_agent_code,
        "variables": frozenset([variables] if isinstance(variables, str) else variables),
    }
    caps_key = tuple(sorted(capped.items()))
    key = (folders, caps_key, os.getcwd(), *options.values())
    with _hubs_lock:
        if key not in _hubs or not _hubs[key].alive:
            hub = Hub(folders, caps=capped, **options)
            _hubs[key] = BackgroundHub(hub)
        return _hubs[key]


def close_hubs() -> None:
    """End every background hub, with its workers and sessions."""
    with _hubs_lock:
        ending = list(_hubs.values())
        _hubs.clear()
    for background in ending:
        background.close()


_hubs: dict[tuple[object, ...], BackgroundHub] = {}
_hubs_lock = threading.Lock()
atexit.register(close_hubs)


def _forget_in_a_fork() -> None:
    """A child owns no hub; it may make one."""
    global _hubs_lock
    _hubs.clear()
    _hubs_lock = threading.Lock()


os.register_at_fork(after_in_child=_forget_in_a_fork)
