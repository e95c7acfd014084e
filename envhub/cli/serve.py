"""`envhub serve`: the front door, until a signal."""

from __future__ import annotations

import gc
import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import envhub
from envhub.cli import granting, target
from envhub.cli.isolation import isolation_options, walls
from envhub.cli.logs import FORMATS, LEVELS, begin

if TYPE_CHECKING:
    from envhub.hub.hub import Hub
    from envhub_sandbox import Receipt


@click.command()
@click.argument("folders", nargs=-1, metavar="[FOLDER]...",
                callback=target.given)  # fmt: skip
@click.option("--envs", multiple=True, metavar="DIR", help="A folder to look in first.")
@click.option("--env", "only", multiple=True, metavar="NAME", help="Serve only this one.")
@click.option("--default", metavar="NAME", help="The environment at the root path.")
@click.option("--host", default="127.0.0.1", show_default=True,
              help="Loopback's; with tokens, any.")  # fmt: skip
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535),
              help="0 takes any free one.")  # fmt: skip
@click.option("--token-file", metavar="FILE",
              type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="Serve only clients that bear one of these, or $ENVHUB_TOKEN: the header "
                   "`Authorization: Bearer TOKEN`. A line each, and what its holder may: "
                   "`TOKEN name=alice sessions=64 rate=1000 envs=echo,coding`.")  # fmt: skip
@click.option(
    "--insecure",
    is_flag=True,
    help="Serve an address off loopback without tokens, to everybody who reaches it.",
)
@click.option("--tls-certificate", "certificate", metavar="FILE",
              type=click.Path(exists=True, dir_okay=False),
              help="Serve HTTPS and WSS; without, the network reads tokens.")  # fmt: skip
@click.option("--tls-key", "key", metavar="FILE", type=click.Path(exists=True, dir_okay=False),
              help="The certificate's private key, if it is in a file of its own.")  # fmt: skip
@click.option("--mode", type=click.Choice(["simulation", "production"]), envvar="OPENENV_MODE",
              help="`production` has no reset, step and state over HTTP; by default each "
                   "environment's author decides.")  # fmt: skip
@click.option("--stop-on-eof", is_flag=True,
              help="Stop when standard input ends, for a program that starts a server and may "
                   "die.")  # fmt: skip
@click.option("--drain-s", type=click.FloatRange(0), default=20.0, show_default=True,
              metavar="SECONDS", help="How long open sessions may go on after SIGTERM, SIGINT "
                                      "or the end of input, while no new ones are opened; a "
                                      "second signal ends them.")  # fmt: skip
@click.option("--grace-s", type=click.FloatRange(0), default=60.0, show_default=True,
              metavar="SECONDS", help="How long a session of envhub.connect is kept while its "
                                      "client is not connected.")  # fmt: skip
@isolation_options
@click.option("--launcher", type=click.Choice(["auto", "bubblewrap", "built-in"]),
              default="auto", show_default=True, help="What builds the sandbox.")  # fmt: skip
@click.option("--max-sessions", type=click.IntRange(1), metavar="N",
              help="At once; by default what memory, descriptors and processes "
                   "allow.")  # fmt: skip
@click.option("--max-connections", type=click.IntRange(1), metavar="N",
              help="At once; by default what descriptors allow. With more, those lose their "
                   "place that have said nothing.")  # fmt: skip
@click.option("--queue-s", type=click.FloatRange(0), default=30.0, show_default=True,
              metavar="SECONDS", help="How long a client waits for a place before it is "
                                      "refused.")  # fmt: skip
@click.option("--queue", "queue_max", type=click.IntRange(0), default=1024, show_default=True,
              metavar="N", help="How many may wait for one; they are served in turn, one "
                                "of each address.")  # fmt: skip
@click.option("--cap", "caps", multiple=True, metavar="LIMIT=N",
              help="The most that a manifest may ask for, such as memory_bytes=512M or "
                   "step_s=10; any key of [limits] and [deadlines].")  # fmt: skip
@click.option("--memory-floor", "memory_floor", metavar="SIZE",
              help="Memory of the machine to keep free, such as 1G.")  # fmt: skip
