"""Gymnasium's environments as a session process answers for them, without a process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from envhub.authoring import schema
from envhub.check import schema as json_schema
from envhub.wire import infos
from envhub.wire.messages import (
    Close,
    Closed,
    Describe,
    Described,
    Failed,
    GetState,
    Observed,
    Reset,
    StateRead,
    Step,
)
from envhub.worker import gym
from envhub.worker.answer import Answering

ODD = "envhub_tests/Odd-v0"
BARE = "envhub_tests/Bare-v0"


class Odd(gymnasium.Env[Any, Any]):
    """Has fields, and an info of many kinds."""

    observation_space = spaces.Dict(
        {"seen": spaces.Box(0, 9, (2,), np.int16), "metadata": spaces.Discrete(3)}
    )
    action_space = spaces.Dict({"go": spaces.Discrete(3)})
    closed = 0

    def __init__(self, reward: Any = 0.5, *, is_odd: bool = True) -> None:
        self.paid, self.taken = reward, []  # type: ignore[var-annotated]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        info = {
            "options": options or {},
            "list": [1, object(), "x"],
            "array": np.arange(3, dtype=np.int8),
            "objects": np.array([object()]),
            "half": "\ud800",
            "huge": 2**70,
            1: "one",
            "deep": {"inner": lambda: None, "kept": None},
        }
        return self._seen(), info

    def step(self, action: Any) -> Any:
        self.taken.append(action)
        return self._seen(), self.paid, np.bool_(False), True, {}

    def close(self) -> None:
        Odd.closed += 1

    def _seen(self) -> Any:
        return {"seen": np.array([1, 2], np.int16), "metadata": np.int64(2)}


class Bare(Odd):
    """Has actions that nobody knows."""

    action_space: Any = spaces.Graph(spaces.Discrete(2), None)


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    for name, kind in ((ODD, Odd), (BARE, Bare)):
        make: Any = kind
        gymnasium.register(name, make, disable_env_checker=True)
    yield
    for name in (ODD, BARE):
        del gymnasium.registry[name]


def answering(entry: str, **options: Any) -> Answering:
    environment, signature, on_loop = gym.load(entry, options)
    assert not on_loop
    return Answering(environment, signature)


def native(value: Any) -> bytes:
    return schema.encode_native(value)


def reset(on: Answering, **options: Any) -> Observed:
    reply = on.answer(Reset(1, "msgpack", native(options)))
    assert isinstance(reply, Observed), reply
    return reply


def test_a_trajectory_is_gymnasiums_own_to_the_bit() -> None:
    on, reference = answering("CartPole-v1"), gymnasium.make("CartPole-v1")
    with reference:
        mine = schema.decode_native(reset(on, seed=3).payload)
        theirs, _ = reference.reset(seed=3)
        reference.action_space.seed(3)
        done = False
        while not done:
            assert mine.dtype == theirs.dtype
            assert np.array_equal(mine, theirs)
            action = reference.action_space.sample()
            reply = on.answer(Step(2, "msgpack", native(action)))
            assert isinstance(reply, Observed), reply
            theirs, reward, terminated, truncated, _ = reference.step(action)
            mine = schema.decode_native(reply.payload)
            told = (reply.reward, reply.terminated, reply.truncated)
            assert told == (reward, terminated, truncated)
            done = terminated or truncated


def test_the_limit_of_steps_truncates_and_does_not_terminate() -> None:
    on = answering("Pendulum-v1", max_episode_steps=2)
    reset(on, seed=1)
    steps = [on.answer(Step(n, "msgpack", native([0.0]))) for n in range(2, 5)]

    assert isinstance(steps[1], Observed)
    assert (steps[1].terminated, steps[1].truncated) == (False, True)
    assert isinstance(steps[2], Failed)
    assert steps[2].code == "reset_needed"


@pytest.mark.parametrize(
    "action", [1, {"action": 1}, np.int64(1), {"action": 1, "metadata": {}}]
)
def test_an_action_comes_bare_or_in_its_field(action: Any) -> None:
    on = answering("CartPole-v1")
    reset(on, seed=1)

    assert isinstance(on.answer(Step(2, "msgpack", native(action))), Observed)


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (2, "expected 0 to 1, got 2 - at `$`"),
        ({"action": 2}, "expected 0 to 1, got 2 - at `$.action`"),
        ({"action": 1, "other": 1}, "expected a whole number from 0 to 1"),
        ({}, "expected a whole number from 0 to 1"),
    ],
)
def test_an_action_outside_of_its_space_never_reaches_the_environment(
    action: Any, message: str
) -> None:
    on = answering("CartPole-v1")
    reset(on, seed=1)
    reply = on.answer(Step(2, "msgpack", native(action)))

    assert isinstance(reply, Failed)
    assert reply.code == "invalid_action"
    assert message in reply.message
    read = on.answer(GetState(3, "json"))
    assert isinstance(read, StateRead)
    assert json.loads(read.payload) == {"episode_id": None, "step_count": 0}


def test_openenvs_clients_see_an_object_and_how_the_episode_ended() -> None:
    on = answering("Pendulum-v1", max_episode_steps=1)
    began = on.answer(Reset(1, "json", b'{"seed": 5, "episode_id": "e", "row": 7}'))
    step = on.answer(Step(2, "json", b'{"action": [0.5]}'))
    state = on.answer(GetState(3, "json"))
    described = on.answer(Describe(4))

    assert isinstance(began, Observed)
    assert isinstance(step, Observed), step
    assert isinstance(state, StateRead)
    assert isinstance(described, Described)
    first, after = json.loads(began.payload), json.loads(step.payload)
    assert first["reward"] is None
    assert len(first["observation"]["observation"]) == 3
    assert after["done"] is True
    assert after["metadata"] == {"terminated": False, "truncated": True}
    assert json.loads(state.payload) == {"episode_id": "e", "step_count": 1}
    for said in (first, after):
        assert json_schema.misfits(said["observation"], json.loads(described.observation)) == []
    assert json_schema.misfits({"action": [0.5]}, json.loads(described.action)) == []
    assert described.reset_options == ("seed", "options", "episode_id")


def test_the_fields_of_a_dict_are_the_observation_and_the_action() -> None:
    on = answering(ODD)
    payload = schema.decode_native(reset(on).payload)
    bare = on.answer(Step(2, "msgpack", native({"go": 2})))
    typed = (
        on.answer(Reset(3, "json", b"{}")),
        on.answer(Step(3, "json", b'{"go": 1, "metadata": {}}')),
    )
    began = on.answer(Reset(3, "json", b"{}"))
    wrapped = on.answer(Step(4, "json", b'{"action": {"go": 1}}'))
    refused = on.answer(Step(5, "json", b'{"action": {"go": 9}}'))

    assert payload["metadata"] == 2
    assert payload["seen"].tolist() == [1, 2]
    assert isinstance(bare, Observed)
    assert (bare.reward, bare.terminated, bare.truncated) == (0.5, False, True)
    assert isinstance(began, Observed)
    assert json.loads(began.payload)["observation"] == {"seen": [1, 2], "metadata": 2}
    assert isinstance(typed[1], Observed)
    assert isinstance(wrapped, Observed)
    assert isinstance(refused, Failed)
    assert "at `$.action.go`" in refused.message


def test_of_an_info_what_can_be_sent_is_and_the_rest_is_named() -> None:
    on = answering(ODD)
    metadata = schema.decode_native(reset(on, options={"a": 1}).metadata)

    assert metadata["options"] == {"a": 1}
    assert metadata["list"] == [1, "x"]
    assert metadata["array"].dtype == np.int8
    assert metadata["deep"] == {"kept": None}
    assert metadata[infos.LEFT_OUT] == [
        "info.list[1]: `object`",
        "info.objects: `ndarray`",
        "info.half: `str`",
        "info.huge: `int`",
        "info['1']: its key is no text",
        "info.deep.inner: `function`",
    ]
    assert isinstance(on.answer(Reset(2, "json", b"{}")), Observed)


def test_an_info_without_end_or_with_too_much_is_cut() -> None:
    endless: dict[str, Any] = {}
    endless["again"] = endless
    many = {f"x{n}": object() for n in range(40)}

    assert len(gym.plain(endless)[infos.LEFT_OUT]) == 1
    assert gym.plain(many)[infos.LEFT_OUT][-1] == "and 24 more"
    assert gym.plain(None) == {}
    assert gym.plain([1]) == {infos.LEFT_OUT: ["info: `list`"]}


@pytest.mark.parametrize("reward", [float("nan"), float("inf"), "much"])
def test_a_reward_that_is_none_is_an_error_of_the_environments(reward: Any) -> None:
    on = answering(ODD, reward=reward)
    reset(on)
    reply = on.answer(Step(2, "msgpack", native({"go": 0})))

    assert isinstance(reply, Failed)
    assert reply.code == "environment_failed"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"seed": "x"}, "invalid_option"),
        ({"seed": -1}, "invalid_option"),
        ({"options": 3}, "invalid_option"),
        ({"other": 3}, "invalid_option"),
    ],
)
def test_options_of_a_wrong_type_are_refused(options: dict[str, Any], code: str) -> None:
    reply = answering("CartPole-v1").answer(Reset(1, "msgpack", native(options)))

    assert isinstance(reply, Failed)
    assert reply.code == code


def test_actions_of_a_space_that_is_not_known_are_told_when_it_is_described() -> None:
    reply = answering(BARE).answer(Describe(1))

    assert isinstance(reply, Failed)
    assert reply.code == "usage"
    assert "not supported: `Graph` - at `$`" in reply.message


def test_what_cannot_be_made_says_why() -> None:
    reply = answering("CartPole-v1", no_such=1).answer(Reset(1, "msgpack", native({})))

    assert isinstance(reply, Failed)
    assert reply.code == "environment_failed"
    assert "no_such" in reply.message


def test_the_environment_is_closed() -> None:
    on, before = answering(ODD), Odd.closed
    reset(on)

    assert isinstance(on.answer(Close(2)), Closed)
    assert Odd.closed == before + 1


@pytest.mark.parametrize(
    ("entry", "error", "message"),
    [
        ("CartPol-v1", LookupError, "Did you mean: `CartPole`"),
        ("CartPole-v9", LookupError, "versioned environments"),
        ("envhub_test/Odd-v0", LookupError, "Did you mean: `envhub_tests`"),
        ("nobodys/Odd-v0", LookupError, "gym:MODULE:nobodys/Odd-v0"),
        ("no_such_module.inner:Odd-v0", ModuleNotFoundError, "--with PACKAGE"),
    ],
)
def test_an_id_that_there_is_not_is_told_with_those_that_are_near(
    entry: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        gym.load(entry, {})


def test_nothing_else_imports_gymnasium() -> None:
    """It takes a third of a second, and is not installed for most."""
    code = (
        "import sys, envhub; from envhub.hub import hub; from envhub.door import app;"
        "from envhub.worker import __main__; assert 'gymnasium' not in sys.modules;"
        "assert 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
