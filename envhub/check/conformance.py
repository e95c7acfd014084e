"""All checks, in their order, and how they are run."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

import envhub
from envhub.check import misuse, repeat, types, upkeep
from envhub.check.result import (
    NOT_STARTED,
    Report,
    Result,
    Verdict,
    failed,
    not_applicable,
    own_frames,
    passed,
)
from envhub.check.subject import Plan, Subject
from envhub.errors import BuildFailed, CapacityError, EnvhubError, UsageError, WorkerStartFailed
from envhub.hub.environments import schemas
from envhub.hub.hub import Hub


@dataclass(frozen=True, slots=True)
class Check:
    """One of them.

    Args:
        id: stable.
        claim: what a conforming environment does.
        run: tries it.
        plays: it needs actions.
    """

    id: str
    claim: str
    run: Callable[[Subject], Awaitable[Verdict]]
    plays: bool = True


async def _starts(subject: Subject) -> Verdict:
    try:
        await subject.start()
    except (WorkerStartFailed, BuildFailed) as error:
        words = own_frames(getattr(error, "output", ""))
        return failed(str(error), error.hint or "its last words are in the details", words)
    return passed(f"{subject.start_s * 1e3:.0f} ms", start_s=round(subject.start_s, 4))


CHECKS = (
    Check("start", "It starts in a sandbox and says what it is.", _starts, plays=False),
    Check("schemas", "Its types are valid JSON Schemas from which an action can be made.",
          types.schemas_are_valid, plays=False),
    Check("answers", "Each reset, step and state is answered.", types.every_call_answers),
    Check("actions", "An action that fits its schema is accepted.",
          types.valid_actions_are_accepted),
    Check("seeds", "The same seed and actions give the same episode, in any process.",
          repeat.same_seed_same_episode),
    Check("seeds-matter", "Different seeds give different episodes.", repeat.seeds_matter),
    Check("observations", "Observations, rewards and states fit their schemas.",
          types.what_it_sends_fits),
    Check("forms", "MessagePack and JSON carry the same.", types.both_forms_agree),
    Check("reset", "An episode after a reset equals one in a fresh process.",
          repeat.reset_equals_fresh),
    Check("before-reset", "A step before reset is answered, and harms nothing.",
          misuse.step_before_reset),
    Check("options", "An unknown option of reset is refused by name, or dropped, and harms"
          " nothing.", misuse.unknown_options, plays=False),
    Check("concurrency", "Many sessions at once play as one does alone.",
          repeat.sessions_share_nothing),
    Check("leaks", "Descriptors, threads, processes and memory do not grow with episodes.",
          upkeep.nothing_grows),
    Check("limits", "It stays well below its deadlines and limits.",
          upkeep.far_from_its_limits),
    Check("close", "It closes in time.", upkeep.closes_in_time),
)  # fmt: skip
IDS = tuple(check.id for check in CHECKS)


async def run(
    make_hub: Callable[[], Hub],
    name: str,
    plan: Plan,
    *,
    only: Collection[str] = (),
    skip: Collection[str] = (),
    begins: Callable[[Check], None] = lambda _: None,
    ends: Callable[[Result], None] = lambda _: None,
) -> Report:
    """Check an environment and return the report.

    Args:
        make_hub: makes one that is not open, with the environment in its catalog.
        name: of the environment.
        plan: how it is played.
        only: ids of the checks to run; all, if there is none.
        skip: ids of checks to leave out.
        begins: told of each check before it runs.
        ends: told of each result.

    Raises:
        UsageError: an id is none.
        SandboxError: this machine cannot isolate; that says nothing about the environment.
    """
    for unknown in {*only, *skip} - {*IDS}:
        raise UsageError(f"no check `{unknown}`", hint=f"there is {', '.join(IDS)}")
    async with make_hub() as hub:
        subject = Subject(hub, make_hub, name, plan)
        report = Report({})
        for check in CHECKS:
            chosen = (not only or check.id in only) and check.id not in skip
            if not chosen and check.id != "start":  # nothing can be known without it
                continue
            begins(check)
            began = time.perf_counter()
            verdict = await _tried(check, subject)
            result = Result(check.id, check.claim, verdict, time.perf_counter() - began)
            report.results.append(result)
            ends(result)
        report.about = _about(subject, plan)
    return report


async def _tried(check: Check, subject: Subject) -> Verdict:
    if check.id != "start" and subject.described is None:
        return not_applicable(NOT_STARTED)
    if check.id != "start" and subject.described and subject.described.is_application:
        return not_applicable("it builds a server of its own, and speaks its own protocol")
    if check.plays and subject.why_no_actions:
        return not_applicable(subject.why_no_actions)
    try:
        return await check.run(subject)
    except CapacityError as error:
        return not_applicable(f"this machine has no room for it: {error}")
    except EnvhubError as error:
        return failed(f"{type(error).__name__}: {error}", error.hint)
    except RecursionError:
        return failed("what it sends is nested too deeply to be read", "send flatter data")


def _about(subject: Subject, plan: Plan) -> dict[str, object]:
    manifest, receipt = subject.manifest, subject.receipt
    return {
        "environment": manifest.name,
        "version": manifest.version,
        "folder": manifest.folder,
        "format": manifest.format,
        "schema": schemas.digest(subject.schemas) if subject.schemas else None,
        "isolation": receipt.tier if receipt else None,
        "envhub": envhub.__version__,
        "plan": {
            "seed": plan.seed,
            "steps": plan.steps,
            "episodes": plan.episodes,
            "sessions": plan.sessions,
            "given_actions": len(plan.given),
        },
    }
