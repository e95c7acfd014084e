"""The argument ENV of a command: a name on the search path, a folder, or an id."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from envhub.errors import UnknownEnvironment, UsageError

if TYPE_CHECKING:
    from envhub.hub.environments.manifest import Manifest


def given(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[str, ...]:
    """Return an argument that names folders, and ids of Gymnasium's, if there are such folders.

    Raises:
        BadParameter: there is no such folder.
    """
    from envhub.hub.environments import gym

    for value in values:
        if not (gym.is_meant(value) or Path(value).is_dir()):
            raise click.BadParameter(f"Directory {value!r} does not exist.")
    return values


@dataclass(frozen=True, slots=True)
class Target:
    """One environment, found.

    Args:
        manifest: of it.
        envs: folders for a hub to look in first, so that its catalog has this one.
    """

    manifest: Manifest
    envs: tuple[str, ...]

    @property
    def name(self) -> str:
        """By which the hub knows it."""
        return self.manifest.name


def find(env: str, envs: Sequence[str] = ()) -> Target:
    """Return the environment that is meant. A folder goes before a name.

    Args:
        env: a folder that is an environment, a name, or an id such as "gym:CartPole-v1".
        envs: folders to look for the name in first.

    Raises:
        UnknownEnvironment: there is none.
        ManifestError: there is, and its manifest is not valid.
        UsageError: the folder holds several.
    """
    from envhub.hub.environments import gym
    from envhub.hub.environments.catalog import Catalog, search_path

    if gym.is_meant(env):
        return Target(Catalog([])[env], tuple(envs))
    if Path(env).is_dir() and is_environment(Path(env)):
        return Target(held(Path(env))[0], (env, *envs))
    if "/" in env or env in (".", ".."):
        if not Path(env).is_dir():
            raise UnknownEnvironment(f"no folder `{env}`")
        found = held(Path(env))
        if len(found) > 1:
            names = ", ".join(manifest.name for manifest in found)
            raise UsageError(f"`{env}` holds several environments: {names}", hint="name one")
        return Target(found[0], (env, *envs))
    return Target(Catalog(search_path(envs))[env], tuple(envs))


def all_in(given: str) -> list[Manifest]:
    """Return the environments that a folder holds, or the one that an id means.

    Raises: as `held`.
    """
    from envhub.hub.environments import gym

    return [find(given).manifest] if gym.is_meant(given) else held(Path(given))


def is_environment(folder: Path) -> bool:
    """Whether the folder itself is one, ours or one for OpenEnv."""
    from envhub.hub.environments import manifest, openenv

    return any((folder / file).is_file() for file in (manifest.FILE, openenv.FILE))


def held(folder: Path) -> list[Manifest]:
    """Return the environments in a folder, at least one.

    Raises:
        ManifestError: one of them is not valid.
        UnknownEnvironment: there is none.
    """
    from envhub.hub.environments.catalog import Catalog

    found = Catalog([folder])
    if found.broken:
        raise next(iter(found.broken.values()))
    if not found.names():
        raise UnknownEnvironment(
            f"no environment in `{folder}`",
            hint="one of ours has an `env.toml`, one for OpenEnv an `openenv.yaml`",
        )
    return [found[name] for name in found.names()]


def build(manifest: Manifest, say: Callable[[str], None]) -> None:
    """Build its Python now, where a person sees how that goes, and not at the first session.

    Raises:
        BuildFailed: what it needs cannot be installed.
    """
    if manifest.builds:
        from envhub.hub.environments import build as building

        building.python_for(manifest, say)
