"""A session process that writes what it likes, into the memory and on its socket."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import envhub
from envhub import VectorEnv
from tests.adapters.playing import ENVS


def hostile(act: str, **options: Any) -> VectorEnv:
    return envhub.make_vec("hostile", 4, processes=2, envs=ENVS, act=act, **options)


@pytest.mark.parametrize(
    ("act", "cause"),
    [
        ("not_a_number", "RemoteProtocolError"),
        ("pretend", "DeadlineExceeded"),
        ("babble", "WorkerLost"),
        ("announce", "WorkerLost"),
        ("drip", "DeadlineExceeded"),
        ("hang_up", "DeadlineExceeded"),
        ("other_kind", "RemoteProtocolError"),
        ("somebody_elses_info", "RemoteProtocolError"),
        ("somebody_elses_failure", "RemoteProtocolError"),
        ("infos_that_are_none", "RemoteProtocolError"),
        ("infos_that_do_not_fit", "EnvironmentFailed"),
        ("endless_array", "EnvironmentFailed"),
        ("nested_tuples", "EnvironmentFailed"),
    ],
)
def test_it_costs_its_own_episodes_and_has_a_typed_cause(act: str, cause: str) -> None:
    env = hostile(act)
    env.reset()
    _, rewards, _, truncated, infos = env.step([0] * 4)

    assert truncated.all()
    assert rewards.tolist() == [0.0] * 4
    assert {type(error).__name__ for error in infos["envhub_error"]} == {cause}
    env.close()


def test_nonsense_all_over_the_memory_neither_hangs_nor_crashes_anybody() -> None:
    env = hostile("scribble")
    env.reset()
    for _ in range(30):
        seen, rewards, terminated, truncated, _ = env.step([0] * 4)

        assert np.isfinite(rewards).all()
        assert set(seen[1].view(np.uint8).ravel().tolist()) <= {0, 1}
        assert {terminated.dtype, truncated.dtype} == {np.dtype(bool)}
        assert set(truncated.view(np.uint8).tolist()) <= {0, 1}
    env.close()


def test_the_memory_cannot_be_resized_or_sealed_under_the_hub() -> None:
    env = hostile("shrink")
    env.reset()
    infos = env.step([0] * 4)[4]

    assert infos["said"].tolist() == ["EPERM EPERM EPERM"] * 4
    env.close()


def test_what_we_say_of_an_environment_it_cannot_say_itself() -> None:
    env = hostile("our_own_words")
    env.reset()
    infos = env.step([0] * 4)[4]

    assert list(infos) == ["kept", "_kept"]
    env.close()
