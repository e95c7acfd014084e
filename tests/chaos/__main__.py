"""`python -m tests.chaos --seed N --minutes M --sessions S`: disturb a server under load."""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import sys
import time
from pathlib import Path

from rich.console import Console

from tests.chaos import cell, report
from tests.chaos.run import Run


def main() -> int:
    """Parse the command line and run; 1 if anything was violated, 2 if it cannot run here."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--report", type=Path, help="a file for the report, as JSON")
    arguments = parser.parse_args()
    if not cell.is_inside():
        if why := cell.missing():
            print(f"tests.chaos: {why}", file=sys.stderr)
            return 2
        seed = [] if "--seed" in sys.argv else ["--seed", str(arguments.seed)]
        return cell.run_inside([sys.executable, "-m", "tests.chaos", *sys.argv[1:], *seed])
    console = Console(width=100)
    console.print(f"seed {arguments.seed}", highlight=False)
    began = time.monotonic()

    def say(what: str) -> None:
        console.print(f"{time.monotonic() - began:6.1f} s  {what}", style="dim")

    run = Run(arguments.seed, arguments.minutes, arguments.sessions, say)
    found = asyncio.run(run.play())
    report.show(console, found)
    if arguments.report is not None:
        arguments.report.write_text(json.dumps(found, indent=1) + "\n")
    return 1 if found["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
