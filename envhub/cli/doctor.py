"""`envhub doctor`: what this machine can isolate, found by doing it."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import click

from envhub_sandbox import doctor as examination


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def doctor(as_json: bool) -> None:
    """Try every layer of isolation in throw-away processes, and say what is missing.

    Exit code 0 if strict isolation works here, 69 if it does not.
    """
    report = examination.examine()
    if as_json:
        fields = {**asdict(report), "strict": report.strict}
        click.echo(json.dumps(fields, indent=2))
    else:
        _print(report)
    sys.exit(0 if report.strict else 69)


def _print(report: examination.Report) -> None:
    """Print a line for each finding, never wrapped: a fix is there to be copied."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    machine = ", ".join(f"{name} {value}" for name, value in report.machine.items())
    console.print(f"[bold]envhub doctor[/]  [dim]{machine}[/]\n")
    width = max(len(finding.name) for finding in report.findings)
    for finding in report.findings:
        mark = (
            "[green]✓[/]" if finding.ok else "[red]✗[/]" if finding.needed else "[yellow]-[/]"
        )
        console.print(f"{mark} {finding.name:<{width}}  [dim]{finding.detail}[/]")
        if finding.fix:
            console.print(f"  {'':<{width}}  [cyan]fix:[/] {finding.fix}")
    if report.strict:
        console.print(f"\n[bold green]strict isolation works[/], by {report.launchers[0]}")
    else:
        console.print("\n[bold red]strict isolation does not work here[/]")
