"""`openenv.yaml` to Manifest: a folder written for OpenEnv, as it is.

What its author says of the resources it needs becomes our limits, and what the Dockerfile
sets becomes its environment variables. What cannot be had here is refused by name, and not
left out in silence.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from envhub.errors import ManifestError
from envhub.hub.environments.manifest import VARIABLE, Deadlines, Manifest
from envhub_sandbox import Limits
from envhub_sandbox.policy import MIB

FILE = "openenv.yaml"
APP = "server.app:app"  # of files in the old form, which name no app
_MOST_BYTES = 64 * 1024
_MOST_VARIABLES = 256
_APP = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_DOCKERFILES = ("server/Dockerfile", "Dockerfile")
# where a container's programs are, which here are elsewhere
_ELSEWHERE = {"PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "HOME", "USER", "DISPLAY"}
_NAME = re.compile(VARIABLE)
Amount = Annotated[float, Meta(ge=0, le=2**40)]


class _Resources(Struct):
    memory_mb: Amount | None = None
    disk_mb: Amount | None = None
    episode_timeout_s: Amount | None = None
    gpus: Amount | None = None


class _Network(Struct):
    mode: Literal["public", "no-network", "allowlist"] = "no-network"


class _Validation(Struct):
    resources: _Resources | None = None
    network: _Network | None = None


class _File(Struct):
    """What we read of it; its other keys are for other programs."""

    name: str
    version: str | float | None = None
    description: str | None = None
    app: str | None = None
    variables: dict[str, Any] | list[dict[str, Any]] | None = None
    validation: _Validation | None = None


def read(folder: Path) -> Manifest:
    """Return the manifest of the OpenEnv environment in `folder`.

    Raises:
        ManifestError: the file is not valid, or asks for what there is not.
    """
    path = folder / FILE
    file = _parsed(path)
    if not folder.resolve().name.isidentifier():
        raise ManifestError(
            f"`{folder.resolve()}` cannot be imported: its name is no name of a package",
            hint="rename the folder, with `_` for `-`",
        )
    app = file.app or APP
    if not _APP.fullmatch(app):
        raise ManifestError(f"`{path}`: expected `module:variable`, got `{app}` - at `$.app`")
    validation = file.validation or _Validation()
    mode = validation.network.mode if validation.network else "no-network"
    if mode == "allowlist":
        raise ManifestError(
            f"`{path}`: there is no network by allowlist - at `$.validation.network.mode`",
            hint="`no-network` is what every environment has here",
        )
    resources = validation.resources or _Resources()
    if resources.gpus:
        raise ManifestError(
            f"`{path}`: there are no GPUs in a sandbox - at `$.validation.resources.gpus`"
        )
    defaults = {**_of_the_image(folder), **_of_the_file(path, file)}
    return Manifest(
        name=re.sub(r"[^a-z0-9_-]", "-", file.name.lower()).lstrip("-_")[:64] or "unnamed",
        entry=app,
        description=" ".join((file.description or "").split()),
        version=str(file.version or "0.1.0"),
        network="public" if mode == "public" else "none",
        reset="reuse",  # as upstream's server: what an instance keeps, it keeps
        deadlines=Deadlines(episode_s=resources.episode_timeout_s or 0.0),
        limits=_limits(resources),
        folder=str(folder.resolve()),
        format="openenv",
        variables=tuple(defaults),  # an operator may set what the author has set
        variable_defaults=defaults,
    )


def by_name(variables: dict[str, Any] | list[dict[str, Any]]) -> dict[str, Any]:
    """Return the `variables` of a file in either form; a Space's is a list of them."""
    if isinstance(variables, dict):
        return variables
    return {str(item.get("name", item.get("key"))): item.get("value") for item in variables}


def _parsed(path: Path) -> _File:
    import yaml  # a client of a hub needs none

    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise ManifestError(f"`{path}` cannot be read: {error.strerror}") from error
    if len(text) > _MOST_BYTES:
        raise ManifestError(f"`{path}` is longer than {_MOST_BYTES} bytes")
    try:
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        words = " ".join(str(error).split())
        raise ManifestError(f"`{path}` is not YAML: {words}") from error
    try:
        return msgspec.convert(data, _File)
    except (msgspec.ValidationError, RecursionError) as error:
        raise ManifestError(f"`{path}`: {error}") from error


def _limits(resources: _Resources) -> Limits:
    """Return our limits where theirs say nothing; a container's memory is a whole session's."""
    limits: dict[str, int] = {}
    if resources.memory_mb:
        limits["memory_bytes"] = limits["session_memory_bytes"] = int(resources.memory_mb * MIB)
    if resources.disk_mb:
        limits["disk_bytes"] = int(resources.disk_mb * MIB)
    return Limits(**limits)


def _of_the_file(path: Path, file: _File) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in by_name(file.variables or {}).items():
        if not _NAME.fullmatch(name) or not isinstance(value, str | int | float):
            raise ManifestError(f"`{path}`: expected a variable's value - at `$.variables`")
        found[name] = str(value)
    return found


def _of_the_image(folder: Path) -> dict[str, str]:
    """Return what the Dockerfile sets (`ENV`), without what refers to other variables."""
    found: dict[str, str] = {}
    for name in _DOCKERFILES:
        try:
            with (folder / name).open(encoding="utf-8", errors="replace") as file:
                text = file.read(_MOST_BYTES)
        except OSError:
            continue
        for line in text.replace("\\\n", " ").splitlines():
            words = line.split(None, 1)
            if len(words) == 2 and words[0].upper() == "ENV":
                found |= _set_by(words[1])
        break
    return dict(list(found.items())[:_MOST_VARIABLES])


def _set_by(instruction: str) -> dict[str, str]:
    """Return the variables of one `ENV`: `NAME=value …`, or in the old form `NAME value`."""
    try:
        words = shlex.split(instruction)
    except ValueError:
        return {}
    if words and "=" not in words[0]:
        words = [f"{words[0]}={' '.join(words[1:])}"]
    pairs = (word.partition("=") for word in words)
    return {
        name: value
        for name, _, value in pairs
        if _NAME.fullmatch(name) and name not in _ELSEWHERE and "$" not in value
    }
