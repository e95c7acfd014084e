"""Workers that die, hang, or do not start: what becomes of them, and of those who wait."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from envhub import Hub
from envhub.errors import (
    CapacityError,
    EnvironmentFailed,
    ManifestError,
    WorkerLost,
    WorkerStartFailed,
)
from envhub.hub.environments import fingerprint
from envhub.hub.session import Session
from envhub.hub.workers import succession
from envhub.hub.workers.backoff import BackOff
from envhub.hub.workers.pulse import Pulse
from envhub_sandbox import LayerFailed
from tests.conftest import children
from tests.hub.test_robust import environment, zygote_of
from tests.test_thousand import alive_with

PROBES = Path(__file__).parent / "envs"
STARTS = """
class X:
    def reset(self): return {}
    def step(self, action): return {}
"""


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def until(is_true: Callable[[], bool]) -> None:
    with anyio.fail_after(30):
        while not is_true():  # noqa: ASYNC110 (it has no event)
            await anyio.sleep(0.01)


def running(pids: set[int]) -> set[int]:
    """Those that run, and are not only not reaped yet."""

    def state(pid: int) -> str:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return "X"

    return {pid for pid in pids if state(pid) not in "ZX"}


# ---------------------------------------------------------------- zygotes that do not answer


def workers_of(hub: Hub, name: str) -> succession.Succession:
    return hub._pools[name]._workers


@pytest.mark.parametrize(
    "isolation", ["strict", "landlock", "none"], ids=lambda tier: f"tier {tier}"
)
async def test_a_zygote_that_is_stopped_loses_no_session_and_gets_no_new_one(
    isolation: str,
) -> None:
    before = children()
    options = {"isolation": isolation, "exactly": isolation != "none"}
    async with Hub(PROBES, heartbeat_s=0.3, **options) as hub:  # type: ignore[arg-type]
        first = await hub.open("probe")
        await first.reset()
        workers = workers_of(hub, "probe")
        wedged = workers.current
        assert wedged is not None
        os.kill(zygote_of(first), signal.SIGSTOP)
        await until(lambda: wedged.wedged)
        stopped = alive_with(children() - before)

        async with hub.session("probe") as second:
            await second.reset()
            await second.step({"code": ""})
            assert second.pid not in stopped
        assert workers.current is not wedged
        await first.step({"code": ""})
        with pytest.raises(EnvironmentFailed):
            await first.step({"code": "raise ValueError"})
        await first.reset()
        await first.aclose()
        await until(lambda: not workers.wedged)

        # without a sandbox they are orphans, and init may reap them when it likes
        await until(lambda: not running(stopped))
        assert isolation == "none" or not stopped & alive_with(stopped)
        assert not wedged.alive
    assert children() <= before


async def test_sessions_of_a_wedged_worker_end_without_waiting_for_its_word(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Or each would take as long as a zygote has for saying how a process ended."""
    monkeypatch.setattr("envhub.hub.workers.process._NOTE_S", 3600.0)
    async with Hub(PROBES, heartbeat_s=0.3) as hub:
        sessions = [await hub.open("probe") for _ in range(3)]
        for session in sessions:
            await session.reset()
        worker = workers_of(hub, "probe").current
        assert worker is not None
        os.kill(zygote_of(sessions[0]), signal.SIGSTOP)
        await until(lambda: worker.wedged)
        with anyio.fail_after(60):
            with pytest.raises(WorkerLost, match="went with its worker"):
                await sessions[0].step({"code": "import os; os._exit(1)"})
            for session in sessions:
                await session.aclose()

        assert hub.active_sessions == 0


async def test_a_hub_with_a_wedged_worker_closes_and_leaves_nothing() -> None:
    before = children()
    async with Hub(PROBES, heartbeat_s=0.3) as hub:
        session = await hub.open("probe")
        await session.reset()
        worker = workers_of(hub, "probe").current
        assert worker is not None
        tree = alive_with(children() - before)
        os.kill(zygote_of(session), signal.SIGSTOP)
        await until(lambda: worker.wedged)

    assert not tree & alive_with(tree)


