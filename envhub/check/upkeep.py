"""Checks of what an environment uses, and whether it gives it back."""

from __future__ import annotations

import time
from collections.abc import Sequence

from envhub.check.play import Moment, read, reset, take
from envhub.check.result import Verdict, failed, not_applicable, own_frames, passed
from envhub.check.subject import Subject
from envhub.check.weigh import KIB, Weight, growth, look, steadily
from envhub.errors import EnvhubError, EnvironmentFailed

LEAST_EPISODES = 6  # below it nothing can be said about growth
_LEAST_COUNT = 0.3  # one more in two or three episodes
_LEAST_BYTES = 64 * KIB  # of each episode; below it the allocator's own habits are
NEAR = 0.8  # of a limit, and that is too near
_MIB = 1024 * KIB


async def nothing_grows(subject: Subject) -> Verdict:
    """Play many episodes in one process, and look at it after each."""
    episodes = subject.plan.episodes
    if subject.manifest.reset == "pristine":
        return not_applicable('each episode has a fresh process (`reset = "pristine"`)')
    if episodes < LEAST_EPISODES:
        return not_applicable(f"{episodes} episodes say nothing; {LEAST_EPISODES} would")
    seen: list[Weight] = []
    async with subject.session() as session:
        for number in range(episodes):
            await subject.play(session, subject.plan.seed + number, number=number)
            if (weight := look(session.pid)) is not None:
                seen = [w for w in seen if w.pid == weight.pid] + [weight]
    if len(seen) < LEAST_EPISODES:
        return not_applicable("its process did not live for enough episodes")
    return judged(seen)


def judged(seen: Sequence[Weight]) -> Verdict:
    """Return whether any of what was seen after each episode grows steadily."""
    descriptors = [w.descriptors for w in seen if w.descriptors is not None]
    counts: dict[str, Sequence[float]] = {
        "descriptors": descriptors,
        "threads": [w.threads for w in seen],
        "processes": [w.processes for w in seen],
    }
    memory = [w.memory_bytes for w in seen]
    figures = {f"{name}_per_episode": round(growth(c), 2) for name, c in counts.items() if c}
    figures["memory_kib_per_episode"] = round(growth(memory) / KIB, 1)
    said = [f"{name} {c[0]:g} → {c[-1]:g}" for name, c in counts.items() if c]
    said.append(f"memory {memory[0] / _MIB:.1f} → {memory[-1] / _MIB:.1f} MiB")
    if not descriptors:
        said.append("descriptors cannot be seen from here")
    summary = f"{len(seen)} episodes: {', '.join(said)}"
    growing = [name for name, c in counts.items() if c and steadily(c, _LEAST_COUNT)]
    if steadily(memory, _LEAST_BYTES):
        growing.append("memory")
    if "processes" in growing:
        growing = ["processes"]  # which have the rest
    if growing:
        return Verdict(
            "failed",
            f"with every episode grows: {', '.join(growing)}; {summary}",
            "close in `reset` what the last episode opened, and drop what it kept; or say"
            ' `reset = "pristine"` in env.toml. A cache that fills slowly needs more'
            " `--episodes`",
            figures=figures,
        )
    return passed(summary, **figures)


async def far_from_its_limits(subject: Subject) -> Verdict:
    """Compare what the calls and the process took with what they may take."""
    moments = [moment for episode in await subject.all_fresh() for moment in episode.moments]
    weights = await _weights(subject)
    used = {
        "start_s": subject.start_s,
        **{f"{call}_s": _longest(moments, call) for call in ("reset", "step", "state")},
        "memory_bytes": max((w.most_data_bytes for w in weights), default=0),
        "processes": max((w.threads for w in weights), default=0),
        "open_files": max((w.most_descriptors for w in weights), default=0),
        "frame_bytes": max((m.length for m in moments), default=0),
    }
    shares = {
        name: used[name] / allowed
        for name in used
        if (allowed := subject.limits.get(name, 0)) and used[name]
    }
    figures = {f"{name}_share": round(share, 4) for name, share in shares.items()}
    near = [name for name, share in shares.items() if share > NEAR]
    lines = tuple(_line(name, used[name], subject.limits[name]) for name in shares)
    if near:
        return Verdict(
            "failed",
            "; ".join(_line(name, used[name], subject.limits[name]) for name in near),
            "a slower or a fuller machine goes past it: use less, or raise the limit in"
            " env.toml",
            figures=figures,
        )
    top = sorted(shares, key=lambda name: -shares[name])[:3]
    said = ", ".join(f"{name} {shares[name]:.0%}" for name in top)
    return Verdict("passed", f"at most {said}", details=lines, figures=figures)


async def closes_in_time(subject: Subject) -> Verdict:
    """Close in the middle of an episode."""
    allowed = subject.limits.get("close_s", 0)
    async with subject.session() as session:
        await subject.play(session, subject.plan.seed, steps=1)
        began = time.perf_counter()
        try:
            await session.close_environment()
        except EnvironmentFailed as error:
            return failed(
                f"`close` raised: {error}",
                "it may be called at any time, also before the first step",
                own_frames(error.traceback),
            )
        except EnvhubError as error:
            return failed(
                f"`close`: {error}",
                "what is not closed after `close_s` is killed: wait for nothing there",
            )
        took = time.perf_counter() - began
    return passed(f"{took * 1e3:.0f} ms of {allowed:g} s", close_s=round(took, 4))


async def _weights(subject: Subject) -> list[Weight]:
    """Look at a process after each call of an episode."""
    options = {"seed": subject.plan.seed} if subject.seeded else {}
    seen = []
    async with subject.session() as session:
        moment = await reset(session, options, subject.form)
        seen.append(look(session.pid))
        for step in range(subject.plan.steps):
            if moment.error or moment.answer.get("done"):
                break
            moment = await take(session, subject.actions.at(step), subject.form)
            seen.append(look(session.pid))
        if session.pid:
            await read(session, subject.form)
    return [weight for weight in seen if weight is not None]


def _longest(moments: Sequence[Moment], call: str) -> float:
    return max((m.elapsed_s for m in moments if m.call == call and not m.error), default=0.0)


def _line(name: str, used: float, allowed: float) -> str:
    if name.endswith("_s"):
        return f"{name}: {used:.3g} of {allowed:g} s"
    if name.endswith("_bytes"):
        return f"{name}: {used / _MIB:.1f} of {allowed / _MIB:.0f} MiB"
    return f"{name}: {used:g} of {allowed:g}"
