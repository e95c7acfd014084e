"""What a call brings for the environment: decoded, and its options looked through."""

from __future__ import annotations

import difflib
from typing import Any

import msgspec

from envhub.authoring import schema
from envhub.errors import InvalidOption, UsageError
from envhub.wire.messages import Form

_COMMON_OPTIONS = ("seed", "episode_id")


def load(data: bytes, form: Form) -> Any:
    """Return what the hub's client has sent.

    Raises:
        UsageError: it is not in that form.
    """
    try:
        return schema.decode_native(data) if form == "msgpack" else schema.decode_openenv(data)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise UsageError(f"not {form}: {error}") from None


def mapping(data: bytes, form: Form) -> dict[str, Any]:
    """Return options, of which there may be none.

    Raises:
        UsageError: they are not in that form.
        InvalidOption: they are no mapping.
    """
    if not data:
        return {}
    options = load(data, form)
    if not isinstance(options, dict):
        raise InvalidOption(f"options must be a mapping, and are a `{type(options).__name__}`")
    return options


def accepted(
    options: dict[str, Any], names: tuple[str, ...] | None, form: Form
) -> dict[str, Any]:
    """Return the options to pass to `reset`.

    On OpenEnv's wire unknown ones are dropped, as its server does: trainers send whole rows.

    Raises:
        InvalidOption: one is unknown, or a seed or an episode id of a wrong type.
    """
    if form == "json":
        return known(options, names)
    options = {
        name: value
        for name, value in options.items()
        if value is not None or name not in _COMMON_OPTIONS
    }
    seed = options.get("seed", 0)
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InvalidOption(f"`seed` must be an int that is not negative, and is {seed!r}")
    episode = options.get("episode_id", "")
    if not isinstance(episode, str) or len(episode) > 255:
        raise InvalidOption("`episode_id` must be a str of at most 255 characters")
    if names is None:
        return options
    if "episode_id" not in names:
        options.pop("episode_id", None)
    for name in options:
        if name not in names:
            raise InvalidOption(
                f"unknown reset option `{name}`; this environment knows {_listed(names)}",
                hint=_near(name, names),
            )
    return options


def known(options: dict[str, Any], names: tuple[str, ...] | None) -> dict[str, Any]:
    """Return the options that have one of the names; all of them if there is no list."""
    if names is None:
        return options
    return {name: value for name, value in options.items() if name in names}


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "none"


def _near(name: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean `{near[0]}`?" if near else ""
