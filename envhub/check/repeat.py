"""Checks of what must come out the same: by seed, after a reset, beside others."""

from __future__ import annotations

import anyio

from envhub.check.play import Episode, differences, play
from envhub.check.result import Verdict, failed, not_applicable, passed
from envhub.check.subject import Subject
from envhub.errors import EnvhubError


async def same_seed_same_episode(subject: Subject) -> Verdict:
    """Play each seed in two fresh sessions, and once in another zygote."""
    subject.why_varies = "its episodes differ from run to run"  # until they do not
    for seed in subject.plan.seeds[:2]:
        async with subject.session() as session:
            again = await subject.play(session, seed)
        if found := differences(await subject.fresh(seed), again, ("first", "then")):
            return _varies(subject, seed, found, "two fresh sessions")
    seed = subject.plan.seed
    async with subject.another() as hub, hub.session(subject.name) as session:
        elsewhere = await subject.play(session, seed)
    if found := differences(await subject.fresh(seed), elsewhere, ("first", "then")):
        verdict = _varies(subject, seed, found, "two starts of its sandbox")
        if verdict.status != "failed":
            return verdict
        return failed(
            verdict.seen,
            "what is drawn at import, or hangs on the order of a set or on `hash`, is another"
            " at each start: draw in `reset`, and sort",
            verdict.details,
        )
    subject.why_varies = ""
    if not subject.seeded:
        return not_applicable("its reset takes no seed; it is the same without")
    return passed(f"seeds {seed} and {seed + 1}")


def _varies(subject: Subject, seed: int, found: tuple[str, ...], where: str) -> Verdict:
    if not subject.seeded:
        return not_applicable(f"its reset takes no seed, and it varies: {found[0]}")
    return failed(
        f"seed {seed} gave two episodes in {where}; {found[0]}",
        "draw everything from `random.Random(seed)` made in `reset`; no clock, no `id`, no"
        " module-level randomness",
        found[1:],
    )


async def seeds_matter(subject: Subject) -> Verdict:
    """Compare the episodes of different seeds; they had the same actions."""
    if not subject.seeded:
        return not_applicable("its reset takes no seed")
    if subject.why_varies:
        return not_applicable(subject.why_varies)
    first, *others = await subject.all_fresh()
    if any(differences(first, other, ("", "")) for other in others):
        return passed()
    return Verdict(
        "warning",
        f"seeds {', '.join(map(str, subject.plan.seeds))} gave the same episode",
        "if it is meant so, nothing; else `reset` ignores its seed, or a trainer sees one task",
    )


async def reset_equals_fresh(subject: Subject) -> Verdict:
    """Play other episodes first, one of them left in the middle, and then a known one."""
    if subject.why_varies:
        return not_applicable(subject.why_varies)
    seed, other, left = subject.plan.seeds
    async with subject.session() as session:
        await subject.play(session, other, number=1)
        await subject.play(session, left, number=2, steps=1)
        again = await subject.play(session, seed)
    if found := differences(await subject.fresh(seed), again, ("fresh", "after a reset")):
        return failed(
            f"seed {seed} is another episode after others; {found[0]}",
            'make every attribute anew in `reset`, or say `reset = "pristine"` in env.toml',
            found[1:],
        )
    return passed("after one episode, and one left in the middle")


async def sessions_share_nothing(subject: Subject) -> Verdict:
    """Play many sessions at once, all of them reset before the first step."""
    if subject.why_varies:
        return not_applicable(subject.why_varies)
    sessions = min(subject.plan.sessions, subject.hub.max_sessions)
    alone = {seed: await subject.fresh(seed) for seed in subject.plan.seeds}
    seeds = [subject.plan.seeds[at % len(alone)] for at in range(sessions)]
    played: list[Episode] = []
    refused: list[EnvhubError] = []
    reset, all_reset = 0, anyio.Event()

    async def begun() -> None:
        nonlocal reset
        reset += 1
        if reset == sessions:
            all_reset.set()
        await all_reset.wait()

    async def one(seed: int) -> None:
        try:
            async with subject.session() as session:
                episode = await play(
                    session,
                    subject.actions,
                    form=subject.form,
                    seed=subject.seed(seed),
                    steps=subject.plan.steps,
                    begun=begun,
                )
        except EnvhubError as error:
            refused.append(error)
            all_reset.set()
        else:
            episode.seed = seed
            played.append(episode)

    async with anyio.create_task_group() as tasks:
        for seed in seeds:
            tasks.start_soon(one, seed)
    if refused:
        raise refused[0]
    for episode in played:
        assert episode.seed is not None
        if found := differences(alone[episode.seed], episode, ("alone", "beside others")):
            return failed(
                f"{sessions} sessions at once; {found[0]}",
                "sessions must share nothing: no memory that is mapped shared, no outside"
                " service, and nothing that hangs on how fast a step is",
                found[1:],
            )
    return passed(f"{sessions} at once", sessions=sessions)
