"""Sessions over real workers: what they promise, and how each promise breaks when it must."""

from __future__ import annotations

import os
import signal
import socket

import anyio
import pytest

from envhub import Hub
from envhub.errors import (
    CapacityError,
    DeadlineExceeded,
    EnvironmentFailed,
    InvalidAction,
    InvalidOption,
    LimitExceeded,
    ResetNeeded,
    SessionClosed,
    WorkerLost,
)
from tests.hub.conftest import ENVS
from tests.hub.sharing import anyio_backend as anyio_backend
from tests.hub.sharing import hub as hub
from tests.hub.sharing import nothing_leaks as nothing_leaks
from tests.hub.sharing import shared as shared


async def test_reset_step_and_state(hub: Hub) -> None:
    async with hub.session("probe") as env:
        first = await env.reset(seed=7, note="hi")
        result = await env.step({"code": "result = {'x': 1, 'reward': 0.5, 'done': True}"})
        state = await env.state()

    assert (first.observation.seed, first.observation.note) == (7, "hi")
    assert (result.observation.x, result.reward, result.terminated) == (1, 0.5, True)
    assert state == {"resets": 1}


async def test_a_step_before_reset_is_refused_and_the_session_goes_on(hub: Hub) -> None:
    async with hub.session("probe") as env:
        with pytest.raises(ResetNeeded):
            await env.step({"code": ""})
        await env.reset()

        assert (await env.step({"code": "result = {'ok': 1}"})).observation.ok == 1


async def test_a_step_after_the_end_of_the_episode_is_refused(hub: Hub) -> None:
    async with hub.session("probe") as env:
        await env.reset()
        await env.step({"code": "result = {'done': True}"})
        with pytest.raises(ResetNeeded):
            await env.step({"code": ""})


async def test_an_unknown_reset_option_lists_the_known_ones(hub: Hub) -> None:
    async with hub.session("probe") as env:
        with pytest.raises(InvalidOption, match="unknown reset option `nite`") as caught:
            await env.reset(nite="x")

    assert "`seed`, `note`" in str(caught.value)
    assert caught.value.hint == "did you mean `note`?"


@pytest.mark.parametrize("seed", [-1, "7", 1.5, True])
async def test_a_seed_that_is_none_is_refused(hub: Hub, seed: object) -> None:
    async with hub.session("probe") as env:
        with pytest.raises(InvalidOption, match="seed"):
            await env.reset(seed=seed)  # type: ignore[arg-type]


async def test_what_cannot_be_sent_is_refused_before_it_is(hub: Hub) -> None:
    async with hub.session("probe") as env:
        await env.reset()
        with pytest.raises(InvalidAction, match="cannot be sent"):
            await env.step({"code": object()})


async def test_an_authors_exception_is_typed_and_the_session_goes_on(hub: Hub) -> None:
    async with hub.session("probe") as env:
        await env.reset()
        with pytest.raises(EnvironmentFailed, match="deep trouble") as caught:
            await env.step({"code": "print('so far'); raise ValueError('deep trouble')"})

        assert "ValueError" in caught.value.traceback
        assert caught.value.output == "so far\n"
        assert (await env.step({"code": "result = {'ok': 1}"})).observation.ok == 1


@pytest.mark.parametrize("leave", ["raise SystemExit(3)", "raise KeyboardInterrupt"])
async def test_an_environment_that_asks_to_leave_has_failed(hub: Hub, leave: str) -> None:
    async with hub.session("probe") as env:
        await env.reset()
        with pytest.raises(EnvironmentFailed):
            await env.step({"code": leave})


@pytest.mark.parametrize("reward", ["float('nan')", "float('inf')", "'1'", "[]"])
async def test_a_reward_that_is_no_number_is_never_a_reward(hub: Hub, reward: str) -> None:
    async with hub.session("probe") as env:
        await env.reset()
        with pytest.raises(EnvironmentFailed, match="the reward must be a finite number"):
            await env.step({"code": f"result = {{'reward': {reward}}}"})


async def test_a_process_that_exits_is_lost_and_the_next_reset_has_a_new_one(hub: Hub) -> None:
    async with hub.session("probe") as env:
        await env.reset()
        with pytest.raises(WorkerLost, match="exited with code 0") as caught:
            await env.step({"code": "import os; print('last words', flush=True); os._exit(0)"})

        assert caught.value.verdict == "exited"
        assert caught.value.output == "last words\n"
        with pytest.raises(ResetNeeded):
            await env.step({"code": ""})
        assert (await env.reset()).observation.resets == 1