async def test_a_hub_that_slept_itself_takes_no_zygote_for_wedged() -> None:
    """As all of a machine does that is frozen and goes on: a ping is out, and no answer in."""
    async with Hub(PROBES, heartbeat_s=2.0) as hub, hub.session("probe") as env:
        worker = workers_of(hub, "probe").current
        assert worker is not None
        await env.reset()
        zygote = zygote_of(env)
        asked: list[bool] = []
        is_due = worker._pulse.is_due

        def noted() -> bool:
            asked.append(is_due())
            if asked[-1]:
                os.kill(zygote, signal.SIGSTOP)  # before the ping is sent
            return asked[-1]

        worker._pulse.is_due = noted  # type: ignore[method-assign]
        await until(lambda: any(asked))
        time.sleep(3)  # noqa: ASYNC251 (that is what this is about)
        worker._pulse.is_due = is_due  # type: ignore[method-assign]
        os.kill(zygote, signal.SIGCONT)
        looks = 0
        late = worker.look

        def counted() -> None:
            nonlocal looks
            looks += 1
            late()

        worker.look = counted  # type: ignore[method-assign]
        await until(lambda: looks >= 2)

        assert worker.usable


async def test_a_zygote_that_answers_serves_on() -> None:
    """The control: far more heartbeats than one may be missing."""
    async with Hub(PROBES, heartbeat_s=0.5) as hub, hub.session("probe") as env:
        worker = workers_of(hub, "probe").current
        assert worker is not None
        pings = 0
        send = worker._pulse.is_due

        def counted() -> bool:
            nonlocal pings
            due = send()
            pings += due
            return due

        worker._pulse.is_due = counted  # type: ignore[method-assign]
        await until(lambda: pings >= 5)
        await env.reset()

        assert worker.usable
        assert workers_of(hub, "probe").current is worker


def test_a_pulse_is_late_when_one_question_was_not_answered_in_time() -> None:
    clock = Clock()
    pulse = Pulse(9.0, clock)
    asked = [pulse.is_due(), pulse.is_due()]
    clock.now += 9.0
    in_time = pulse.is_late
    pulse.heard()
    asked.append(pulse.is_due())
    clock.now += 9.1

    assert (asked, in_time) == ([True, False, True], False)
    assert pulse.is_late
    pulse.heard()
    assert not pulse.is_late


# ---------------------------------------------------------------- workers that die


def test_what_fails_again_and_again_is_tried_less_and_less() -> None:
    clock = Clock()
    back_off = BackOff(clock)
    waits = []
    for _ in range(13):
        back_off.began()
        back_off.failed()
        waits.append(back_off.left_s)
        clock.now += back_off.left_s

    assert waits == pytest.approx([0, 0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30])
    assert back_off.left_s == 0


def test_what_has_lived_for_a_while_is_forgiven() -> None:
    clock = Clock()
    back_off = BackOff(clock)
    for _ in range(5):
        back_off.failed()
    clock.now += back_off.left_s
    back_off.began()
    clock.now += 60
    back_off.failed()

    assert (back_off.failures, back_off.left_s) == (1, 0)


async def kill_worker_of(hub: Hub, session: Session) -> None:
    worker = workers_of(hub, "probe").current
    assert worker is not None
    os.kill(zygote_of(session), signal.SIGKILL)
    await until(lambda: not worker.alive)


async def test_a_worker_that_dies_again_and_again_is_waited_for() -> None:
    async with Hub(PROBES) as hub:
        clock = Clock()
        back_off = BackOff(clock)
        for died in range(4):
            async with hub.session("probe") as env:
                if not died:
                    workers_of(hub, "probe")._back_off = back_off
                await kill_worker_of(hub, env)
            if back_off.left_s:
                assert died >= 2
                clock.now += back_off.left_s
        failures = back_off.failures
        async with hub.session("probe") as env:
            await env.reset()

    assert failures == 4


async def test_nobody_waits_longer_for_a_worker_than_it_may_take_to_start(
    tmp_path: Path,
) -> None:
    folder = environment(tmp_path, manifest="[deadlines]\nstart_s = 5.0\n")
    async with Hub(folder) as hub:
        async with hub.session("x") as env:
            back_off = workers_of(hub, "x")._back_off
            worker = workers_of(hub, "x").current
            assert worker is not None
            for _ in range(20):
                back_off.failed()
            os.kill(zygote_of(env), signal.SIGKILL)
            await until(lambda: not worker.alive)
        with pytest.raises(CapacityError, match="21 times in a row") as caught:
            await hub.open("x")

    assert caught.value.retryable


