"""`envhub list`: the environments on the search path."""

from __future__ import annotations

import json

import click

from envhub.hub.catalog import Catalog, search_path


@click.command("list")
@click.option("--envs", multiple=True, metavar="DIR", help="A folder to look in first.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def list_(envs: tuple[str, ...], as_json: bool) -> None:
    """List the environments on the search path.

    Searched in this order, first match wins: --envs, $ENVHUB_PATH, ./envs, and the
    environments that came with envhub.
    """
    catalog = Catalog(search_path(envs))
    if as_json:
        rows = [
            {"name": name, "version": catalog[name].version, "folder": catalog[name].folder,
             "description": catalog[name].description}
            for name in catalog.names()
        ]  # fmt: skip
        broken = [{"name": name, "error": str(e)} for name, e in catalog.broken.items()]
        click.echo(json.dumps({"environments": rows, "broken": broken}, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("name", "version", "description", "folder"):
        table.add_column(heading, overflow="fold")
    for name in catalog.names():
        found = catalog[name]
        table.add_row(name, found.version, found.description, f"[dim]{found.folder}[/]")
    console = Console()
    console.print(table) if catalog.names() else console.print("no environments found")
    for error in catalog.broken.values():
        console.print(f"[red]broken:[/] {error}", highlight=False)
    folders = ", ".join(str(folder) for folder in catalog.path) or "nowhere"
    console.print(f"[dim]looked in {folders}[/]", highlight=False)
