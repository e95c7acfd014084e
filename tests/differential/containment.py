"""Plays the four accidents on both servers, and prints what was seen, side by side.

python -m tests.differential.containment
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from tests.differential.servers import ours, stock
from tests.openenv.accidents import ACCIDENTS, STEP_S, Accident

FOLDER = Path(__file__).parents[1] / "openenv" / "envs" / "accident_env"
HEAD = "| what happens | OpenEnv 0.10's server | envhub |\n|---|---|---|"


def seen(accident: Accident, home: Path) -> tuple[str, str]:
    """Return what was seen with OpenEnv's server, and what with envhub.

    Args:
        accident: to play, on a server of its own.
        home: an empty folder.
    """
    folder = home / FOLDER.name
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
    with stock(folder, home) as address:
        theirs = accident.play(address)
    with ours(folder, arguments=("--cap", f"step_s={STEP_S}")) as address:
        return theirs, accident.play(address)


def row(accident: Accident, theirs: str, mine: str) -> str:
    """Return a line of the table in docs/from-openenv.md."""
    return f"| {accident.name} | {theirs} | {mine} |"


if __name__ == "__main__":
    print(HEAD)
    for each in ACCIDENTS:
        with tempfile.TemporaryDirectory() as made:
            print(row(each, *seen(each, Path(made))), flush=True)
