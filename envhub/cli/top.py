"""`envhub top`: what a running server does, looked at again and again.

This file asks and computes rates; `picture` is what is shown.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, field

import click
import msgspec
from rich.console import Console
from rich.live import Live

from envhub.cli.picture import picture
from envhub.client import fetch, speech
from envhub.errors import RemoteProtocolError, UsageError, WorkerLost
from envhub.hub.accounts.facts import SessionFacts, Summary

URL = "http://127.0.0.1:8000"
_PATIENCE_S = 10.0
_LINES = 60  # of a picture, where no terminal says how many it has


class _Sessions(msgspec.Struct):
    sessions: list[SessionFacts]


@dataclass(frozen=True)
class Look:
    """What a server has said once.

    Args:
        summary: of it.
        sessions: that we may see; None if that was refused.
        at: when, in time.monotonic's seconds.
    """

    summary: Summary
    sessions: list[SessionFacts] | None
    at: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class Rates:
    """What happened each second between two looks; nothing while there was only one.

    Args:
        steps: by environment.
        errors: by environment.
        session_steps: by session.
        cpu: share of one core that the hub has used.
    """

    steps: dict[str, float] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    session_steps: dict[str, float] = field(default_factory=dict)
    cpu: float | None = None


def rates(before: Look, now: Look) -> Rates:
    """Return what happened between two looks."""
    span_s = max(now.at - before.at, 1e-3)
    rows = {row.name: row for row in before.summary.environments}
    known = {s.id: s.steps for s in before.sessions or ()}
    found = Rates(cpu=max(0.0, _cpu_s(now) - _cpu_s(before)) / span_s)
    for row in now.summary.environments:
        last = rows.get(row.name)
        found.steps[row.name] = max(0, row.steps - (last.steps if last else 0)) / span_s
        found.errors[row.name] = max(0, row.errors - (last.errors if last else 0)) / span_s
    for session in now.sessions or ():
        steps = session.steps - known.get(session.id, 0)
        found.session_steps[session.id] = max(0, steps) / span_s
    return found


def look(url: str, token: str) -> Look:
    """Ask a server.

    Raises:
        UsageError: nobody answers there, or it wants a token, or is no server of ours.
    """
    headers = speech.authorization(token)
    try:
        said = fetch.document(url, "/v1/hub", headers, _PATIENCE_S)
        summary = msgspec.convert(said, Summary)
        try:
            listed = fetch.document(url, "/v1/sessions", headers, _PATIENCE_S)
            return Look(summary, msgspec.convert(listed, _Sessions).sessions)
        except WorkerLost as error:
            if "403" in str(error):  # another machine's, and it has no tokens
                return Look(summary, None)
            raise
    except WorkerLost as error:
        raise UsageError(str(error), hint=_hint(str(error), url)) from None
    except (RemoteProtocolError, msgspec.ValidationError) as error:
        what = f"{url} is no server of this version of envhub: {error}"
        raise UsageError(what, hint="name the address that `envhub serve` prints") from None


@click.command()
@click.argument("url", default=URL)
@click.option("--token", envvar="ENVHUB_TOKEN", default="", metavar="TOKEN",
              help="For a server that asks for one; by default $ENVHUB_TOKEN.")  # fmt: skip
@click.option("--interval", "interval_s", type=click.FloatRange(0.1, 3600), default=1.0,
              show_default=True, metavar="SECONDS", help="Between two looks.")  # fmt: skip
@click.option("--once", is_flag=True,
              help="Print one picture and end, as it does where no terminal is.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, nothing else.")
def top(url: str, token: str, interval_s: float, once: bool, as_json: bool) -> None:
    """Watch the server at URL: places, memory, environments, and its busiest sessions.

    Two looks are needed to say how much happens in a second, so that one picture takes as
    long as the interval is. Ctrl-C ends it.
    """
    console = Console()
    first = look(url, token)
    if once or as_json or not console.is_terminal:
        time.sleep(interval_s)
        now = look(url, token)
        if as_json:
            click.echo(json.dumps(_as_json(now, rates(first, now)), indent=2))
        else:
            console.print(picture(url, now, rates(first, now), _LINES))
        return
    try:
        _watch(console, url, token, interval_s, first)
    except KeyboardInterrupt:
        sys.exit(0)


def _watch(console: Console, url: str, token: str, interval_s: float, last: Look) -> None:
    """Draw again and again; where the server does not answer, say so and go on asking."""
    drawn = Rates()
    with Live(console=console, screen=True, auto_refresh=False) as live:
        live.update(picture(url, last, drawn, console.height), refresh=True)
        while True:
            time.sleep(interval_s)
            trouble = ""
            try:
                now = look(url, token)
                last, drawn = now, rates(last, now)
            except UsageError as error:
                trouble = str(error)
            live.update(picture(url, last, drawn, console.height, trouble), refresh=True)


def _as_json(now: Look, found: Rates) -> dict[str, object]:
    said: dict[str, object] = msgspec.to_builtins(now.summary)
    said["hub_cpu"] = found.cpu
    said["environments"] = [
        {
            **msgspec.to_builtins(row),
            "steps_per_s": found.steps[row.name],
            "errors_per_s": found.errors[row.name],
        }
        for row in now.summary.environments
    ]
    said["sessions"] = [
        {**msgspec.to_builtins(session), "steps_per_s": found.session_steps[session.id]}
        for session in now.sessions or ()
    ]
    return said


def _cpu_s(look: Look) -> float:
    return look.summary.process.get("process_cpu_seconds_total", 0.0)


def _hint(what: str, url: str) -> str:
    if "401" in what:
        return "the server asks for a token: --token TOKEN, or $ENVHUB_TOKEN"
    if "403" in what:
        return "its token is for some environments only, and this is about all of them"
    if "404" in what:
        return "name the address that `envhub serve` prints, without a path"
    return f"`envhub serve` starts a server; `envhub top URL` looks at one that is not at {URL}"
