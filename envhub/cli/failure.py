"""How a failure leaves the command line: one line, a hint, and an exit code of sysexits(3)."""

from __future__ import annotations

import click

from envhub.cli.terminal import shown
from envhub.errors import (
    CapacityError,
    EnvhubError,
    LocalProtocolError,
    ManifestError,
    SchemaMismatch,
    UsageError,
    WorkerStartFailed,
)
from envhub_sandbox import LaunchFailed, SandboxError

_CODES: tuple[tuple[type[Exception], int], ...] = (
    (SchemaMismatch, 1),
    (UsageError, 2),
    (ManifestError, 2),
    (CapacityError, 75),
    (LocalProtocolError, 70),
    (EnvhubError, 1),
    (SandboxError, 69),
)


def exit_code(error: Exception) -> int | None:
    """Return the exit code for an error that we raise on purpose; None for any other."""
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    return None


def say(error: Exception) -> None:
    """Print the error as a person wants to read it."""
    click.secho("error: ", fg="red", bold=True, nl=False, err=True)
    click.echo(shown(str(error)), err=True)
    if isinstance(error, WorkerStartFailed) and error.output:
        click.echo(_indented(error.output), err=True)
    if isinstance(error, LaunchFailed) and error.stderr and error.stderr not in str(error):
        click.echo(_indented(error.stderr), err=True)
    hint = getattr(error, "hint", "")
    if not hint and isinstance(error, SandboxError):
        hint = "`envhub doctor` tries every layer and prints the fix for what is missing"
    if hint:
        click.secho("hint: ", fg="cyan", nl=False, err=True)
        click.echo(shown(hint), err=True)


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in shown(text).strip().splitlines())
