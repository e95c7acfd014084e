"""The options by which an operator gives things to environments."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from envhub.errors import UsageError

if TYPE_CHECKING:
    from envhub.hub.environments.grants import Grant

Command = TypeVar("Command", bound=Callable[..., Any])


def grant_options(command: Command) -> Command:
    """Add the options for one environment to a command: see `one`."""
    for add in (
        click.option("--with", "packages", multiple=True, metavar="PACKAGE",
                     help="Install this beside what an OpenEnv folder names, or an id of "
                          "Gymnasium's needs."),
        click.option("--show", "folders", multiple=True, metavar="DIR",
                     type=click.Path(exists=True, file_okay=False),
                     help="Let it read this folder, where it is."),
        click.option("--allow-network", is_flag=True,
                     help="Let it use this machine's network, if its manifest asks."),
        click.option("--variable", "variables", multiple=True, metavar="NAME",
                     help="Hand it this environment variable."),
    ):  # fmt: skip
        command = add(command)
    return command


def one(given: dict[str, Any]) -> Grant:
    """Return what `grant_options` say, taken out of a command's arguments."""
    from envhub.hub.environments.grants import Grant

    return Grant(
        given.pop("allow_network"),
        given.pop("variables"),
        given.pop("folders"),
        given.pop("packages"),
    )


def by_name(
    network: Iterable[str],
    variables: Iterable[str],
    folders: Iterable[str],
    packages: Iterable[str],
) -> tuple[dict[str, Grant], tuple[str, ...]]:
    """Return what each environment is given, and the variables for whoever names them.

    Args:
        network: names of environments.
        variables: "NAME", or "ENV:NAME" for one environment.
        folders: "ENV:DIR".
        packages: "ENV:PACKAGE".

    Raises:
        UsageError: one is not of that form.
    """
    from envhub.hub.environments.grants import Grant

    to_all = tuple(variable for variable in variables if ":" not in variable)
    given = {
        "variables": _pairs("--variable", (v for v in variables if ":" in v)),
        "folders": _pairs("--show", folders),
        "packages": _pairs("--with", packages),
    }
    agreed = set(network)
    names = agreed.union(*given.values())
    grants = {
        name: Grant(
            name in agreed, **{what: tuple(g.get(name, ())) for what, g in given.items()}
        )
        for name in names
    }
    return grants, to_all


def _pairs(option: str, given: Iterable[str]) -> dict[str, list[str]]:
    from envhub.hub.environments import gym

    found: dict[str, list[str]] = {}
    for text in given:
        name, _, what = text.partition(":")
        if gym.is_meant(text):
            name, what = gym.cut(text)
        if not (name and what):
            raise UsageError(f"expected {option} ENV:…, got `{text}`")
        found.setdefault(name, []).append(what)
    return found
