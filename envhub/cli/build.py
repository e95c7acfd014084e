"""`envhub build`: install what environments of others' need, before anybody waits for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from envhub.cli import target

if TYPE_CHECKING:
    from envhub.hub.environments.manifest import Manifest


@click.command()
@click.argument("folders", nargs=-1, required=True, metavar="FOLDER...",
                callback=target.given)  # fmt: skip
@click.option("--with", "packages", multiple=True, metavar="PACKAGE",
              help="Install this, too, beside what each of them names.")  # fmt: skip
@click.option("--allow-build", is_flag=True,
              help="Also install packages without a wheel: that runs their authors' code on "
                   "this machine, in no sandbox.")  # fmt: skip
def build(folders: tuple[str, ...], packages: tuple[str, ...], allow_build: bool) -> None:
    """Make the Python that environments written for OpenEnv, or for Gymnasium, run in.

    Each FOLDER is one for OpenEnv, or ours around an id of Gymnasium's, or it is such an id
    itself, as `gym:ALE/Pong-v5`.

    A virtual environment for each set of packages, from pyproject.toml or requirements.txt,
    and from what an id needs, by uv, below $ENVHUB_CACHE or ~/.cache/envhub. What was built
    once is found by its content: it needs no network, and folders that need the same share
    it. `envhub serve` builds on first use; this does it ahead.
    """
    from envhub.errors import BuildFailed, ManifestError, UnknownEnvironment
    from envhub.hub.environments import build as building
    from envhub.hub.environments.grants import Grant

    failed = []
    for folder in folders:
        try:
            manifest = Grant(packages=packages).applied(_builds(folder))
            python = building.python_for(manifest, click.echo, allow_build=allow_build)
        except (BuildFailed, ManifestError, UnknownEnvironment) as error:
            click.secho(f"{folder}: {error}", fg="red", err=True)
            if error.hint:
                click.echo(f"hint: {error.hint}", err=True)
            failed.append(folder)
        else:
            click.echo(f"{manifest.name}: {python}")
    if failed:
        names = ", ".join(failed)
        raise BuildFailed(f"{len(failed)} of {len(folders)} could not be built: {names}")


def _builds(given: str) -> Manifest:
    """Return the manifest of what has a Python of its own.

    Raises:
        ManifestError: it has not.
    """
    from envhub.errors import ManifestError
    from envhub.hub.environments import gym

    found = given if gym.is_meant(given) else str(Path(given).resolve())
    manifest = target.find(found).manifest
    if not manifest.builds:
        raise ManifestError(f"`{given}` runs on envhub's own Python")
    return manifest
