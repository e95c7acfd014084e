"""What was to be reached, beside whom: the first table of docs/performance.md, row by row.

The figures, and what they are held to, are the benchmarks' own; here are their names.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bench import actors, cartpole, pinned, remote, sessions, storm


@dataclass(frozen=True)
class Goal:
    """A row.

    Args:
        what: of ours, and what of it.
        against: in the same run.
        benchmark: that has the figure.
        figure: its name.
    """

    what: str
    against: str
    benchmark: str
    figure: str


def _goals() -> Iterator[Goal]:
    yield from _one_session()
    yield from _many_sessions()
    yield from _our_client()
    yield from _storm()
    one = f"one core, {pinned.NATIVE} ÷ {pinned.FRAMED}"
    floor = "blocking Unix socket and msgspec, framed"
    yield Goal("1 session, embedded, sync, one core: p50", floor, "steps", one)
    yield from _vectors()
    yield Goal("64 sessions, embedded, async, in lockstep: steps/s", "Ray's actors", "actors",
               f"{actors.SESSIONS} in lockstep: {actors.OURS} ÷ {actors.RAYS}")  # fmt: skip
    fresh = "bwrap, python -c 'import numpy'"
    for what, figure in (
        ("from a warm zygote", "warm zygote, numpy, bubblewrap"),
        ("from the ready pool", "hub.open, from the ready pool, bubblewrap"),
    ):
        yield Goal(f"session start, {what}", fresh, "start", f"{fresh} ÷ {figure}")
    for what, figure in (
        ("idle session: memory", "echo, 1,000 sessions: real memory, each"),
        ("4,000 idle sessions: memory", "echo, 4,000 sessions: real memory, all"),
    ):
        yield Goal(what, "", "memory", figure)


def _one_session() -> Iterator[Goal]:
    for what, figure in (("our echo", "echo, OpenEnv's client"),
                         ("OpenEnv's folder", "OpenEnv's folder and client")):  # fmt: skip
        for quantity, name in (("p50", "p50"), ("processor time", remote.SERVING)):
            yield Goal(
                f"1 session, OpenEnv's own client, one core, {what}: {quantity}",
                "OpenEnv's server",
                "remote",
                f"{remote.ONE_STOCK} ÷ envhub, {figure}: {name}",
            )


def _many_sessions() -> Iterator[Goal]:
    named = {sessions.ECHO: "our echo", sessions.FOLDER: "OpenEnv's folder"}
    for number in (64, 256, 1024, 4096):
        at = f"{number:,} sessions"
        for name, what in named.items():
            start = f"{at}, OpenEnv's own client, {what}"
            rate = f"{at}: {name} ÷ {sessions.STOCK}: rate"
            p99 = f"{at}: {sessions.STOCK} ÷ {name}: p99"
            yield Goal(f"{start}: steps/s", "OpenEnv's server", "sessions", rate)
            if number < 4096:
                yield Goal(f"{start}: p99", "OpenEnv's server", "sessions", p99)
    start = "4,096 sessions, OpenEnv's own client, OpenEnv's folder"
    for what, name in (("refused", "refused"), ("memory of each", sessions.MEMORY)):
        figure = f"4,096 sessions, {sessions.FOLDER}: {name}"
        yield Goal(f"{start}: {what}", "", "sessions", figure)


def _our_client() -> Iterator[Goal]:
    for client, how in (("our client", ""), ("our blocking client", "blocking, ")):
        for what, figure in (("plain dicts", "native"),
                             ("OpenEnv's folder", "OpenEnv's folder")):  # fmt: skip
            yield Goal(f"1 session, {client} over WebSocket, one core, {what}: p50",
                       "OpenEnv's server and client", "remote",
                       f"{remote.ONE_STOCK} ÷ envhub.connect, {how}{figure}: p50",
                       )  # fmt: skip
    for how, said in (
        ("a connection each", "a connection each"),
        ("a task each", "multiplexed"),
        ("batch", "batched"),
    ):
        for environment, what in (("native", "plain dicts"), ("echo", "our echo")):
            yield Goal(f"64 sessions, our client, {said}, {what}: steps/s",
                       "OpenEnv's server and client", "remote",
                       f"64 sessions, envhub.connect, {how}, {environment}"
                       " ÷ OpenEnv's server and client: rate")  # fmt: skip

    for figure, what in (
        ("counters", "an environment of Gymnasium's"),
        ("their vectorised class", "an author's vectorised class"),
    ):
        yield Goal(f"64 environments in one session over the wire, {what}: steps/s",
                   "OpenEnv's server and client", "remote",
                   f"{remote.TOGETHER}, {figure} ÷ OpenEnv's server and client: rate",
                   )  # fmt: skip


def _storm() -> Iterator[Goal]:
    for number in storm.NUMBERS:
        at = f"{number:,} at once"
        start = f"storm of {number:,} sessions"
        p99 = f"{at}: {storm.STOCK} ÷ {storm.OURS}: p99 of the whole"
        yield Goal(f"{start}: p99 of the whole", "OpenEnv's server", "storm", p99)
        success = f"{at}, {storm.OURS}: success"
        yield Goal(f"{start}: success", "", "storm", success)


def _vectors() -> Iterator[Goal]:
    for goal in cartpole.GOALS:
        for size in goal.targets:
            figure = f"CartPole, {size:,} at once: {goal.ours} ÷ {goal.name}"
            what = f"make_vec, {size:,} CartPoles{goal.what}: steps/s"
            yield Goal(what, goal.name, "cartpole", figure)


GOALS = tuple(_goals())
