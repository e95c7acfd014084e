"""The benchmarks of a server run beside OpenEnv's. No time is asserted."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import peers, remote, report, sessions, storm
from envhub.errors import BuildFailed
from envhub.hub.environments import build, openenv

REPOSITORY = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module", autouse=True)
def _openenv() -> None:
    try:
        for folder in (peers.OPENENV_ECHO, peers.OPENENV_WAIT):
            build.python_for(openenv.read(folder))
    except BuildFailed as error:
        pytest.skip(f"OpenEnv cannot be installed: {error}")


def measured(name: str, path: Path) -> dict[str, Any]:
    line = [sys.executable, "-m", "bench", name, "--quick", "--json", str(path)]
    done = subprocess.run(line, cwd=REPOSITORY, capture_output=True, text=True, timeout=600)

    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = report.read(path)["benchmarks"][name]
    assert found["error"] == ""
    return found


def medians(found: dict[str, Any]) -> dict[str, float]:
    return {figure["name"]: figure["median"] for figure in found["figures"]}


def test_a_server_is_measured_beside_openenv_s(tmp_path: Path) -> None:
    found = measured("remote", tmp_path / "run.json")
    figures = medians(found)
    for pair in remote.PAIRS:
        assert figures[f"{pair.name}: rate"] > 0
        server, processes, client = (
            figures.get(remote.processor_time(pair.name, who), 0) for who in remote.PROGRAMS
        )
        assert server > 0
        assert client > 0
        is_ours = pair.environment not in {"", remote.WEBSOCKET}
        assert (processes > 0) is is_ours  # nobody else's sessions have processes
    targets = [figure["target"] for figure in found["figures"] if figure["target"]]
    assert targets == [4, 8, 10, 4, 8, 10, 40, 40, 2, 4, 2, 4, 6, 8, 6, 8]


def test_more_and_more_sessions_are_measured_beside_openenv_s(tmp_path: Path) -> None:
    found = measured("sessions", tmp_path / "run.json")
    figures = medians(found)
    for name in (sessions.STOCK, sessions.FOLDER, sessions.ECHO, sessions.OURS):
        for at in ("1 session", "16 sessions"):
            assert figures[f"{at}, {name}: {sessions.RATE}"] > 0
            assert figures[f"{at}, {name}: refused"] == 0
        assert [at for at, _ in found["series"][f"{sessions.P99}: {name}"]] == [1, 16]


def test_a_storm_is_measured_beside_openenv_s(tmp_path: Path) -> None:
    figures = medians(measured("storm", tmp_path / "run.json"))
    for name in (storm.STOCK, storm.OURS):
        assert figures[f"32 at once, {name}: success"] == 100
        assert figures[f"32 at once, {name}: p99 of the whole"] > 1  # its step sleeps for one


def test_a_soak_says_what_is_left_behind(tmp_path: Path) -> None:
    figures = medians(measured("soak4096", tmp_path / "run.json"))
    for what in ("descriptors", "processes", "threads"):
        assert figures[f"16 sessions: {what} left behind"] == 0
    assert figures["16 sessions: refused"] == 0


def test_sessions_step_together_where_ray_is_not_installed_too(tmp_path: Path) -> None:
    found = measured("actors", tmp_path / "run.json")

    assert medians(found)["64 in lockstep, envhub, strict"] > 0
