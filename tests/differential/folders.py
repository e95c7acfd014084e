"""Where OpenEnv's environments are to be found: none of them is kept in this repository."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from envhub.hub.environments import openenv

OURS = Path(__file__).parents[1] / "openenv" / "envs"
_DISTRIBUTION = "openenv-"  # and a name: what authors call the package of an environment


def found(given: Path | None) -> dict[str, Path]:
    """Return the environments that are there, by the name of their folder.

    Args:
        given: a folder of them. None for those that were installed from an index.
    """
    there = installed() if given is None else inside(given)
    return inside(OURS) | there


def inside(folder: Path) -> dict[str, Path]:
    """Return the environments in a folder."""
    return {path.name: path for path in folder.iterdir() if (path / openenv.FILE).is_file()}


def installed() -> dict[str, Path]:
    """Return the environments of the distributions that are installed here."""
    return {path.name: path for path in _of_distributions()}


def _of_distributions() -> Iterator[Path]:
    for distribution in metadata.distributions():
        name = (distribution.metadata["Name"] or "").lower().replace("_", "-")
        if name.startswith(_DISTRIBUTION):
            for file in distribution.files or ():
                if file.name == openenv.FILE:
                    yield Path(str(distribution.locate_file(file))).parent
