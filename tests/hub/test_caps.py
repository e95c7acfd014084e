"""What an operator allows at most."""

from __future__ import annotations

from pathlib import Path

import pytest

import envhub
from envhub import Hub
from envhub.errors import LimitExceeded, UsageError
from envhub.hub.environments import caps, manifest

PROBES = Path(__file__).parent / "envs"
MIB = 1024 * 1024


def read(folder: Path, text: str) -> manifest.Manifest:
    (folder / "env.toml").write_text(f'name = "x"\nentry = "env:X"\n{text}')
    return manifest.read(folder)


def test_what_is_in_force_is_the_smaller_of_the_two(tmp_path: Path) -> None:
    asked = read(tmp_path, "[limits]\nprocesses = 100\nopen_files = 20\n")
    lowered = caps.lowered(asked, {"processes": 50, "open_files": 50, "step_s": 5})

    assert (lowered.limits.processes, lowered.limits.open_files) == (50, 20)
    assert (lowered.deadlines.step_s, lowered.deadlines.reset_s) == (5, 60)


def test_no_limit_is_above_every_cap(tmp_path: Path) -> None:
    asked = read(tmp_path, "[limits]\nsession_memory_bytes = 0\n")
    lowered = caps.lowered(
        asked, {"session_memory_bytes": MIB, "cpu_s": 3, "idle_s": 60, "episode_s": 600}
    )

    assert (lowered.limits.session_memory_bytes, lowered.limits.cpu_s) == (MIB, 3)
    assert (lowered.deadlines.idle_s, lowered.deadlines.episode_s) == (60, 600)


def test_agent_sandboxes_are_capped_too(tmp_path: Path) -> None:
    asked = read(tmp_path, "agent_code = true\n[runner.limits]\nprocesses = 100\n")
    lowered = caps.lowered(asked, {"processes": 50, "frame_bytes": 5000})

    assert lowered.runner.limits.processes == 50
    assert lowered.runner.limits.frame_bytes == 64 * MIB


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"memory": 1}, "no limit `memory` to cap"),
        ({"niceness": 1}, "no limit `niceness` to cap"),
        ({"step_s": 0}, "expected a cap above 0, got 0 - at `step_s`"),
        ({"processes": 1.5}, "expected a whole number, got 1.5 - at `processes`"),
        ({"step_s": float("nan")}, "expected a cap above 0"),
    ],
)
def test_a_cap_that_caps_nothing_is_refused(given: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Hub(caps=given)
    with pytest.raises(UsageError, match=message):
        envhub.make("probe", envs=PROBES, caps=given)


def test_caps_are_written_with_units() -> None:
    written = ["memory_bytes=512M", "session_memory_bytes=1.5G", "step_s=2.5", "processes=8"]

    assert caps.parse(written) == {
        "memory_bytes": 512 * MIB,
        "session_memory_bytes": 1536 * MIB,
        "step_s": 2.5,
        "processes": 8,
    }


@pytest.mark.parametrize("text", ["step_s", "step_s=", "step_s=1h", "step_s=-1", "=1"])
def test_a_cap_that_is_written_otherwise_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        caps.parse([text])


async def test_a_session_shows_the_limits_in_force_and_meets_them() -> None:
    async with Hub(PROBES, caps={"output_bytes": 1000}) as hub, hub.session("probe") as session:
        assert session.limits["output_bytes"] == 1000
        assert (session.limits["processes"], session.limits["step_s"]) == (32, 30)
        await session.reset()
        with pytest.raises(LimitExceeded, match="allowed 1000 B"):
            await session.step({"code": "print('x' * 2000); import time; time.sleep(600)"})


def test_hubs_with_other_caps_are_others() -> None:
    with (
        envhub.make("probe", envs=PROBES) as free,
        envhub.make("probe", envs=PROBES, caps={"processes": 20}) as capped,
    ):
        assert (free.limits["processes"], capped.limits["processes"]) == (32, 20)
        capped.reset()
        code = "import resource; result = {'n': resource.getrlimit(resource.RLIMIT_NPROC)[0]}"
        assert capped.step({"code": code}).observation.n == 20
