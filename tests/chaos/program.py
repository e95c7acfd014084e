"""`python -m tests.chaos.program`: one client program. It ends when its input does."""

from __future__ import annotations

import argparse
import asyncio
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

from tests.chaos import play, play_raw
from tests.chaos.tally import Tally

_SAY_S = 0.5
_Playing = Callable[
    [str, list[str], Tally, int, float, asyncio.Event], Coroutine[Any, Any, None]
]
KINDS: dict[str, _Playing] = {
    "native": play.over_native,
    "batch": play.over_batches,
    "openenv": play.over_openenv,
}


async def run(kind: str, arguments: argparse.Namespace, tally: Tally) -> None:
    """Play until the input ends, and then to the end of the episodes."""
    loop, ending = asyncio.get_running_loop(), asyncio.Event()

    def note(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        tally.complain(f"logged: {context.get('message')}: {context.get('exception')!r}")

    def say() -> None:
        tally.print()
        loop.call_later(_SAY_S, say)

    def wait() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(ending.set)

    loop.set_exception_handler(note)
    threading.Thread(target=wait, daemon=True).start()
    say()
    names = arguments.environments.split(",")
    await KINDS[kind](arguments.url, names, tally, arguments.seed, arguments.think_s, ending)


def run_raw(arguments: argparse.Namespace, tally: Tally) -> None:
    """The same, without an event loop."""
    ending = threading.Event()

    def say() -> None:
        while not ending.wait(_SAY_S):
            tally.print()

    def wait() -> None:
        sys.stdin.read()
        ending.set()

    for work in (say, wait):
        threading.Thread(target=work, daemon=True).start()
    count = len(arguments.environments.split(","))
    play_raw.play(arguments.url, count, tally, arguments.seed, arguments.think_s, ending)


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.program", description=__doc__)
    parser.add_argument("kind", choices=[*KINDS, "raw"])
    parser.add_argument("--url", required=True)
    parser.add_argument("--environments", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--think-s", type=float, required=True)
    arguments = parser.parse_args()
    tally = Tally()
    try:
        if arguments.kind == "raw":
            run_raw(arguments, tally)
        else:
            uvloop.run(run(arguments.kind, arguments, tally))
    except Exception as error:
        tally.escaped(error)
    tally.counts["programs that ended well"] += 1
    tally.print()


if __name__ == "__main__":
    main()
