"""Checks of what an environment says about its types, and of what it then sends."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from envhub.check import schema as schemas
from envhub.check.play import Episode, Moment, differences
from envhub.check.result import Verdict, failed, not_applicable, own_frames, passed
from envhub.check.schema import Schema
from envhub.check.subject import Subject
from envhub.errors import CapacityError, EnvironmentFailed, InvalidAction, WorkerError

_MOST = 5  # lines of details


async def schemas_are_valid(subject: Subject) -> Verdict:
    """Read the four schemas."""
    found = [
        f"{name}: {flaw}"
        for name, schema in subject.schemas.items()
        for flaw in schemas.flaws(schema)
    ]
    if found:
        advice = "look for a `model_json_schema` of your own, and at `json_schema_extra`"
        return failed(found[0], advice, tuple(found[1:_MOST]))
    if subject.why_no_actions:
        return failed(
            subject.why_no_actions,
            "say in the type what you accept, or give actions with `--actions FILE.jsonl`",
        )
    untyped = [name for name, schema in subject.schemas.items() if not _says_something(schema)]
    if untyped:
        return Verdict(
            "warning",
            f"nothing is said about {', '.join(untyped)}: anything goes",
            "annotate `step` and `state`; clients and playgrounds are made from these types",
        )
    return passed()


async def every_call_answers(subject: Subject) -> Verdict:
    """Look through the episodes for what raised, hung or ended the process."""
    episodes = await subject.all_fresh()
    moments = [moment for episode in episodes for moment in episode.moments]
    raised = [m for m in moments if m.error and not isinstance(m.error, InvalidAction)]
    lost = [m for m in raised if isinstance(m.error, WorkerError)]
    steps = [m for m in moments if m.call == "step"]
    if lost:
        advice = getattr(lost[0].error, "hint", "") or "its last words are in the details"
        return failed(_told(lost[0]), advice, _words(lost[0]))
    hard = [m for m in raised if m.call != "step"]
    if hard:
        return failed(_told(hard[0]), "the traceback is in the details", _words(hard[0]))
    if steps and len(raised) == len(steps):
        return failed(
            f"not one of {len(steps)} steps was taken; {_told(raised[0])}",
            "the traceback is in the details; if it is right for such actions, say in the"
            " schema which there are, or give some with `--actions FILE.jsonl`",
            _words(raised[0]),
        )
    if raised:
        return Verdict(
            "warning",
            f"{len(raised)} of {len(steps)} steps raised; {_told(raised[0])}",
            "clients get a typed error and the episode goes on; an action that cannot be"
            " taken is better said in the schema, or in an observation",
            _words(raised[0]),
        )
    return passed(f"{len(moments)} calls", calls=len(moments))


async def valid_actions_are_accepted(subject: Subject) -> Verdict:
    """Look through the episodes for refused actions."""
    steps = [m for e in await subject.all_fresh() for m in e.moments if m.call == "step"]
    if not steps:
        return not_applicable("no step was reached")
    refused = [m for m in steps if isinstance(m.error, InvalidAction)]
    if not refused:
        return passed(f"{len(steps)} actions", actions=len(steps))
    details = tuple(f"{_brief(m.sent)}: {m.answer['message']}" for m in refused[:_MOST])
    return failed(
        f"{len(refused)} of {len(steps)} actions that fit its schema were refused",
        "put the rule into the type (`Field(ge=…)`, `Literal`), where clients can see it,"
        " and not into a validator",
        details,
    )


async def what_it_sends_fits(subject: Subject) -> Verdict:
    """Validate observations, rewards and states, as JSON has them."""
    async with subject.session() as session:
        episode = await subject.play(session, subject.plan.seed, form="json")
    if unsent := _unsent(episode, await subject.fresh(subject.plan.seed)):
        return not_applicable(f"they have no form in JSON: {unsent}")
    known = subject.schemas
    found = []
    for at, moment in enumerate(episode.moments):
        if moment.error is None:
            name = {"reset": "reset_observation", "step": "observation"}.get(
                moment.call, "state"
            )
            if not schemas.flaws(known[name]):
                label = f"step {at}" if moment.call == "step" else moment.call
                found += [f"{label}: {misfit}" for misfit in _misfits(moment, known[name])]
    if not found:
        return passed(f"{len(episode.moments)} payloads")
    return failed(
        found[0],
        "make the annotations of `reset`, `step` and `state` say what is returned; fields that"
        " are computed or serialised in another way must be declared so",
        tuple(found[1:_MOST]),
    )


async def both_forms_agree(subject: Subject) -> Verdict:
    """Play one episode in MessagePack and again in JSON."""
    episodes = {}
    for form in ("msgpack", "json"):
        async with subject.session() as session:
            episodes[form] = await subject.play(session, subject.plan.seed, form=form)
    for form, episode in episodes.items():
        other = episodes["json" if form == "msgpack" else "msgpack"]
        if unsent := _unsent(episode, other):
            name = "MessagePack" if form == "msgpack" else "JSON"
            return failed(
                f"what it returns has no form in {name}: {unsent}",
                "return numbers, texts, lists and mappings; bytes are text for JSON, and an"
                " int has 64 bits in MessagePack",
            )
    if subject.why_varies:
        return passed("both answer; they were not compared, for " + subject.why_varies)
    a, b = episodes["msgpack"], episodes["json"]
    if found := differences(a, b, ("in MessagePack", "in JSON")):
        return failed(found[0], "the types' own serializers differ by form", found[1:])
    return passed()


def _says_something(schema: Schema) -> bool:
    return isinstance(schema, dict) and bool(schema.keys() - {"title", "description"})


def _misfits(moment: Moment, schema: Schema) -> Iterator[str]:
    """Validate a payload: where a reward stands beside an observation, it is put back."""
    if moment.call == "state":
        value: Any = moment.answer
    else:
        value = moment.answer["observation"]
        reward = moment.answer["reward"]
        if reward is not None and not math.isfinite(reward):
            yield f"the reward is {reward}"
    properties = schema.get("properties", {}) if isinstance(schema, dict) else {}
    if isinstance(value, dict) and moment.call != "state":
        beside = {name: moment.answer.get(name) for name in ("reward", "done", "truncated")}
        value = {**{k: v for k, v in beside.items() if k in properties}, **value}
    if isinstance(value, dict) and set(value) == {"value"} and "value" not in properties:
        yield from schemas.misfits(value["value"], schema)  # a bare value stands in a mapping
    else:
        yield from schemas.misfits(value, schema)


def _unsent(episode: Episode, other: Episode) -> str:
    """Return the words of a call that raised where, in the other form, it did not."""
    for here, there in zip(episode.moments, other.moments, strict=False):
        if isinstance(here.error, EnvironmentFailed) and there.error is None:
            return f"`{here.call}`: {here.answer['message']}"
    return ""


def _told(moment: Moment) -> str:
    after = f" of {_brief(moment.sent)}" if moment.call == "step" else ""
    return f"`{moment.call}`{after}: {type(moment.error).__name__}: {moment.error}"


def _words(moment: Moment) -> tuple[str, ...]:
    error = moment.error
    assert error is not None
    assert not isinstance(error, CapacityError)
    text = getattr(error, "traceback", "") or getattr(error, "output", "")
    return own_frames(text)


def _brief(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return f"`{text}`" if len(text) <= 120 else f"`{text[:117]}...`"
