"""What a session has used: exact where it is counted, at least what was burned elsewhere."""

from __future__ import annotations

from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

import envhub
from envhub import Bill, Hub
from envhub.errors import Cancelled, LimitExceeded
from envhub_sandbox import landlock
from tests.conftest import ENVS as SHIPPED
from tests.hub.conftest import ENVS

MIB = 1024 * 1024
TIERS = ["strict", *(["landlock"] if landlock.version() >= 6 else []), "none"]
BURN = """
import time
until = time.process_time() + 0.2
while time.process_time() < until: pass
"""
IN_A_CHILD = f"""
import os
child = os.fork()
if child == 0:
    exec({BURN!r})
    os._exit(0)
"""
REAPED = IN_A_CHILD + "os.waitpid(child, 0)"
# it says that it has burned, and stays; the step ends
LEFT_ALONE = f"""
import os, time
told, tell = os.pipe()
if os.fork() == 0:
    exec({BURN!r})
    os.write(tell, b"x")
    time.sleep(600)
os.read(told, 1)
"""
LOOP = "\nwhile True: pass"
# of 0.2: what runs is told up to the last tick, and what was reaped in hundredths
ABOUT_S = 0.15


@pytest.mark.parametrize("code", [BURN, REAPED, LEFT_ALONE], ids=["itself", "reaped", "left"])
@pytest.mark.parametrize("tier", TIERS)
async def test_cpu_time_of_a_step_is_on_the_bill(tier: str, code: str) -> None:
    async with Hub(ENVS, isolation=tier, exactly=True) as hub, hub.session("probe") as session:
        await session.reset()
        before = await session.bill()
        await session.step({"code": code})
        used = await session.bill() - before
        idle = await session.bill()
        await session.state()

        assert used.cpu_s >= ABOUT_S
        assert (await session.bill() - idle).cpu_s < ABOUT_S


async def test_what_a_killed_process_has_used_stays_on_the_bill(hub: Hub) -> None:
    async with hub.session("probe") as session:
        await session.reset()
        async with anyio.create_task_group() as tasks:

            async def step() -> None:
                with pytest.raises(Cancelled):
                    await session.step({"code": BURN + "print('burned', flush=True)" + LOOP})

            tasks.start_soon(step)
            while "burned" not in session.output:
                await anyio.lowlevel.checkpoint()
            before = await session.bill()
            session.cancel()
        lost = await session.bill()
        await session.reset()
        again = await session.bill()
        await session.step({"code": BURN})

        assert before.cpu_s >= ABOUT_S
        assert before.cpu_s <= lost.cpu_s <= again.cpu_s
        assert (await session.bill()).cpu_s >= 2 * ABOUT_S
    closed = await session.bill()
    assert closed.cpu_s >= 2 * ABOUT_S
    assert closed == await session.bill()


async def test_bytes_are_counted_to_the_last(hub: Hub) -> None:
    used: list[Bill] = []
    async with hub.session("probe") as session:
        await session.reset()
        for size in (1000, 3000):
            before = await session.bill()
            code = f"#{'x' * size}\nprint('y' * {size})\nresult = {{'z': 'z' * {2 * size}}}"
            await session.step({"code": code})
            used.append(await session.bill() - before)

    assert [u.calls for u in used] == [1, 1]
    assert used[1].sent_bytes - used[0].sent_bytes == 2000
    assert used[1].received_bytes - used[0].received_bytes == 4000
    assert [u.printed_bytes for u in used] == [1001, 3001]


async def test_the_peak_is_the_largest_process_s(hub: Hub) -> None:
    async with hub.session("probe") as session:
        await session.reset()
        before = (await session.bill()).peak_bytes
        await session.step({"code": "kept = bytearray(b'x') * (100 << 20)\ndel kept"})
        after = await session.bill()
        await session.step({"code": ""})
        small = await session.bill() - after

    assert 0 < before < 100 * MIB <= after.peak_bytes
    assert small.peak_bytes == after.peak_bytes


