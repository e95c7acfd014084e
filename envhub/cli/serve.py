"""`envhub serve`: the front door, until a signal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

import envhub

if TYPE_CHECKING:
    from envhub.hub.hub import Hub
    from envhub_sandbox import Receipt


@click.command()
@click.option("--envs", multiple=True, metavar="DIR", help="A folder to look in first.")
@click.option("--env", "only", multiple=True, metavar="NAME", help="Serve only this one.")
@click.option("--default", metavar="NAME", help="The environment at the root path.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Loopback only, for now.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535),
              help="0 takes any free one.")  # fmt: skip
@click.option("--isolation", type=click.Choice(["strict", "none"]), default="strict",
              show_default=True, help="`none` runs environments unprotected.")  # fmt: skip
@click.option("--launcher", type=click.Choice(["auto", "bubblewrap", "built-in"]),
              default="auto", show_default=True, help="What builds the sandbox.")  # fmt: skip
@click.option("--max-sessions", type=click.IntRange(1), metavar="N",
              help="At once; by default what memory and descriptors allow.")  # fmt: skip
def serve(
    envs: tuple[str, ...],
    only: tuple[str, ...],
    default: str | None,
    host: str,
    port: int,
    isolation: str,
    launcher: str,
    max_sessions: int | None,
) -> None:
    r"""Serve environments to OpenEnv's clients, over WebSocket and HTTP.

    Every environment stands at /envs/NAME; one of them also at the root: --default, else the
    only one, else the alphabetically first. An unmodified OpenEnv client connects to either:

    \b
        from openenv import GenericEnvClient
        with GenericEnvClient(base_url="http://127.0.0.1:8000/envs/coding").sync() as env:
            env.reset()
            print(env.step({"code": "print(2**10)"}).observation["stdout"])
    """
    import uvloop

    from envhub.errors import UnknownEnvironment
    from envhub.hub.hub import Hub

    hub = Hub(envs, isolation=isolation, launcher=launcher, max_sessions=max_sessions)
    if only:
        hub.catalog.keep(only)
    root = hub.catalog.default(default)
    if root is None:
        raise UnknownEnvironment(
            "no environment to serve", hint="name a folder of environments with --envs"
        )
    uvloop.run(_serve(hub, root, host, port))


async def _serve(hub: Hub, root: str, host: str, port: int) -> None:
    from envhub.door.serve import serve as open_door
    from envhub.errors import UsageError

    async with hub:
        # the first session shows whether the machine can isolate, before anybody connects
        async with hub.session(root) as first:
            receipt = first.receipt
        try:
            await open_door(
                hub,
                host=host,
                port=port,
                default=root,
                on_ready=lambda bound: _banner(hub, root, host, bound, receipt),
            )
        except OSError as error:
            raise UsageError(
                f"cannot listen on {host}:{port}: {error.strerror or error}",
                hint="`--port 0` takes any free port",
            ) from error


def _banner(hub: Hub, root: str, host: str, port: int, receipt: Receipt) -> None:
    """Say what is served, where, and behind which walls."""
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    walls = receipt.tier
    if receipt.tier == "none":
        walls = click.style("NONE: environments run unprotected", fg="red", bold=True)
    else:
        walls += f" ({len(receipt.layers)} layers, {receipt.launcher})"
    names = hub.catalog.names()
    click.echo(f"envhub {envhub.__version__} · isolation {walls} · {hub.max_sessions} places")
    for name in names:
        at_root = f"   also at {address}" if name == root else ""
        click.echo(f"  {name:<16} {address}/envs/{name}{at_root}")
    for name, error in hub.catalog.broken.items():
        click.secho(f"  {name:<16} broken: {error}", fg="red")
    for reason in hub.starter.passed_over:
        click.secho(f"  passed over: {reason}", fg="yellow")
    click.echo(f"listening on {address}")
