"""`envhub check`: the conformance checks, and their report."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from envhub.cli import granting, target
from envhub.cli.granting import grant_options
from envhub.cli.isolation import isolation_options
from envhub.cli.terminal import shown

if TYPE_CHECKING:
    from envhub.check.result import Report, Result, Status
    from envhub.check.subject import Plan

_MARKS: dict[Status, tuple[str, str]] = {
    "passed": ("pass", "green"),
    "failed": ("FAIL", "red"),
    "warning": ("warn", "yellow"),
    "not applicable": ("n/a ", "bright_black"),
}


@click.command()
@click.argument("env")
@click.option("--envs", multiple=True, metavar="DIR", help="A folder to look in first.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0),
              help="What actions are made from, and the first seed to reset with.")  # fmt: skip
@click.option("--steps", default=10, show_default=True, type=click.IntRange(1),
              help="The most steps of an episode.")  # fmt: skip
@click.option("--episodes", default=20, show_default=True, type=click.IntRange(1),
              help="How many to play in one process, for what grows.")  # fmt: skip
@click.option("--sessions", default=16, show_default=True, type=click.IntRange(2),
              help="How many to play at once.")  # fmt: skip
@click.option("--actions", "actions_file", metavar="FILE",
              type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="Actions to play instead of made ones, one JSON object a line; each episode"
                   " begins at the first.")  # fmt: skip
@click.option("--only", multiple=True, metavar="ID", help="Run this check, and no other.")
@click.option("--skip", multiple=True, metavar="ID", help="Leave this check out.")
@grant_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, nothing else.")
@click.option("--junit", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path),
              help="Write JUnit XML, too.")  # fmt: skip
@isolation_options
def check(
    env: str,
    envs: tuple[str, ...],
    seed: int,
    steps: int,
    episodes: int,
    sessions: int,
    actions_file: Path | None,
    only: tuple[str, ...],
    skip: tuple[str, ...],
    as_json: bool,
    junit: Path | None,
    **options: Any,
) -> None:
    r"""Try whether an environment keeps what every environment must keep.

    ENV is a name on the search path, a folder, ours or one written for OpenEnv, or an id of
    Gymnasium's such as gym:CartPole-v1. It is played in real sandboxes, with actions that are
    made from its own schema: the same seed makes the same actions. Exit code 0 if nothing
    failed, 1 if something did.

    \b
    start         it starts in a sandbox and says what it is
    schemas       its types are valid, and an action can be made from them
    answers       each reset, step and state is answered
    actions       an action that fits its schema is accepted
    seeds         the same seed gives the same episode, in any process
    seeds-matter  different seeds differ (a warning only)
    observations  what it sends fits its schemas
    forms         MessagePack and JSON carry the same
    reset         an episode after a reset equals one in a fresh process
    before-reset  a step before reset is answered, and harms nothing
    options       so is an unknown option of reset
    concurrency   many sessions at once play as one does alone
    leaks         nothing grows with episodes
    limits        it stays well below its deadlines and limits
    close         it closes in time
    """
    from envhub.check import actions
    from envhub.check.subject import Plan

    given = tuple(actions.from_file(actions_file)) if actions_file else ()
    plan = Plan(seed, steps, episodes, sessions, given)
    found = target.find(env, envs)
    note = partial(click.echo, err=as_json)
    granted = granting.one(options)
    target.build(granted.applied(found.manifest), note)
    report = checked(found, plan, only=only, skip=skip, quiet=as_json,
                     grants={found.name: granted}, **options)  # fmt: skip
    if junit is not None:
        from envhub.check.junit import xml

        junit.write_bytes(xml(report))
    if as_json:
        click.echo(json.dumps(report.as_json(), indent=2))
    sys.exit(0 if report.ok else 1)


def checked(
    found: target.Target,
    plan: Plan,
    *,
    only: tuple[str, ...] = (),
    skip: tuple[str, ...] = (),
    quiet: bool = False,
    **options: Any,
) -> Report:
    """Run the checks, and print each result as it comes.

    Raises: as `envhub.check.conformance.run`.
    """
    import uvloop

    from envhub.check import conformance
    from envhub.hub.hub import Hub

    progress = _Progress() if not quiet else None
    if not quiet:
        manifest = found.manifest
        click.secho(f"{manifest.name} {manifest.version}", bold=True, nl=False)
        click.echo(f"   {manifest.folder}")
    began = time.perf_counter()
    running = conformance.run(
        lambda: Hub(found.envs, **options),
        found.name,
        plan,
        only=only,
        skip=skip,
        begins=(lambda c: progress.begin(c.id)) if progress else lambda _: None,
        ends=progress.end if progress else lambda _: None,
    )
    report = uvloop.run(running)
    if not quiet:
        _sum_up(report, time.perf_counter() - began, click.echo)
    return report


class _Progress:
    """A line for each result; on a terminal, also what is being tried."""

    def __init__(self) -> None:
        self._live = sys.stdout.isatty()

    def begin(self, name: str) -> None:
        if self._live:
            click.echo(f"...   {name}", nl=False)

    def end(self, result: Result) -> None:
        from envhub.check.result import NOT_STARTED

        if self._live:
            click.echo("\r\x1b[K", nl=False)
        verdict = result.verdict
        if verdict.seen == NOT_STARTED:
            return  # fourteen times the same; the sum has them
        mark, colour = _MARKS[verdict.status]
        click.secho(mark, fg=colour, bold=verdict.status == "failed", nl=False)
        if verdict.status in ("passed", "not applicable"):
            click.echo(f"  {result.id:<13} {shown(verdict.seen or result.claim)}")
            return
        click.echo(f"  {result.id:<13} {result.claim}")
        for label, text in ("seen", verdict.seen), ("do", verdict.advice):
            if text:
                click.echo(f"{'':6}{label:>13}: {shown(text)}")
        for line in verdict.details:
            click.secho(f"{'':21}{shown(line)}", dim=True)


def _sum_up(report: Report, elapsed_s: float, say: Callable[[str], None]) -> None:
    counts = [f"{report.count(status)} {status}" for status in _MARKS if report.count(status)]
    tier = report.about["isolation"] or "not started"
    say(f"{', '.join(counts)} in {elapsed_s:.1f} s · isolation {tier}")
    if not report.about["schema"] and len(report.results) > 1:
        say("nothing else can be tried until it starts")
    if report.about["schema"]:
        say(f"schema {report.about['schema']}")