@click.option("--cgroup", default="auto", show_default=True, metavar="PATH",
              help="Where sessions get control groups: `auto`, `off`, or a group such as "
                   "/envhub.")  # fmt: skip
@click.option("--allow-network", "network", multiple=True, metavar="ENV",
              help="Let this environment use this machine's network, if its manifest asks for "
                   "it: servers of this machine, others near it, the internet.")  # fmt: skip
@click.option("--variable", "variables", multiple=True, metavar="[ENV:]NAME",
              help="Hand this variable to environments whose manifest names it; with ENV, to "
                   "that one in any case.")  # fmt: skip
@click.option("--show", "shown", multiple=True, metavar="ENV:DIR",
              help="Let this environment read a folder, where it is.")  # fmt: skip
@click.option("--with", "packages", multiple=True, metavar="ENV:PACKAGE",
              help="Install this beside what a folder for OpenEnv names, or an id of "
                   "Gymnasium's needs.")  # fmt: skip
@click.option("--log-format", "log_format", type=click.Choice(FORMATS), default="text",
              show_default=True,
              help="Of the log, a line for each event on standard error.")  # fmt: skip
@click.option("--log-level", "log_level", type=click.Choice(LEVELS), default="info",
              show_default=True, help="The least that is logged; `debug` has each call that "
                                      "failed.")  # fmt: skip
def serve(
    folders: tuple[str, ...],
    envs: tuple[str, ...],
    only: tuple[str, ...],
    default: str | None,
    host: str,
    port: int,
    token_file: Path | None,
    insecure: bool,
    certificate: str | None,
    key: str | None,
    mode: str | None,
    stop_on_eof: bool,
    drain_s: float,
    grace_s: float,
    isolation: str,
    exactly: bool,
    allow_unprotected_agent_code: bool,
    launcher: str,
    max_sessions: int | None,
    max_connections: int | None,
    queue_s: float,
    queue_max: int,
    caps: tuple[str, ...],
    memory_floor: str | None,
    cgroup: str,
    network: tuple[str, ...],
    variables: tuple[str, ...],
    shown: tuple[str, ...],
    packages: tuple[str, ...],
    log_format: str,
    log_level: str,
) -> None:
    r"""Serve environments to OpenEnv's clients, over WebSocket and HTTP.

    Each FOLDER is an environment, ours or one written for OpenEnv, as it is, or an id of
    Gymnasium's such as gym:CartPole-v1; without one, all that are found are served. What a
    folder for OpenEnv or an id needs is installed on first use, into a virtual environment of
    its own: see `envhub build`. Of Gymnasium's ids only those are served that are named here.

    Every environment stands at /envs/NAME; one of them also at the root: --default, else the
    only one, else the alphabetically first. An unmodified OpenEnv client connects to either:

    \b
        from openenv import GenericEnvClient
        with GenericEnvClient(base_url="http://127.0.0.1:8000/envs/coding").sync() as env:
            env.reset()
            print(env.step({"code": "print(2**10)"}).observation["stdout"])
    """
    import uvloop

    from envhub.door import tokens
    from envhub.errors import UnknownEnvironment
    from envhub.hub.environments import caps as limits
    from envhub.hub.environments import gym
    from envhub.hub.hub import Hub

    begin(log_format, log_level)
    known = tokens.given(token_file, queue_s=queue_s)
    grants, to_all = granting.by_name(network, variables, shown, packages)
    hub = Hub(
        (*(folder for folder in folders if not gym.is_meant(folder)), *envs),
        isolation=isolation,
        exactly=exactly,
        allow_unprotected_agent_code=allow_unprotected_agent_code,
        launcher=launcher,
        max_sessions=max_sessions,
        queue_s=queue_s,
        queue_max=queue_max,
        caps=limits.parse(caps),
        memory_floor_bytes=limits.size(memory_floor) if memory_floor else None,
        cgroup=cgroup,
        variables=to_all,
        grants=grants,
    )
    named = [manifest.name for given in folders for manifest in target.all_in(given)]
    if only or named:
        hub.catalog.keep((*named, *only))
    root = hub.catalog.default(default)
    if root is None:
        raise UnknownEnvironment(
            "no environment to serve", hint="name a folder of environments with --envs"
        )
    if stop_on_eof:
        _stop_on_eof()
    _warn_of_unnamed(hub, to_all)
    for name in {root, *named}:
        target.build(hub.manifest(name), click.echo)
    door = {
        "host": host,
        "on_drain": _say_that_it_drains if log_format == "text" else _say_nothing,
        "port": port,
        "production": mode == "production",
        "tokens": known,
        "insecure": insecure,
        "certificate": certificate,
        "key": key,
        "drain_s": drain_s,
        "grace_s": grace_s,
        "max_connections": max_connections,
    }
    uvloop.run(_serve(hub, root, door))