async def test_agent_sandboxes_are_on_the_bill() -> None:
    async with Hub(SHIPPED) as hub, hub.session("coding") as session:
        await session.reset()
        before = await session.bill()
        await session.step({"code": BURN})
        alive = await session.bill() - before
    ended = await session.bill() - before

    assert alive.cpu_s >= ABOUT_S
    assert ended.cpu_s >= alive.cpu_s


async def test_waiting_is_told_from_calling() -> None:
    """The second session waits for the place of the first, and two calls for one another."""
    async with Hub(ENVS, max_sessions=1) as hub:
        first = await hub.open("probe")
        waited: list[Bill] = []

        async def second() -> None:
            async with hub.session("probe") as session:
                waited.append(await session.bill())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(second)
            await first.reset()
            before = await first.bill()
            async with anyio.create_task_group() as both:
                both.start_soon(first.step, {"code": BURN})
                both.start_soon(first.step, {"code": BURN})
            used = await first.bill() - before
            await first.aclose()

    assert (used.calls, waited[0].calls) == (2, 0)
    assert used.wall_s >= 0.4
    assert used.waited_s >= ABOUT_S  # it came a moment after the other had begun
    assert waited[0].waited_s >= used.wall_s
    assert waited[0].wall_s == 0.0


async def test_a_call_under_way_is_on_the_bill(hub: Hub) -> None:
    async with hub.session("cancels") as session:
        await session.reset()
        before = await session.bill()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.step, {"how": "flag"})
            while not session.output:
                await anyio.lowlevel.checkpoint()
            first = await session.bill() - before
            second = await session.bill() - before
            session.cancel()

    assert first.calls == second.calls == 1
    assert 0 < first.wall_s < second.wall_s
    assert 0 <= first.cpu_s <= second.cpu_s


def test_the_blocking_session_has_the_same_bill() -> None:
    with envhub.make("probe", envs=ENVS) as env:
        env.reset()
        before = env.bill
        env.step({"code": BURN + "print('x' * 99)"})
        used = env.bill - before
        with pytest.raises(envhub.errors.WorkerLost):
            env.step({"code": BURN + "import os; os._exit(1)"})
        env.reset()
        last = env.bill - before
    closed = env.bill - before

    assert (used.calls, used.printed_bytes) == (1, 100)
    assert used.wall_s >= 0.2
    assert used.cpu_s >= ABOUT_S
    assert last.calls == 3
    assert closed.cpu_s >= last.cpu_s >= 2 * ABOUT_S
    assert last.waited_s > 0


async def test_what_the_hub_keeps_counts_as_memory_of_the_session(tmp_path: Path) -> None:
    """Whoever keeps it, and also when the process is another than when it was kept."""
    tmp_path.chmod(0o755)
    limits = f"[limits]\nsession_memory_bytes = {256 * MIB}\ndisk_bytes = {MIB}\n"
    (tmp_path / "env.toml").write_text(f'name = "x"\nentry = "env:Probe"\n{limits}')
    (tmp_path / "env.py").write_text((ENVS / "probe" / "env.py").read_text())
    async with Hub(tmp_path) as hub, hub.session("x") as session, hub.session("x") as other:
        await session.reset()
        await other.reset()
        other.keep(64 * MIB)
        session.keep(256 * MIB)
        errors: list[LimitExceeded] = []
        for _ in range(2):
            with pytest.raises(LimitExceeded) as caught:
                await session.step({"code": "import time; time.sleep(600)"})
            errors.append(caught.value)
            await session.reset()
        session.keep(0)
        await other.step({"code": "result = {'ok': 1}"})
        assert (await other.reset()).observation.resets == 2

    for error in errors:
        assert (error.verdict, error.limit) == ("memory_limit", "session_memory_bytes")
        assert error.observed > error.allowed == 256 * MIB