async def test_a_crash_is_lost_with_its_signal(hub: Hub) -> None:
    async with hub.session("probe") as env:
        await env.reset()
        with pytest.raises(WorkerLost, match="SIGSEGV"):
            # a process that is pid 1 survives its own kill(), and not a real fault
            await env.step({"code": "import ctypes; ctypes.string_at(0)"})


async def test_a_flood_of_output_ends_the_process_and_keeps_the_tail(hub: Hub) -> None:
    async with hub.session("probe") as env:
        await env.reset()
        with pytest.raises(LimitExceeded, match="killed for printing too much") as caught:
            await env.step({"code": "while True: print('x' * 1000)"})

    assert 0 < len(caught.value.output) <= 64 * 1024


async def test_output_that_is_read_in_pauses_is_read_to_its_end(hub: Hub) -> None:
    much = "for _ in range(4000): print('x' * 999)"
    async with hub.session("probe") as env:
        await env.reset()
        for word in ("first", "second"):  # what is read without pause begins anew
            await env.step({"code": f"{much}\nprint('{word}')"})

            assert len(env.output) == 64 * 1024
            assert env.output.endswith(f"x\n{word}\n")


async def test_a_flood_of_output_that_is_paused_ends_with_its_session(hub: Hub) -> None:
    async with hub.session("probe") as env, hub.session("probe") as neighbour:
        await env.reset()
        await neighbour.reset()
        flood = "while True: print('x' * 999)"
        code = f"import os\nif not os.fork():\n    {flood}"  # goes on after the reply
        await env.step({"code": code})
        for _ in range(20):
            await neighbour.step({"code": "pass"})
        await env.aclose()
        await neighbour.step({"code": "pass"})


async def test_a_step_past_its_deadline_is_killed_with_its_output_kept(hub: Hub) -> None:
    async with hub.session("waits") as env, hub.session("waits") as neighbour:
        await env.reset()
        await neighbour.reset()
        with pytest.raises(
            DeadlineExceeded, match=r"`step` was not answered within 0.3 s"
        ) as e:
            await env.step({"wait_s": 60})

        assert e.value.output == "about to wait\n"
        assert (await neighbour.step({"wait_s": 0})).observation.ticks >= 0
        await env.reset()


async def test_an_asynchronous_environment_runs_on_between_the_calls(hub: Hub) -> None:
    async with hub.session("waits") as env:
        before = (await env.reset()).observation.ticks
        state = await env.state()
        with anyio.fail_after(10):
            while state.ticks <= before:
                state = await env.state()


async def test_reuse_keeps_the_process_and_pristine_does_not(hub: Hub) -> None:
    async with hub.session("probe") as reused, hub.session("waits") as pristine:
        await reused.reset()
        await pristine.reset()
        pids = reused.pid, pristine.pid
        await reused.reset()
        await pristine.reset()

        assert reused.pid == pids[0]
        assert pristine.pid != pids[1]


async def test_cancelling_a_step_ends_its_process_and_the_session_goes_on(hub: Hub) -> None:
    async with hub.session("probe") as env:
        await env.reset()
        with anyio.move_on_after(0.05) as scope:
            await env.step({"code": "import time; time.sleep(600)"})

        assert scope.cancelled_caught
        assert (await env.reset()).observation.resets == 1


async def test_closing_during_a_step_ends_it_with_session_closed(hub: Hub) -> None:
    env = await hub.open("probe")
    await env.reset()
    async with anyio.create_task_group() as tasks:

        async def step() -> None:
            with pytest.raises(SessionClosed):
                await env.step({"code": "import time; time.sleep(600)"})

        tasks.start_soon(step)
        while not env._conversation.is_busy:  # the step has the session now
            await anyio.lowlevel.checkpoint()
        await env.aclose()
    with pytest.raises(SessionClosed):
        await env.reset()


async def test_calls_of_two_tasks_take_turns(hub: Hub) -> None:
    results: list[int] = []
    async with hub.session("probe") as env:
        await env.reset()

        async def step(number: int) -> None:
            got = await env.step({"code": f"result = {{'n': {number}}}"})
            results.append(got.observation.n)

        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(step, number)

    assert sorted(results) == list(range(20))


