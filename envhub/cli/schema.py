"""`envhub schema`: what an environment's types look like, and in what they have changed."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import click

from envhub.cli import granting, target
from envhub.cli.granting import grant_options
from envhub.cli.isolation import isolation_options
from envhub.errors import UsageError


@click.command()
@click.argument("env")
@click.option("--envs", multiple=True, metavar="DIR", help="A folder to look in first.")
@click.option("--digest", "only_digest", is_flag=True, help="Print the digest alone.")
@click.option("--against", metavar="FILE",
              type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="Say in what it differs from a schema printed before.")  # fmt: skip
@grant_options
@isolation_options
def schema(
    env: str,
    envs: tuple[str, ...],
    only_digest: bool,
    against: Path | None,
    **given: Any,
) -> None:
    r"""Print the JSON Schemas of an environment's types, for a client to pin.

    ENV is a name on the search path, a folder, ours or one written for OpenEnv, or an id of
    Gymnasium's such as gym:CartPole-v1. A client that has pinned a schema, or its digest, is
    refused by an environment that has another.

    \b
      envhub schema echo > echo.json
      envhub schema echo --against echo.json     exit code 1 if something has changed
      EnvClient(url, schema=json.load(open("echo.json")))
    """
    import anyio

    from envhub.hub.environments import schemas

    pinned = _read(against) if against else None
    found = target.find(env, envs)
    granted = granting.one(given)
    target.build(granted.applied(found.manifest), partial(click.echo, err=True))
    now = anyio.run(_described, found, {"grants": {found.name: granted}, **given})
    if pinned is not None:
        schemas.check(found.manifest.title, now, pinned)
        click.echo("nothing has changed")
    elif only_digest:
        click.echo(schemas.digest(now))
    else:
        click.echo(json.dumps(now, indent=2))


async def _described(found: target.Target, options: dict[str, Any]) -> dict[str, Any]:
    from envhub.hub.environments import schemas
    from envhub.hub.hub import Hub

    async with Hub(found.envs, **options) as hub:
        return schemas.document(await hub.describe(found.name))


def _read(file: Path) -> dict[str, Any]:
    try:
        read = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"`{file}` is no schema: {error}") from None
    if not isinstance(read, dict):
        raise UsageError(f"`{file}` is no schema: `envhub schema` prints one")
    return read
