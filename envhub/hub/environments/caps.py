"""Caps: what an operator allows at most, whatever a manifest asks for.

A cap has the name of the limit that it is for: a key of `[limits]` or `[deadlines]` in
env.toml. What is in force is the smaller of the two, for agent sandboxes too. A limit that a
manifest leaves out, or sets to 0 for none, becomes the cap.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping

import msgspec

from envhub.errors import UsageError
from envhub.hub.environments.manifest import NOT_OF_AGENTS, Deadlines, Manifest
from envhub_sandbox import Limits

_LIMITS = tuple(name for name in Limits().as_dict() if name != "niceness")
_DEADLINES = tuple(field.name for field in msgspec.structs.fields(Deadlines))
NAMES = (*_LIMITS, *_DEADLINES)
_VALUE = re.compile(r"(\d+(?:\.\d+)?)([KMG]?)")
_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3}


def checked(caps: Mapping[str, float]) -> dict[str, float]:
    """Return a copy of the caps.

    Raises:
        UsageError: a name is no limit, or a value is not above 0.
    """
    for name, value in caps.items():
        if name not in NAMES:
            raise UsageError(f"no limit `{name}` to cap", hint=f"there is {', '.join(NAMES)}")
        if not value > 0:
            raise UsageError(f"expected a cap above 0, got {value:g} - at `{name}`")
        if name in _LIMITS and value != int(value):
            raise UsageError(f"expected a whole number, got {value:g} - at `{name}`")
    return dict(caps)


def parse(texts: Iterable[str]) -> dict[str, float]:
    """Return the caps that are written as `memory_bytes=512M` or `step_s=10`.

    K, M and G are powers of 1024.

    Raises:
        UsageError: one is not written so, or as `checked`.
    """
    caps: dict[str, float] = {}
    for text in texts:
        name, _, value = text.partition("=")
        caps[name] = _number(value, text)
    return checked(caps)


def size(text: str) -> int:
    """Return a number of bytes that is written as `1G` or `512M`.

    Raises:
        UsageError: it is not written so.
    """
    return int(_number(text, text))


def lowered(manifest: Manifest, caps: Mapping[str, float]) -> Manifest:
    """Return the manifest with every limit at its cap or below."""
    if not caps:
        return manifest
    deadlines = {
        name: _least(getattr(manifest.deadlines, name), caps[name])
        for name in _DEADLINES
        if name in caps
    }
    runner = msgspec.structs.replace(
        manifest.runner, limits=_lowered(manifest.runner.limits, caps, NOT_OF_AGENTS)
    )
    return msgspec.structs.replace(
        manifest,
        deadlines=msgspec.structs.replace(manifest.deadlines, **deadlines),
        limits=_lowered(manifest.limits, caps),
        runner=runner,
    )


def in_force(manifest: Manifest) -> dict[str, float]:
    """Return every limit of a session by name; 0 is no limit."""
    deadlines: dict[str, float] = msgspec.structs.asdict(manifest.deadlines)
    return {**manifest.limits.as_dict(), **deadlines}


def _number(value: str, text: str) -> float:
    read = _VALUE.fullmatch(value)
    if read is None:
        raise UsageError(f"expected a number, such as 512M or memory_bytes=512M, got `{text}`")
    return float(read[1]) * _UNITS[read[2]]


def _lowered(limits: Limits, caps: Mapping[str, float], without: Iterable[str] = ()) -> Limits:
    changed = {
        name: int(_least(getattr(limits, name), caps[name]))
        for name in _LIMITS
        if name in caps and name not in without
    }
    return dataclasses.replace(limits, **changed)


def _least(asked: float, cap: float) -> float:
    return min(asked, cap) if asked else cap