def _warn_of_unnamed(hub: Hub, variables: tuple[str, ...]) -> None:
    """Say which variables reach nobody, for no manifest names them."""
    named = {v for name in hub.catalog.names() for v in hub.catalog[name].variables}
    for variable in variables:
        if variable not in named:
            click.secho(
                f"no environment names the variable {variable}: `--variable ENV:{variable}`"
                " hands it to one all the same",
                fg="yellow",
                err=True,
            )


def _stop_on_eof() -> None:
    """Have this process told to stop when nobody holds the other end of its input.

    Not by SIGTERM: who sends that and closes the input as well has not asked twice.
    """

    def wait() -> None:
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGUSR1)

    threading.Thread(target=wait, name="end of input", daemon=True).start()


async def _serve(hub: Hub, root: str, door: dict[str, Any]) -> None:
    from envhub.door.serve import serve as open_door
    from envhub.errors import UsageError

    async with hub:
        # the first session shows whether the machine can isolate, before anybody connects
        async with hub.session(root) as first:
            receipt = first.receipt
        _settle()
        try:
            await open_door(
                hub,
                default=root,
                on_ready=lambda bound: _banner(hub, root, door, bound, receipt),
                **door,
            )
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # it is ending already
        except OSError as error:
            raise UsageError(
                f"cannot listen on {door['host']}:{door['port']}: {error.strerror or error}",
                hint="`--port 0` takes any free port",
            ) from error


def _settle() -> None:
    """Have no collection of garbage look through what lives as long as the server.

    With many sessions there are collections all the time, and what was imported was most of
    what they looked through. They are made rarer, too: with 4,096 sessions one of all
    generations holds everybody up for half a second, and while those open there were eleven. A
    step leaves no garbage that only a collection finds; a session that has ended, eighty
    objects.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


def _say_that_it_drains(sessions: int) -> None:
    click.echo(
        f"draining: waiting for {sessions} open session(s); a second signal ends them", err=True
    )


def _say_nothing(sessions: int) -> None:
    """Leave it to the log."""


def _banner(hub: Hub, root: str, door: dict[str, Any], port: int, receipt: Receipt) -> None:
    """Say what is served, where, to whom, and behind which walls."""
    host, scheme = door["host"], "https" if door["certificate"] else "http"
    address = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
    if door["insecure"] and door["tokens"] is None:
        click.secho("INSECURE: whoever reaches it may use it", fg="red", bold=True)
    names = hub.catalog.names()
    click.echo(
        f"envhub {envhub.__version__} · isolation {walls(receipt)} · {hub.max_sessions} places,"
        f" by {hub.places_bound_by} · memory held by {hub.memory_control}"
    )
    for name in names:
        at_root = f"   also at {address}" if name == root else ""
        click.echo(f"  {name:<16} {address}/envs/{name}{at_root}")
    for name, error in hub.catalog.broken.items():
        click.secho(f"  {name:<16} broken: {error}", fg="red")
    for name, missing in hub.terms.variables_not_allowed().items():
        allow = " ".join(f"--variable {variable}" for variable in missing)
        click.secho(
            f"  {name:<16} asks for variables that it does not get: {allow}", fg="yellow"
        )
    for name in hub.terms.networks_not_allowed():
        click.secho(
            f"  {name:<16} asks for a network that it does not get: --allow-network {name}",
            fg="yellow",
        )
    for reason in hub.starter.passed_over:
        click.secho(f"  passed over: {reason}", fg="yellow")
    click.echo(f"listening on {address}")
