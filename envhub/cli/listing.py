"""`envhub list`: the environments on the search path."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from envhub.cli.terminal import shown
from envhub.hub.environments import gym
from envhub.hub.environments.catalog import Catalog, search_path


@click.command("list")
@click.option("--envs", multiple=True, metavar="DIR", help="A folder to look in first.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def list_(envs: tuple[str, ...], as_json: bool) -> None:
    """List the environments on the search path.

    Searched in this order, first match wins: --envs, $ENVHUB_PATH, ./envs, and the
    environments that came with envhub. An id of Gymnasium's is a name everywhere, and needs
    no folder: `envhub run gym:CartPole-v1`.
    """
    catalog = Catalog(search_path(envs))
    if as_json:
        click.echo(json.dumps(_as_json(catalog), indent=2))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("name", "version", "description", "folder"):
        table.add_column(heading, overflow="fold")
    for name in catalog.names():
        found = catalog[name]
        written = (found.version, found.description, found.folder)
        version, description, folder = (escape(shown(text)) for text in written)
        table.add_row(name, version, description, f"[dim]{folder}[/]")
    console = Console()
    console.print(table) if catalog.names() else console.print("no environments found")
    for error in catalog.broken.values():
        console.print(f"[red]broken:[/] {escape(shown(str(error)))}", highlight=False)
    folders = ", ".join(str(folder) for folder in catalog.path) or "nowhere"
    console.print(f"[dim]looked in {folders}[/]", highlight=False)
    console.print(f"[dim]Gymnasium's need no folder: {gym.FORM}[/]", highlight=False)


def _as_json(catalog: Catalog) -> dict[str, Any]:
    """Return what was found and where, what is broken, and where was looked."""
    rows = []
    for name in catalog.names():
        found = catalog[name]
        rows.append(
            {
                "name": name,
                "version": found.version,
                "description": found.description,
                "format": found.format,
                "reset": found.reset,
                "agent_code": found.agent_code,
                "network": found.network,
                "variables": list(found.variables),
                "folder": found.folder,
                "found_in": _found_in(catalog, Path(found.folder)),
            }
        )
    broken = [
        {"name": name, "error": str(error), "hint": error.hint}
        for name, error in catalog.broken.items()
    ]
    looked_in = [str(folder) for folder in catalog.path]
    return {"environments": rows, "broken": broken, "looked_in": looked_in}


def _found_in(catalog: Catalog, folder: Path) -> str:
    """Return the folder of the search path: the environment's own, or the one it is in."""
    for place in catalog.path:
        if folder in (place, *(child.resolve() for child in place.glob("*") if child.is_dir())):
            return str(place)
    return str(folder.parent)
