"""The options by which an operator says how well environments must be isolated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from envhub_sandbox import TIERS, Receipt

MINIMA = (*(tier for tier in TIERS if tier != "none"), "best")
Command = TypeVar("Command", bound=Callable[..., Any])


def isolation_options(command: Command) -> Command:
    """Add --isolation, --exactly and --allow-unprotected-agent-code to a command."""
    choice = click.option(
        "--isolation",
        type=click.Choice([*MINIMA, "none"]),
        default="strict",
        show_default=True,
        help="The lowest tier that will do; a higher one is taken where it works. `best` takes "
        "what there is; `none` runs environments unprotected.",
    )
    exactly = click.option(
        "--exactly", is_flag=True, help="Take the tier of --isolation, and no higher one."
    )
    unprotected = click.option(
        "--allow-unprotected-agent-code",
        "allow_unprotected_agent_code",
        is_flag=True,
        help="With `--isolation none`: let agent code do on this machine all that you may.",
    )
    return choice(exactly(unprotected(command)))


def walls(receipt: Receipt) -> str:
    """Return how well sessions are isolated, in words; loud where something is missing."""
    if receipt.tier == "none":
        return click.style("NONE: environments run unprotected", fg="red", bold=True)
    built = f"{receipt.tier} ({len(receipt.layers)} layers, {receipt.launcher})"
    if not receipt.missing:
        return built
    missing = f"WITHOUT {' and '.join(receipt.missing)}"
    return f"{built} {click.style(missing, fg='yellow', bold=True)}"