@pytest.mark.parametrize(
    "forged",
    [
        "b'\\x00\\x00\\x00\\x01\\xc1'",
        "b'\\xff\\xff\\xff\\xff'",
        "b'\\x00\\x00\\x00\\x02\\x80\\x80'",
    ],
    ids=["no message", "huge length", "no tag"],
)
async def test_a_forged_frame_ends_the_session_and_not_its_neighbour(
    hub: Hub, forged: str
) -> None:
    async with hub.session("probe") as env, hub.session("probe") as neighbour:
        await neighbour.reset()
        await env.reset()
        with pytest.raises(WorkerLost, match="breaking the protocol") as caught:
            await env.step({"code": f"import os, time; os.write(3, {forged}); time.sleep(600)"})

        assert caught.value.verdict == "protocol"
        assert (await neighbour.step({"code": "result = {'ok': 1}"})).observation.ok == 1


async def test_a_word_that_nobody_asked_for_ends_the_process(hub: Hub) -> None:
    async with hub.session("probe") as env:
        await env.reset()
        pid = env.pid
        await env.step({"code": SPEAKS_LATER})
        with anyio.fail_after(10):
            while env._conversation.link is None or env._conversation.link.alive:  # noqa: ASYNC110
                await anyio.sleep(0.01)
        await env.reset()

        assert env.pid != pid


SPEAKS_LATER = """
import os, threading
def speak():
    os.write(3, b"\\x00\\x00\\x00\\x01\\xc0")
threading.Timer(0.05, speak).start()
"""


async def test_descriptors_sent_to_the_hub_do_not_arrive(hub: Hub) -> None:
    async with hub.session("probe") as env:
        await env.reset()
        before = len(os.listdir("/proc/self/fd"))
        # 200 descriptors; the pool's own processes may come and go meanwhile
        code = (
            "import socket; s = socket.socket(fileno=3);"
            "[socket.send_fds(s, [b'x'], [1] * 50) for _ in range(4)]; s.detach()"
        )
        with pytest.raises(WorkerLost):
            await env.step({"code": code})

        assert len(os.listdir("/proc/self/fd")) < before + 50


async def test_a_zygote_that_dies_takes_its_sessions_and_is_replaced(hub: Hub) -> None:
    async with hub.session("probe") as env:
        await env.reset()
        worker = hub._pools["probe"]._workers.current
        assert worker is not None
        worker._launched.process.send_signal(signal.SIGKILL)
        with pytest.raises(WorkerLost) as caught:
            await env.step({"code": "import time; time.sleep(600)"})

        assert caught.value.verdict == "worker_lost"
        assert (await env.reset()).observation.resets == 1


async def test_a_full_hub_says_so_after_the_queue_time() -> None:
    async with Hub(ENVS, max_sessions=1, queue_s=0.05) as hub, hub.session("probe"):
        with pytest.raises(CapacityError, match="1 of 1 sessions are open") as caught:
            await hub.open("probe")

    assert (caught.value.active, caught.value.limit) == (1, 1)


async def test_a_place_that_becomes_free_serves_the_queue() -> None:
    async with Hub(ENVS, max_sessions=1, queue_s=30) as hub:
        for _ in range(3):
            async with hub.session("probe") as env:
                await env.reset()

        assert hub.active_sessions == 0


async def test_the_receipt_lists_layers_that_the_kernel_confirms(hub: Hub) -> None:
    async with hub.session("probe") as env:
        receipt = env.receipt

    assert receipt.tier == "strict"
    assert {"network namespace", "seccomp", "no capabilities"} <= set(receipt.seen)
    assert {"private tmpfs", "rlimits"} <= set(receipt.layers)


async def test_the_session_reaches_no_network(hub: Hub) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        async with hub.session("probe") as env:
            await env.reset()
            with pytest.raises(EnvironmentFailed, match="not supported"):
                code = f"import socket; socket.create_connection(('127.0.0.1', {port}))"
                await env.step({"code": code})


async def test_isolation_none_runs_the_same_environment_and_its_receipt_says_so() -> None:
    async with Hub(ENVS, isolation="none") as hub, hub.session("probe") as env:
        await env.reset(seed=1)
        result = await env.step({"code": "result = {'x': 1}"})
        receipt = env.receipt

    assert result.observation.x == 1
    assert receipt.tier == "none"
    assert receipt.layers == ("no terminal", "rlimits", "parent death signal")
    assert receipt.seen == ()
