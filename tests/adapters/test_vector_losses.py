"""What goes wrong in one environment among many, or in one process: the rest go on."""

from __future__ import annotations

import gc
import os
import select
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

import envhub
from envhub import VectorEnv
from envhub.errors import (
    DeadlineExceeded,
    EnvironmentFailed,
    HubForked,
    LimitExceeded,
    ResetNeeded,
    SessionClosed,
    UsageError,
    WorkerLost,
)
from envhub.hub.make import close_hubs
from envhub_sandbox import SandboxError
from tests.adapters.playing import ENVS, MODES, assert_same, ours

NOTHING, RAISE, EXIT, SLEEP, NAN, PRINT, END, INFO, SHAPE = range(9)


def odd(num_envs: int = 4, **options: Any) -> VectorEnv:
    return envhub.make_vec("odd", num_envs, envs=ENVS, **{"processes": 2, **options})


def kill(env: VectorEnv, at: int) -> None:
    """Kill a process from outside, and wait until it is gone."""
    pidfd = os.pidfd_open(env.pids[at])
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    select.select([pidfd], [], [], 10)
    os.close(pidfd)


def causes(infos: dict[str, Any]) -> list[str]:
    """The class of each environment's error, "" for none."""
    found = infos.get("envhub_error", [None])
    return ["" if one is None else type(one).__name__ for one in found]


def test_a_process_that_is_killed_ends_its_episodes_and_training_goes_on() -> None:
    env, sane = (ours("CartPole-v1", 4, processes=2) for _ in range(2))
    assert_same(env.reset(seed=1), sane.reset(seed=1))
    before = env.step([0, 1, 0, 1])
    assert_same(before, sane.step([0, 1, 0, 1]))
    kill(env, 1)
    seen, rewards, terminated, truncated, infos = env.step([1, 0, 1, 0])
    rest = sane.step([1, 0, 1, 0])

    assert truncated.tolist() == [False, False, True, True]
    assert not terminated.any()
    assert rewards.tolist() == [1.0, 1.0, 0.0, 0.0]
    assert causes(infos) == ["", "", "WorkerLost", "WorkerLost"]
    assert infos["_envhub_error"].tolist() == [False, False, True, True]
    np.testing.assert_array_equal(seen[:2], rest[0][:2])
    np.testing.assert_array_equal(seen[2:], before[0][2:])  # the last ones

    seen, rewards, _, truncated, infos = env.step([0, 0, 0, 0])
    assert (np.abs(seen[2:]) < 0.05).all()  # as CartPole begins
    assert rewards.tolist() == [1.0, 1.0, 0.0, 0.0]
    assert not truncated.any()
    assert infos == {}
    assert env.step([1, 1, 1, 1])[1].tolist() == [1.0] * 4
    env.close()
    sane.close()


def test_after_a_loss_a_seeded_run_goes_on_with_seeds_of_its_own_and_can_be_repeated() -> None:
    played = []
    for seed in (7, 7, None):
        env = ours("CartPole-v1", 2, processes=1)
        first = env.reset(seed=seed)[0]
        later = []
        for _ in range(2):
            kill(env, 0)
            env.step([0, 0])
            later.append(env.step([0, 0])[0])
        env.close()
        played.append([first, *later])
    one, same, unseeded = (np.concatenate(rows) for rows in played)

    np.testing.assert_array_equal(one, same)
    assert len(np.unique(one, axis=0)) == 6  # each episode another one
    assert len(np.unique(np.concatenate((one, unseeded)), axis=0)) == 12


def test_in_the_same_step_mode_the_next_episode_is_there_at_once() -> None:
    env = ours("CartPole-v1", 4, processes=2, autoreset_mode="same_step")
    env.reset(seed=1)
    last = env.step([0, 1, 0, 1])[0]
    kill(env, 0)
    seen, _, _, truncated, infos = env.step([1, 0, 1, 0])

    assert truncated.tolist() == [True, True, False, False]
    assert causes(infos)[:2] == ["WorkerLost", "WorkerLost"]
    np.testing.assert_array_equal(infos["final_obs"][1], last[1])
    assert (np.abs(seen[:2]) < 0.05).all()
    assert env.step([1, 1, 1, 1])[1].tolist() == [1.0] * 4
    env.close()


