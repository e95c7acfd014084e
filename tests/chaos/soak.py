"""`python -m tests.chaos.soak --episodes N`: short episodes, very many, and what they leave.

Blocks of episodes, in four ways: sessions over the native protocol that live for one episode,
and for many; coding's, each in a fresh process and with a sandbox for its code; and embedded
ones in this process. Between blocks nothing is open, and everything is counted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import envhub
from envhub.hub.make import close_hubs
from tests.chaos import cell, processes, soak_plot
from tests.chaos.models import MODELS, Chain, Model
from tests.chaos.run import ALLOWED
from tests.chaos.server import FOLDERS, Held, Server
from tests.serving import ROOT

_PORT = 8000
_DISK_BYTES = 64 * 1024 * 1024
_AT_ONCE = 8
_PLACES = 32
_DESCRIPTORS = 4096
_STEPS = 3
_BLOCK = 1000
# of a block: one episode per session, many per session, coding's; the rest is embedded
_SHARES = (0.30, 0.58, 0.02)
_LONG_SESSION = 20  # episodes
_SETTLE_S = 20.0
_WARM = 0.2  # of the run, after which memory is to stay where it is
_GROWTH_KIB = 8 * 1024  # of the hub, from then on: what an allocator may keep


class Soak:
    """One run.

    Args:
        episodes: in all.
        seed: of all choices.
        block: episodes between two looks.
    """

    def __init__(self, episodes: int, seed: int, block: int = _BLOCK) -> None:
        self._episodes = episodes
        self._block = block
        self._random = random.Random(seed)
        self._seed = seed
        self.wrong: list[str] = []
        self.samples: list[dict[str, float]] = []
        folder = Path(tempfile.mkdtemp(prefix="soak-"))
        disk, shelf = folder / "disk", folder / "shelf"
        for one in (disk, shelf):
            one.mkdir()
        cell.furnish(disk, _DISK_BYTES)
        self._server = Server(disk, shelf, _PORT, places=_PLACES, descriptors=_DESCRIPTORS)

    def run(self) -> dict[str, Any]:
        """Play all episodes; return the report."""
        self._server.start("--log-level", "warning")
        began = time.monotonic()
        done = 0
        while done < self._episodes:
            done += self._play(min(self._block, self._episodes - done))
            self._look(done, time.monotonic() - began)
        took_s = time.monotonic() - began
        close_hubs()
        violations = [
            *self.wrong, *self._not_flat(), *self._server.complaints(), *self._server.stop()
        ]  # fmt: skip
        cell.clear(self._server.disk)
        return {
            "episodes": done,
            "seed": self._seed,
            "took_s": round(took_s, 1),
            "episodes_per_s": round(done / took_s, 1),
            "samples": self.samples,
            "violations": violations,
        }

    # ------------------------------------------------------------ episodes

    def _play(self, count: int) -> int:
        single, many, coding = (round(count * share) for share in _SHARES)
        asyncio.run(self._over_native(single, many, coding))
        self._embedded(count - single - many - coding)
        return count

    async def _over_native(self, single: int, many: int, coding: int) -> None:
        lives = [("chain", 1)] * single + [("coding", 1)] * coding
        lives += [("chain", _LONG_SESSION)] * (many // _LONG_SESSION)
        lives += [("chain", many % _LONG_SESSION)]
        self._random.shuffle(lives)
        left = iter(lives)
        async with envhub.connect(self._server.url) as hub:

            async def live() -> None:
                for name, episodes in left:
                    async with hub.session(name) as session:
                        for _ in range(episodes):
                            await self._episode(session, MODELS[name]())

            await asyncio.gather(*(live() for _ in range(_AT_ONCE)))

    async def _episode(self, session: Any, model: Model) -> None:
        seed = self._random.getrandbits(31)
        model.begin(seed)
        wrong = model.began(await session.reset(seed=seed))
        for _ in range(_STEPS):
            act = model.act(self._random)
            act.action.pop("takes_s", None)
            wrong = wrong or model.stepped(act, await session.step(act.action), None)
        if wrong:
            self.wrong.append(wrong)

    def _embedded(self, count: int) -> None:
        folders = [ROOT / folder for folder in FOLDERS]
        while count > 0:
            with envhub.make("chain", envs=folders) as session:
                for _ in range(min(count, _LONG_SESSION)):
                    count -= 1
                    model = Chain()
                    seed = self._random.getrandbits(31)
                    model.begin(seed)
                    wrong = model.began(session.reset(seed=seed))
                    for _ in range(_STEPS):
                        act = model.act(self._random)
                        act.action.pop("takes_s", None)
                        outcome = session.step(act.action)
                        wrong = wrong or model.stepped(act, outcome, None)
                    if wrong:
                        self.wrong.append(wrong)

    # ------------------------------------------------------------ what is left

    def _look(self, done: int, after_s: float) -> None:
        """Count when all is at rest; a process that has ended takes a moment to be reaped."""
        first = self.samples[0] if self.samples else None
        until = time.monotonic() + _SETTLE_S
        while True:
            held = self._server.held()
            sample: dict[str, float] = {"episodes": done, "after_s": after_s, **asdict(held)}
            own = os.getpid()
            sample |= {f"own_{k}": v for k, v in processes.memory(own).items()}
            sample["own_descriptors"] = processes.descriptors(own)
            sample["own_threads"] = processes.threads(own)
            sample["own_processes"] = sum(len(v) for v in processes.below(own).values())
            sample["workers_pss"] = sum(
                processes.memory_or_none(process.pid)
                for level in processes.below(self._server.pid).values()
                for process in level
            )
            is_at_rest = held.sessions <= 0 and held.agent_processes == 0
            is_like_first = first is None or not _grown(first, sample)
            if (is_at_rest and is_like_first) or time.monotonic() > until:
                break
            time.sleep(0.1)
        self.samples.append(sample)
        print(
            f"{after_s:7.0f} s  {done:7,} episodes  {held.descriptors} descriptors "
            f" {held.rss_kib / 1024:.1f} MiB  {held.session_processes} processes",
            flush=True,
        )

    def _not_flat(self) -> list[str]:
        first, last = self.samples[0], self.samples[-1]
        warm = self.samples[int(len(self.samples) * _WARM)]
        return [
            *(
                f"{name}: {first[name]:g} at first, {last[name]:g} at last"
                for name in _grown(first, last)
            ),
            *(
                f"{name}: {warm[name]:g} KiB when warm, {last[name]:g} at last"
                for name in ("rss_kib", "own_rss")
                if last[name] > warm[name] + _GROWTH_KIB
            ),
        ]


def _grown(first: dict[str, float], now: dict[str, float]) -> list[str]:
    counted = {**ALLOWED, "own_descriptors": 0, "own_threads": 0, "own_processes": 0}
    return [name for name, more in counted.items() if now[name] > first[name] + more]


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak", description=__doc__)
    parser.add_argument("--episodes", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--block", type=int, default=_BLOCK)
    parser.add_argument("--report", type=Path, help="a file for the samples, as JSON")
    parser.add_argument("--plot", type=Path, help="a file for the picture; needs matplotlib")
    arguments = parser.parse_args()
    if not cell.is_inside():
        if why := cell.missing():
            print(f"tests.chaos.soak: {why}", file=sys.stderr)
            return 2
        return cell.run_inside([sys.executable, "-m", "tests.chaos.soak", *sys.argv[1:]])
    found = Soak(arguments.episodes, arguments.seed, arguments.block).run()
    print(
        f"{found['episodes']:,} episodes in {found['took_s']:,} s, seed {found['seed']}:"
        f" {found['episodes_per_s']:g} a second"
    )
    for violation in found["violations"]:
        print(f"VIOLATION: {violation}")
    if arguments.report is not None:
        arguments.report.write_text(json.dumps(found, indent=1) + "\n")
    if arguments.plot is not None:
        soak_plot.draw(found, arguments.plot)
    return 1 if found["violations"] else 0


assert all(name in Held.__dataclass_fields__ for name in ALLOWED)

if __name__ == "__main__":
    sys.exit(main())
