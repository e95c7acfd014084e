"""`envhub build`: install what folders for OpenEnv need, before anybody waits for it."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("folders", nargs=-1, required=True, metavar="FOLDER...",
                type=click.Path(exists=True, file_okay=False, path_type=Path))  # fmt: skip
@click.option("--with", "packages", multiple=True, metavar="PACKAGE",
              help="Install this, too, beside what each of them names.")  # fmt: skip
@click.option("--allow-build", is_flag=True,
              help="Also install packages without a wheel: that runs their authors' code on "
                   "this machine, in no sandbox.")  # fmt: skip
def build(folders: tuple[Path, ...], packages: tuple[str, ...], allow_build: bool) -> None:
    """Make the Python that environments written for OpenEnv run in.

    A virtual environment for each set of packages, from pyproject.toml or requirements.txt,
    by uv, below $ENVHUB_CACHE or ~/.cache/envhub. What was built once is found by its content:
    it needs no network, and folders that need the same share it. `envhub serve` builds on
    first use; this does it ahead.
    """
    from envhub.errors import BuildFailed, ManifestError
    from envhub.hub.environments import build as building
    from envhub.hub.environments import openenv
    from envhub.hub.environments.grants import Grant

    failed = []
    for folder in folders:
        try:
            manifest = Grant(packages=packages).applied(openenv.read(folder))
            python = building.python_for(manifest, click.echo, allow_build=allow_build)
        except (BuildFailed, ManifestError) as error:
            click.secho(f"{folder.name}: {error}", fg="red", err=True)
            if error.hint:
                click.echo(f"hint: {error.hint}", err=True)
            failed.append(folder)
        else:
            click.echo(f"{manifest.name}: {python}")
    if failed:
        names = ", ".join(folder.name for folder in failed)
        raise BuildFailed(f"{len(failed)} of {len(folders)} could not be built: {names}")