def test_where_autoreset_is_disabled_a_reset_brings_a_fresh_process() -> None:
    env = ours("CartPole-v1", 4, processes=2, autoreset_mode="disabled")
    env.reset(seed=1)
    kill(env, 0)
    _, _, _, truncated, _ = env.step([0, 1, 0, 1])
    assert truncated.tolist() == [True, True, False, False]
    env.reset(options={"reset_mask": truncated})

    assert env.step([1, 1, 1, 1])[1].tolist() == [1.0] * 4
    env.close()


def test_a_process_that_is_killed_between_steps_is_replaced_by_a_reset() -> None:
    env = ours("CartPole-v1", 4, processes=2)
    first = env.reset(seed=1)
    kill(env, 0)
    kill(env, 1)

    assert_same(env.reset(seed=1), first)
    env.close()


@pytest.mark.parametrize("mode", MODES)
def test_an_environment_that_raises_ends_its_own_episode_only(mode: str) -> None:
    env = odd(autoreset_mode=mode)
    env.reset()
    env.step([NOTHING] * 4)
    seen, rewards, _, truncated, infos = env.step([NOTHING, RAISE, NAN, NOTHING])

    assert truncated.tolist() == [False, True, True, False]
    assert rewards.tolist() == [1.0, 0.0, 0.0, 1.0]
    assert causes(infos) == ["", "EnvironmentFailed", "EnvironmentFailed", ""]
    assert str(infos["envhub_error"][1]) == "trouble"
    assert "finite" in str(infos["envhub_error"][2])
    assert "in step" in infos["envhub_error"][1].traceback
    if mode == "same_step":
        assert [one if one is None else one[0] for one in infos["final_obs"]] == [
            None, 1.0, 1.0, None
        ]  # fmt: skip
        assert seen[:, 0].tolist() == [2.0, 0.0, 0.0, 2.0]
    else:
        assert seen[:, 0].tolist() == [2.0, 1.0, 1.0, 2.0]
    if mode == "disabled":
        env.reset(options={"reset_mask": truncated})
    assert not env.step([NOTHING] * 4)[3].any()
    env.close()


@pytest.mark.parametrize(
    ("act", "error"),
    [
        (EXIT, WorkerLost),
        (SLEEP, DeadlineExceeded),
        (PRINT, LimitExceeded),
        (SHAPE, EnvironmentFailed),
    ],
)
def test_what_ends_a_process_has_its_typed_cause(act: int, error: type) -> None:
    env = odd()
    env.reset()
    truncated, infos = env.step([NOTHING, NOTHING, act, NOTHING])[3:]

    assert truncated.tolist() == [False, False, True, True]
    assert isinstance(infos["envhub_error"][3], error)
    assert not env.step([NOTHING] * 4)[3].any()
    assert env.step([NOTHING] * 4)[1].tolist() == [1.0] * 4
    env.close()


@pytest.mark.parametrize("mode", MODES)
def test_an_episode_whose_time_is_over_is_cut_and_its_step_counts(mode: str) -> None:
    env = envhub.make_vec("brief", 2, envs=ENVS, processes=1, autoreset_mode=mode)
    env.reset()
    assert not env.step([0, 0])[3].any()
    pids = env.pids
    seen, rewards, terminated, truncated, infos = env.step([1, 0])

    assert truncated.all()  # the other one has waited as long
    assert rewards.tolist() == [1.0, 1.0]
    assert not terminated.any()
    error = infos["envhub_error"][0]
    assert isinstance(error, DeadlineExceeded)
    assert (error.verdict, error.limit) == ("episode_deadline", "episode_s")
    if mode == "same_step":
        assert infos["final_obs"].tolist() == [2, 2]
        assert seen.tolist() == [0, 0]
    else:
        assert seen.tolist() == [2, 2]
    assert env.pids == pids  # nobody was killed
    env.close()


