"""`envhub.make_vec` over a hub elsewhere: what it is here, and what Gymnasium's own is."""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import gymnasium
import msgspec
import numpy as np
import pytest

import envhub
from envhub import VectorEnv
from envhub.errors import (
    CapacityError,
    ConnectionLost,
    DeadlineExceeded,
    EnvhubError,
    EnvironmentFailed,
    HubForked,
    InvalidAction,
    LimitExceeded,
    ResetNeeded,
    SessionClosed,
    UnknownEnvironment,
    UsageError,
    WorkerLost,
)
from tests.adapters.playing import ENVS, MODES, assert_same, ours, play_alike, theirs
from tests.adapters.test_vector_losses import (
    END,
    EXIT,
    INFO,
    NAN,
    NOTHING,
    PRINT,
    RAISE,
    SHAPE,
    SLEEP,
    causes,
    kill,
)
from tests.serving import serving

SERVED = ("--envs", str(ENVS), "--drain-s", "0")
# id, steps until some episodes have ended, options
GAMES: dict[str, tuple[str, int, dict[str, Any]]] = {
    "numbers": ("CartPole-v1", 60, {}),
    "tuples": ("Blackjack-v1", 20, {}),
    "an info of arrays": ("Taxi-v4", 25, {"max_episode_steps": 10}),
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(*SERVED) as url:
        yield url


def elsewhere(
    url: str, name: str = "CartPole-v1", num_envs: int = 4, **options: Any
) -> VectorEnv:
    return envhub.make_vec("classic", num_envs, hub=url, which=name, **options)


def odd(url: Any, num_envs: int = 4, **options: Any) -> VectorEnv:
    return envhub.make_vec("odd", num_envs, hub=url, **{"processes": 2, **options})


def sessions(url: str) -> list[dict[str, Any]]:
    with urlopen(f"{url}/v1/sessions") as page:
        found: list[dict[str, Any]] = msgspec.json.decode(page.read())["sessions"]
    return found


def until_closed(url: str) -> None:
    while sessions(url):
        pass  # the time limit of tests is this one's, too


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("game", GAMES)
def test_here_elsewhere_and_gymnasiums_own_are_step_for_step_the_same(
    url: str, game: str, mode: str
) -> None:
    name, steps, options = GAMES[game]
    one = elsewhere(url, name, 5, processes=2, autoreset_mode=mode, **options)
    ended = 0
    for other in (
        ours(name, 5, processes=2, autoreset_mode=mode, **options),
        theirs(name, 5, mode, **options),
    ):
        ended += play_alike(one, other, seed=7, steps=steps)
        other.close()
    one.close()

    assert ended > 2


@pytest.mark.parametrize("mode", MODES)
def test_one_process_and_three_play_the_same(url: str, mode: str) -> None:
    one, three = (
        elsewhere(url, num_envs=6, processes=n, autoreset_mode=mode) for n in (None, 3)
    )
    ended = play_alike(one, three, seed=3, steps=50)
    one.close()
    three.close()

    assert ended > 2
    assert one.processes == ((0, 1, 2, 3, 4, 5),)
    assert three.processes == ((0, 1), (2, 3), (4, 5))


@pytest.mark.parametrize("mode", MODES)
def test_what_is_lost_here_and_elsewhere_looks_the_same(url: str, mode: str) -> None:
    here = envhub.make_vec("odd", 4, envs=ENVS, processes=2, autoreset_mode=mode)
    there = odd(url, autoreset_mode=mode)
    assert_same(here.reset(), there.reset())
    plan = [NOTHING, NOTHING, EXIT, NOTHING, RAISE, NAN, END, EXIT, SHAPE, INFO, NOTHING]
    for at, act in enumerate(plan):
        actions = [NOTHING, act, NOTHING, plan[-at]]
        one, other = here.step(actions), there.step(actions)
        mine, others = (causes(result[4]) for result in (one, other))
        assert mine == others
        for result in (one, other):
            result[4].pop("envhub_error", None)
        assert_same(one, other)
        over = one[2] | one[3]
        if mode == "disabled" and over.any():
            masks = [{"reset_mask": over.copy()} for _ in range(2)]
            assert_same(here.reset(options=masks[0]), there.reset(options=masks[1]))
    here.close()
    there.close()


def test_the_seeds_that_follow_a_loss_are_the_same_here_and_elsewhere(url: str) -> None:
    here, there = ours("CartPole-v1", 4, processes=2), elsewhere(url, processes=2)
    assert_same(here.reset(seed=9), there.reset(seed=9))
    for env in (here, there):
        kill(env, 1)
    for _ in range(3):
        one, other = here.step([0, 1, 0, 1]), there.step([0, 1, 0, 1])
        assert causes(one[4]) == causes(other[4])
        assert_same(one[:4], other[:4])
    assert one[1].tolist() == [1.0] * 4
    here.close()
    there.close()


@pytest.mark.parametrize("mode", ["SameStep", "NextStep", "Disabled"])
def test_a_vectorised_class_is_the_same_here_and_elsewhere(url: str, mode: str) -> None:
    options: dict[str, Any] = {"vectorization_mode": "vector_entry_point", "mode": mode}
    here = envhub.make_vec("whole", 3, envs=ENVS, **options)
    there = envhub.make_vec("whole", 3, hub=url, **options)
    assert_same(here.metadata, there.metadata)
    assert_same(here.reset(seed=5), there.reset(seed=5))
    for acts in ([0, 0, 0], [1, 0, 1], None, [0, 0, 0], [0, 3, 0], None, [0, 0, 0]):
        if acts is not None:
            one, other = here.step(np.array(acts)), there.step(np.array(acts))
            for result in (one, other):
                result[4].pop("envhub_error", None)
            assert_same(one, other)
        elif mode == "Disabled":
            mask = {"reset_mask": one[2] | one[3]}
            assert_same(here.reset(options=dict(mask)), there.reset(options=dict(mask)))
    assert_same(here.reset(seed=[1, 2, 3]), there.reset(seed=[1, 2, 3]))
    assert_same(here.render(), there.render())
    here.close()
    there.close()


def test_gymnasiums_own_vectorised_class_plays_elsewhere(url: str) -> None:
    options: dict[str, Any] = {"vectorization_mode": "vector_entry_point", "which": "cartpole"}
    here = envhub.make_vec("whole", 7, envs=ENVS, **options)
    there = envhub.make_vec("whole", 7, hub=url, **options)
    ended = play_alike(here, there, seed=3, steps=60)
    here.close()
    there.close()

    assert ended > 2


@pytest.mark.parametrize(
    ("act", "error"),
    [
        (EXIT, WorkerLost),
        (SLEEP, DeadlineExceeded),
        (PRINT, LimitExceeded),
        (SHAPE, EnvironmentFailed),
    ],
)
def test_what_ends_a_process_has_its_typed_cause(url: str, act: int, error: type) -> None:
    env = odd(url)
    env.reset()
    truncated, infos = env.step([NOTHING, NOTHING, act, NOTHING])[3:]

    assert truncated.tolist() == [False, False, True, True]
    assert isinstance(infos["envhub_error"][3], error)
    assert not env.step([NOTHING] * 4)[3].any()
    assert env.step([NOTHING] * 4)[1].tolist() == [1.0] * 4
    env.close()


def test_a_process_that_is_killed_between_steps_is_replaced_by_a_reset(url: str) -> None:
    env = elsewhere(url, processes=2)
    first = env.reset(seed=1)
    before = env.pids
    kill(env, 0)

    assert_same(env.reset(seed=1), first)
    assert env.pids[1] == before[1]
    env.close()


def test_a_reset_that_fails_is_raised_and_the_next_one_goes_on(url: str) -> None:
    env = odd(url, fail_reset_at=2)
    env.reset()
    with pytest.raises(EnvironmentFailed, match="no reset"):
        env.reset()

    env.reset()
    assert env.step([NOTHING] * 4)[1].tolist() == [1.0] * 4
    env.close()


def test_send_and_recv_play_what_step_plays(url: str) -> None:
    env, other = elsewhere(url, processes=2), elsewhere(url)
    assert_same(env.reset(seed=3)[0], other.reset(seed=3)[0])
    env.send([0, 1, 1, 0], [0, 1, 2, 3])
    rows: dict[int, Any] = {}
    while len(rows) < 4:
        seen, *_, infos = env.recv()
        rows |= dict(zip(infos["env_id"].tolist(), seen, strict=True))
    seen = other.step([0, 1, 1, 0])[0]

    np.testing.assert_array_equal([rows[i] for i in range(4)], seen)
    env.close()
    other.close()


def test_the_first_that_are_ready_wait_for_no_other(url: str) -> None:
    env = odd(url)
    env.reset()
    env.send([SLEEP, NOTHING, NOTHING, NOTHING], [0, 1, 2, 3])

    assert env.recv()[4]["env_id"].tolist() == [2, 3]
    env.close()


def test_attributes_and_methods_of_each(url: str) -> None:
    env = elsewhere(url, processes=2)
    env.set_attr("gravity", [1.0, 2.0, 3.0, 4.0])

    assert env.get_attr("gravity") == (1.0, 2.0, 3.0, 4.0)
    with pytest.raises(UsageError, match="__dict__"):
        env.get_attr("__dict__")
    env.close()


def test_pictures_are_rendered_there(url: str) -> None:
    env = elsewhere(url, "FrozenLake-v1", 2, processes=2, render_mode="ansi")
    env.reset(seed=1)

    assert env.render_mode == "ansi"
    assert "FFF" in env.render()[1]
    env.close()


def test_pixels_and_dicts_arrive_whole(url: str) -> None:
    for observation, shape in (("pixels", (4, 84, 84, 3)), ("dict", (4, 3))):
        env = odd(url, observation=observation)
        env.reset()
        seen = env.step([NOTHING] * 4)[0]
        seen = seen["b"] if observation == "dict" else seen
        assert (seen.shape, int(seen.min()), int(seen.max())) == (shape, 1, 1)
        env.close()


def test_actions_of_several_processes_may_be_more_than_a_frame(url: str) -> None:
    env = odd(url, 3, processes=3, action_bytes=7 * 2**20)
    env.reset()
    connection = env._crew.members[0].line._dialled
    actions = np.zeros((3, 7 * 2**20), np.uint8)

    assert env.step(actions)[1].tolist() == [1.0] * 3
    assert env._crew.members[0].line._dialled is connection  # nobody has hung up
    env.close()


def test_without_copies_the_next_step_but_one_overwrites_them(url: str) -> None:
    env = elsewhere(url, copy=False)
    first = env.reset(seed=1)[0]
    env.step([0, 0, 0, 0])

    assert np.shares_memory(first, env.step([0, 0, 0, 0])[0])
    env.close()


def test_what_cannot_be_made_says_why_and_leaves_nothing(url: str) -> None:
    with pytest.raises(UnknownEnvironment):
        envhub.make_vec("nobody", 2, hub=url)
    with pytest.raises(EnvironmentFailed, match="nothing of the kind"):
        odd(url, observation="nothing of the kind")
    with pytest.raises(UsageError, match="Text"):
        odd(url, observation="text")
    with pytest.raises(UsageError, match="isolated"):
        odd(url, isolation="none")
    with pytest.raises(ConnectionLost):
        odd("http://127.0.0.1:9")
    until_closed(url)


def test_actions_that_do_not_fit_are_refused_and_nothing_has_happened(url: str) -> None:
    env = elsewhere(url)
    with pytest.raises(ResetNeeded):
        env.step([0, 0, 0, 0])
    env.reset(seed=1)
    with pytest.raises(InvalidAction, match="shape"):
        env.step(np.zeros(3, np.int64))
    seen = env.step([0, 1, 0, 1])[0]
    env.reset(seed=1)
    np.testing.assert_array_equal(env.step(np.array([0, 1, 0, 1]))[0], seen)
    env.close()


def test_closing_gives_the_places_back_and_no_call_comes_after(url: str) -> None:
    env = odd(url)
    env.reset()
    assert len(sessions(url)) == 2
    env.close()
    env.close()

    assert sessions(url) == []
    with pytest.raises(SessionClosed):
        env.step([NOTHING] * 4)
    with pytest.raises(SessionClosed):
        env.reset()


def test_it_is_closed_in_the_middle_of_a_step(url: str) -> None:
    env = odd(url)
    env.reset()
    env.send([SLEEP, NOTHING], [0, 1])
    env.close()

    until_closed(url)


def test_an_interrupted_step_gives_its_processes_up(url: str) -> None:
    env = odd(url, processes=1)
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
    until_closed(url)


def test_in_a_fork_it_is_refused_and_the_parents_goes_on(url: str) -> None:
    env = odd(url)
    env.reset()
    pid = os.fork()
    if pid == 0:
        try:
            env.step([NOTHING] * 4)
        except HubForked:
            env.close()
            os._exit(7)
        os._exit(1)
    status = os.waitpid(pid, 0)[1]

    assert os.waitstatus_to_exitcode(status) == 7
    assert env.step([NOTHING] * 4)[1].tolist() == [1.0] * 4
    env.close()


def test_two_threads_have_one_each_and_neither_waits_for_the_other(url: str) -> None:
    slow, quick = odd(url, processes=1), odd(url, processes=1)
    for env in (slow, quick):
        env.reset()
    stuck = threading.Thread(target=slow.step, args=([SLEEP, NOTHING, NOTHING, NOTHING],))
    stuck.start()
    for _ in range(50):
        assert quick.step([NOTHING] * 4)[1].tolist() == [1.0] * 4
    assert stuck.is_alive()
    stuck.join()
    slow.close()
    quick.close()


def test_batches_count_as_the_steps_of_their_environments(url: str) -> None:
    env = odd(url, processes=1, autoreset_mode="same_step")
    env.reset()
    env.step([NOTHING] * 4)
    env.step([END, NOTHING, NOTHING, NOTHING])
    [told] = sessions(url)
    env.close()

    assert (told["steps"], told["episode"]) == (8, 5)


def test_a_holder_has_as_many_processes_as_it_may_have_sessions(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.touch(0o600)
    tokens.write_text("a-token-of-a-test-0001 name=a sessions=2 envs=odd\n")
    with serving(*SERVED, "--token-file", str(tokens), "--queue-s", "0") as url:
        with pytest.raises(UsageError, match="401"):
            odd(url)
        hub = envhub.connect(url, token="a-token-of-a-test-0001")
        odd(hub).close()
        with pytest.raises(CapacityError):
            odd(hub, processes=3)
        with hub.sync() as connected:
            env = odd(connected)
            env.reset()
            assert env.step([NOTHING] * 4)[1].tolist() == [1.0] * 4
            env.close()
        with pytest.raises(EnvhubError, match="may not use"):
            envhub.make_vec("classic", 1, hub=hub)


def test_a_server_that_ends_ends_its_processes_and_its_client_is_told() -> None:
    with serving(*SERVED) as url:
        hub = envhub.connect(url, reconnect_s=0.1)
        env = odd(hub)
        env.reset()
        pidfds = [os.pidfd_open(pid) for pid in env.pids]
    for pidfd in pidfds:
        assert select.select([pidfd], [], [], 10)[0]
        os.close(pidfd)
    truncated, infos = env.step([NOTHING] * 4)[3:]

    assert truncated.all()
    assert set(causes(infos)) <= {"ConnectionLost", "SessionClosed"}
    with pytest.raises((ConnectionLost, SessionClosed)):
        env.reset()
    env.close()


def test_gymnasiums_own_wrappers_of_vectors_work_on_it(url: str) -> None:
    env = gymnasium.wrappers.vector.RecordEpisodeStatistics(elsewhere(url))
    env.reset(seed=1)
    for _ in range(60):
        infos = env.step(np.zeros(4, np.int64))[4]
        if "episode" in infos:
            break

    assert infos["episode"]["r"].max() > 5
    env.close()
