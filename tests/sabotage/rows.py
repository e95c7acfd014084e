"""What was found and is verified since: rows, and why some protections have none.

The data is in rows.toml: `python -m tests.sabotage --search` prints lines for it.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One protection that is missed.

    Args:
        protection: its name.
        attack: fails while it stands.
        companions: what is left out as well, for they would stop the attack, too.
        world: where it is tried, if not in the protection's own.
        needs_root: nobody else has what is protected.
    """

    protection: str
    attack: str
    companions: tuple[str, ...] = ()
    world: str = ""
    needs_root: bool = False

    def __str__(self) -> str:
        return f"{self.protection}, by {self.attack}"


_DATA = tomllib.loads((Path(__file__).parent / "rows.toml").read_text())
ROWS = tuple(
    Row(
        name,
        row["attack"],
        tuple(row.get("without", ())),
        row.get("world", ""),
        row.get("needs_root", False),
    )
    for name, row in _DATA["rows"].items()
)
# without it nothing is built, so no attack is left to show: the companions of each
CLOSED = {name: tuple(row["without"]) for name, row in _DATA["closed"].items()}
# of these, the ones that root's capabilities make up for
_OF_USERS = {name for name, row in _DATA["closed"].items() if row.get("needs_user")}
# what no attack misses: why
NO_WALL: dict[str, str] = _DATA["no_wall"]


def closed_for(*, root: bool) -> dict[str, tuple[str, ...]]:
    """Return those of CLOSED that hold for root, or for anybody else."""
    return {name: rest for name, rest in CLOSED.items() if not (root and name in _OF_USERS)}