def test_a_reset_that_fails_is_raised_and_the_next_one_goes_on() -> None:
    env = odd(fail_reset_at=2)
    env.reset()
    with pytest.raises(EnvironmentFailed, match="no reset"):
        env.reset()

    env.reset()  # in fresh processes it is their first
    assert env.step([NOTHING] * 4)[1].tolist() == [1.0] * 4
    env.close()


def test_a_constructor_that_fails_is_raised_and_leaves_nothing() -> None:
    with pytest.raises(EnvironmentFailed, match="nothing of the kind"):
        odd(observation="nothing of the kind")
    with pytest.raises(EnvironmentFailed, match="unexpected keyword"):
        odd(nonsense=1)


def test_an_info_keeps_the_types_of_its_values_and_says_what_it_left_out() -> None:
    env = odd()
    env.reset()
    infos = env.step([NOTHING, INFO, NOTHING, NOTHING])[4]

    assert infos["pair"][1] == (1, np.float32(2))
    assert type(infos["pair"][1][1]) is np.float32
    assert infos["text"].tolist() == [None, "t", None, None]
    assert infos["envhub.left_out"][1] == ["info.odd: `object`"]
    env.close()


def test_options_reach_each_reset_and_a_mask_does_not() -> None:
    env = odd(autoreset_mode="disabled")
    infos = env.reset(options={"level": 3})[1]
    assert infos["options"]["level"].tolist() == [3, 3, 3, 3]
    mask = np.array([True, False, False, False])
    infos = env.reset(options={"level": 4, "reset_mask": mask})[1]

    assert infos["options"]["level"].tolist() == [4, 0, 0, 0]
    assert infos["_options"].tolist() == [True, False, False, False]
    env.close()


def test_dicts_and_pixels_arrive_whole() -> None:
    env = odd(observation="dict")
    env.reset()
    seen = env.step([NOTHING] * 4)[0]
    assert list(seen) == ["a", "b"]
    assert seen["b"].tolist() == [[1.0] * 3] * 4
    env.close()
    env = odd(observation="pixels")
    env.reset()
    seen = env.step([NOTHING] * 4)[0]

    assert (seen.dtype, seen.shape, int(seen.min())) == (np.uint8, (4, 84, 84, 3), 1)
    env.close()


def test_a_number_without_a_shape_is_one() -> None:
    env = odd(observation="alone")
    env.reset()
    seen = env.step([NOTHING] * 4)[0]

    assert env.single_observation_space == gymnasium.spaces.Box(-1.5, 1e9, (), np.float32)
    assert (seen.dtype, seen.tolist()) == (np.float32, [1.0] * 4)
    env.close()


def test_closing_leaves_no_process_descriptor_or_mapping() -> None:
    for copy in (True, False):
        env = odd(copy=copy)
        pids = env.pids
        seen = env.reset()[0]
        assert (_mappings(), _memories()) == (2, 2)
        del seen
        env.close()
        env.close()

        assert (_mappings(), _memories()) == (0, 0)
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    with pytest.raises(SessionClosed):
        env.step([NOTHING] * 4)
    with pytest.raises(SessionClosed):
        env.reset()


def test_a_process_that_is_replaced_leaves_no_mapping() -> None:
    env = odd()
    env.reset()
    for _ in range(3):
        env.step([EXIT, NOTHING, NOTHING, NOTHING])
        env.step([NOTHING] * 4)

    assert (_mappings(), _memories()) == (2, 2)
    env.close()


def _mappings() -> int:
    return Path("/proc/self/maps").read_text().count("memfd:envhub")


def _memories() -> int:
    links = []
    for one in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the descriptor of this very look
            links.append(os.readlink(one))
    return sum("memfd:envhub" in link for link in links)


def test_it_is_closed_in_the_middle_of_a_step() -> None:
    env = odd()
    env.reset()
    env.send([SLEEP, NOTHING], [0, 1])
    pids = env.pids
    env.close()

    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_an_interrupted_step_gives_its_processes_up() -> None:
    env = odd(processes=1)
    env.reset()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            env.step([SLEEP, NOTHING, NOTHING, NOTHING])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

    env.reset()
    assert env.step([NOTHING] * 4)[1].tolist() == [1.0] * 4
    env.close()