async def test_a_changed_environment_does_not_pay_for_what_it_was(tmp_path: Path) -> None:
    async with Hub(environment(tmp_path, manifest="[deadlines]\nstart_s = 5.0\n")) as hub:
        async with hub.session("x") as env:
            worker = workers_of(hub, "x").current
            assert worker is not None
            for _ in range(20):
                workers_of(hub, "x")._back_off.failed()
            os.kill(zygote_of(env), signal.SIGKILL)
            await until(lambda: not worker.alive)
        (tmp_path / "env.py").write_text(STARTS)
        async with hub.session("x") as env:
            await env.reset()


async def test_a_hub_closes_while_a_worker_is_waited_for() -> None:
    outcome: list[str] = []
    async with anyio.create_task_group() as tasks:
        async with Hub(PROBES) as hub:
            async with hub.session("probe") as env:
                for _ in range(11):
                    workers_of(hub, "probe")._back_off.failed()
                await kill_worker_of(hub, env)

            async def wait() -> None:
                with pytest.raises(CapacityError) as caught:
                    await hub.open("probe")
                outcome.append(str(caught.value))

            tasks.start_soon(wait)
            await until(lambda: hub.active_sessions == 1)

    assert outcome == ["the hub is closing"]


# ---------------------------------------------------------------- starts that fail


async def test_what_is_broken_is_listed_with_its_last_words(tmp_path: Path) -> None:
    shutil.copytree(PROBES / "broken", tmp_path / "broken")
    (tmp_path / "invalid").mkdir()
    (tmp_path / "invalid" / "env.toml").write_text("name = 7\n")
    async with Hub(tmp_path) as hub:
        untried = hub.broken().keys()
        with pytest.raises(WorkerStartFailed):
            await hub.open("broken")
        broken = hub.broken()
        (tmp_path / "broken" / "env.py").write_text(STARTS.replace("X", "Broken"))
        async with hub.session("broken"):
            pass

    assert untried == {"invalid"}
    assert isinstance(broken["invalid"], ManifestError)
    assert isinstance(broken["broken"], WorkerStartFailed)
    assert "a_module_that_nobody_has" in broken["broken"].output
    assert hub.broken().keys() == {"invalid"}


async def test_an_older_file_in_the_place_of_a_broken_one_is_a_change(tmp_path: Path) -> None:
    folder = environment(tmp_path)
    good, bad = tmp_path / "env.py", tmp_path / "broken.py"
    bad.write_text("import a_module_that_nobody_has\n")
    os.utime(good, (1, 1))
    older = good.rename(tmp_path / "older.py")
    bad.rename(good)
    async with Hub(folder) as hub:
        with pytest.raises(WorkerStartFailed):
            await hub.open("x")
        older.rename(good)
        async with hub.session("x") as env:
            await env.reset()


def test_each_change_of_a_file_is_seen(tmp_path: Path) -> None:
    one, other = tmp_path / "one.py", tmp_path / "other.py"
    seen = [fingerprint.of_folder(str(tmp_path))]

    def note() -> None:
        seen.append(fingerprint.of_folder(str(tmp_path)))

    one.write_text("1")
    note()
    one.write_text("12")
    note()
    os.utime(one, ns=(5, 5))
    note()
    other.write_text("34")
    os.utime(other, ns=(5, 5))
    note()
    other.replace(one)  # same size, same time
    note()
    one.unlink()
    (tmp_path / "link.py").symlink_to("nowhere")
    note()

    assert len(set(seen)) == len(seen)
    assert seen[-1] == fingerprint.of_folder(str(tmp_path))


def test_what_python_caches_is_no_change(tmp_path: Path) -> None:
    seen = fingerprint.of_folder(str(tmp_path))
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "env.pyc").write_text("x")

    assert fingerprint.of_folder(str(tmp_path)) == seen


async def test_a_start_that_the_machine_failed_is_tried_again(tmp_path: Path) -> None:
    """Nobody has to touch the environment's files because the machine was out of memory."""
    async with Hub(environment(tmp_path)) as hub:
        clock = Clock()
        start = hub.starter.start
        starts = 0

        async def fail(*args: object, **named: object) -> None:
            nonlocal starts
            starts += 1
            raise LayerFailed("launcher", "Resource temporarily unavailable", 11)

        hub.starter.start = fail  # type: ignore[assignment, method-assign]
        for _ in range(5):
            with pytest.raises(LayerFailed):
                await hub.open("x")
            hub._pools["x"]._starts._clock = clock
        while_it_fails = starts
        hub.starter.start = start  # type: ignore[method-assign]
        clock.now += 1e9
        async with hub.session("x") as env:
            await env.reset()

    assert while_it_fails == 3
    assert hub.broken() == {}
