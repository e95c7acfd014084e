"""`envhub doctor`: what this machine can isolate, found by doing it."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from envhub.cli.isolation import MINIMA
from envhub_sandbox import TIERS, Tier
from envhub_sandbox import doctor as examination
from envhub_sandbox.trial import Trial

if TYPE_CHECKING:
    from rich.console import Console


@click.command()
@click.option("--isolation", "minimum", type=click.Choice(MINIMA), default="strict",
              show_default=True, help="The lowest tier that is good enough.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def doctor(minimum: str, as_json: bool) -> None:
    """Try every layer and every tier in throw-away processes, and say what is missing.

    In a session of each tier canaries then try to escape: to read your files, to connect to
    your ports, to signal your processes. The same is tried outside first, for a canary that
    could not escape anyway proves nothing.

    Exit code 0 if this machine isolates as well as --isolation or better, 69 if not.
    """
    report = examination.examine()
    lowest: Tier = next((tier for tier in TIERS if tier == minimum), "landlock")
    enough = report.reaches(lowest)
    if as_json:
        click.echo(json.dumps(_as_json(report), indent=2))
    else:
        _print(report, minimum, enough=enough)
    sys.exit(0 if enough else 69)


def _as_json(report: examination.Report) -> dict[str, object]:
    trials = [{**asdict(t), "escaped": t.escaped} for t in report.trials]
    best = report.best.grade.tier if report.best else None
    facts = {**asdict(report), "trials": trials, "best": best, "strict": report.strict}
    return {**facts, "proven": report.proven, "missing": report.missing}


def _print(report: examination.Report, minimum: str, *, enough: bool) -> None:
    """Print a line for each finding, never wrapped: a fix is there to be copied."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    facts = ", ".join(f"{name} {value}" for name, value in report.machine.items())
    console.print(f"[bold]envhub doctor[/]  [dim]{facts}[/]\n")
    width = max(len(finding.name) for finding in report.findings)
    said = ""
    for finding in report.findings:
        mark = _mark(finding.ok, needed=finding.needed)
        console.print(f"{mark} {finding.name:<{width}}  [dim]{finding.detail}[/]")
        if finding.fix and finding.fix != said:
            said = finding.fix
            console.print(f"  {'':<{width}}  [cyan]fix:[/] {finding.fix}")
    console.print()
    for trial in report.told:
        _print_trial(console, trial, report)
    if unproven := sorted({*report.free} - {*report.proven}):
        console.print(
            f"\n[dim]not possible here even without a sandbox: {', '.join(unproven)}[/]"
        )
    if report.best is None:
        console.print(
            "\n[bold red]strict isolation does not work here[/], nor does any tier below it"
        )
    elif enough:
        best = report.best
        console.print(f"\n[bold green]{best.grade.tier} isolation works[/], by {best.launcher}")
    else:
        tier = report.best.grade.tier
        console.print(
            f"\n[bold red]{minimum} isolation does not work here[/]; what does is "
            f"[bold]{tier}[/]: `--isolation {tier}`, or `--isolation best`"
        )


def _print_trial(console: Console, trial: Trial, report: examination.Report) -> None:
    # bubblewrap is a choice: what it lacks, the built-in launcher has
    needed = trial.grade.tier == "strict" and trial.launcher == "built-in"
    missing = " and ".join(trial.grade.missing)
    name = f"{trial.grade.tier}, {trial.launcher}" + (f", without {missing}" if missing else "")
    said = (
        f"{trial.detail}; {len(report.proven)} canaries stayed inside"
        if trial.works
        else trial.detail
    )
    mark = _mark(trial.works and not trial.escaped, needed=needed)
    console.print(f"{mark} {name}: [dim]{said}[/]")
    for canary in trial.escaped:
        console.print(f"    [bold red]escaped:[/] {canary}")
    if trial.hint:
        console.print(f"    [cyan]fix:[/] {trial.hint}")


def _mark(ok: bool, *, needed: bool) -> str:
    return "[green]✓[/]" if ok else "[red]✗[/]" if needed else "[yellow]-[/]"