def test_in_a_fork_it_is_refused_and_the_parents_goes_on() -> None:
    env = odd()
    env.reset()
    pid = os.fork()
    if pid == 0:
        try:
            env.step([NOTHING] * 4)
        except HubForked:
            os._exit(7)
        os._exit(1)
    status = os.waitpid(pid, 0)[1]

    assert os.waitstatus_to_exitcode(status) == 7
    assert env.step([NOTHING] * 4)[1].tolist() == [1.0] * 4
    env.close()


def test_when_the_hub_is_closed_calls_are_refused() -> None:
    env = odd()
    env.reset()
    close_hubs()
    with pytest.raises(SessionClosed):
        env.step([NOTHING] * 4)
    env.close()


def test_kill_9_in_the_middle_of_a_step() -> None:
    env = odd()
    env.reset()
    env.send([SLEEP, NOTHING, NOTHING, NOTHING], [0, 1, 2, 3])
    other = env.recv()
    kill(env, 0)
    truncated, infos = env.recv()[3:]

    assert other[4]["env_id"].tolist() == [2, 3]
    assert not other[3].any()
    assert infos["env_id"].tolist() == [0, 1]
    assert truncated.tolist() == [True, True]
    assert causes(infos) == ["WorkerLost", "WorkerLost"]
    env.send([NOTHING, NOTHING], [0, 1])
    assert env.recv()[1].tolist() == [0.0, 0.0]
    assert env.step([NOTHING] * 4)[1].tolist() == [1.0] * 4
    env.close()


def test_a_masked_reset_leaves_the_lost_ones_lost_with_their_last_observations() -> None:
    env = odd(autoreset_mode="disabled")
    env.reset()
    env.step([NOTHING] * 4)
    env.step([EXIT, NOTHING, NOTHING, NOTHING])
    seen = env.reset(options={"reset_mask": np.array([False, False, True, False])})[0]
    assert seen[:, 0].tolist() == [1.0, 1.0, 0.0, 2.0]
    with pytest.raises(ResetNeeded):
        env.step([NOTHING] * 4)
    env.reset(options={"reset_mask": np.array([True, False, False, False])})
    with pytest.raises(ResetNeeded):
        env.step([NOTHING] * 4)
    env.reset(options={"reset_mask": np.array([False, True, False, False])})

    assert env.step([NOTHING] * 4)[1].tolist() == [1.0] * 4
    env.close()


def test_what_nobody_holds_any_more_is_closed() -> None:
    env = odd()
    pids = env.pids
    del env
    gc.collect()

    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_batch_counts_as_the_steps_of_its_environments() -> None:
    env = odd(autoreset_mode="same_step")
    env.reset()
    env.step([NOTHING] * 4)
    env.step([END, NOTHING, NOTHING, NOTHING])
    tallies = [member._place.tally for member in env._crew.members]
    counted = [(tally.steps, tally.episodes, sum(tally.buckets)) for tally in tallies]
    env.close()

    assert counted == [(4, 3, 4), (4, 2, 4)]


@pytest.mark.parametrize("tier", ["strict", "standard", "uid", "landlock", "none"])
def test_in_every_tier_that_this_machine_has(tier: str) -> None:
    try:
        env = odd(isolation=tier, exactly=True)
    except SandboxError as error:
        pytest.skip(str(error))
    env.reset()

    assert env.step([NOTHING] * 4)[1].tolist() == [1.0] * 4
    assert env._crew.members[0].process.receipt.tier == tier
    env.close()


def test_an_environment_with_async_methods_cannot_be_vectorised() -> None:
    envs = Path(__file__).parent.parent / "hub" / "envs"
    for name in ("cancels", "cancels_async"):
        with pytest.raises(UsageError, match="cannot be vectorised"):
            envhub.make_vec(name, 2, envs=envs)
