"""Checks of what a client does that has not read the documentation."""

from __future__ import annotations

from typing import Any

from envhub.check import play
from envhub.check.play import Form, Moment
from envhub.check.result import Verdict, failed, not_applicable, passed
from envhub.check.subject import Subject
from envhub.errors import InvalidOption, ResetNeeded, WorkerError
from envhub.hub.session import Session

_UNKNOWN = "no_such_option"


async def step_before_reset(subject: Subject) -> Verdict:
    """Step, and read the state, in a session that was never reset, on both wires."""
    if subject.why_no_actions:
        return not_applicable(subject.why_no_actions)
    for form in ("msgpack", "json"):
        async with subject.session() as session:
            action = subject.actions.at(0)
            moments = [
                await play.take(session, action, form),
                await play.read(session, form),
            ]
            verdict = await _survived(subject, session, form, moments)
            if verdict is not None:
                return verdict
        if form == "msgpack" and not isinstance(moments[0].error, ResetNeeded):
            return failed(
                f"a step before reset was answered with {_what(moments[0])}",
                "this is envhub's own to refuse: please report it",
            )
    return passed(f"refused; on OpenEnv's wire it answers {_what(moments[0])}")


async def unknown_options(subject: Subject) -> Verdict:
    """Reset with an option that nobody knows, on both wires."""
    described = subject.described
    assert described is not None
    takes_any = described.reset_options is None
    said = []
    for form in ("msgpack", "json"):
        options: dict[str, Any] = {_UNKNOWN: 1}
        if subject.seeded:
            options["seed"] = subject.plan.seed
        async with subject.session() as session:
            moment = await play.reset(session, options, form)
            verdict = await _survived(subject, session, form, [moment])
        if verdict is not None:
            return verdict
        right = (
            moment.error is None if form == "json" else isinstance(moment.error, InvalidOption)
        )
        if not right and not takes_any:
            return failed(
                f"an unknown option was answered with {_what(moment)}",
                "`reset` must do with the options that it declares",
                (str(moment.error),) if moment.error else (),
            )
        said.append(_what(moment))
    if takes_any:
        return passed(f"its reset takes any option, and answers {said[0]}")
    return passed("refused by name; dropped on OpenEnv's wire")


async def _survived(
    subject: Subject, session: Session, form: Form, moments: list[Moment]
) -> Verdict | None:
    """Return a failure if the process ended, or cannot be reset any more."""
    for moment in moments:
        if isinstance(moment.error, WorkerError):
            return failed(
                f"`{moment.call}` ended the process: {moment.error}",
                "raise an exception: the client gets a typed error, and the process goes on",
            )
    options = {"seed": subject.plan.seed} if subject.seeded else {}
    after = await play.reset(session, options, form)
    if after.error is not None:
        return failed(f"after it a reset fails: {after.error}", "a reset must work at any time")
    return None


def _what(moment: Moment) -> str:
    return f"`{moment.error.code}`" if moment.error else "an observation"
