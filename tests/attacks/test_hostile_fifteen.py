"""Hostile programs through the public API: none gets the reward, and nobody else notices.

Each runs in a session while a neighbour of the same worker steps and is graded. Each ends in
an outcome of its own, and has a control that shows what it would do elsewhere.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import envhub
from envhub import EmbeddedSession, StepResult
from tests.attacks.hostile import FIFTEEN, PRELUDE, READ_MEMORY, RIGHT, WRONG, Hostile
from tests.sandbox.outside import OWNER
from tests.sharing import nothing_leaks as nothing_leaks

ENVS = Path(__file__).parents[2] / "envs"
NAIVE = Path(__file__).parent / "naive.py"
HIDDEN = "candidate(0.25, 0.5, 0.75)"  # stands in the test of that task and nowhere else
CONTROL_S = 60.0


@pytest.fixture(scope="module")
def token() -> Iterator[str]:
    """A secret among the hub's environment variables, from before there is a hub."""
    made = secrets.token_hex(16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ENVHUB_TEST_SECRET", made)
        yield made


@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server.getsockname()[1]


@pytest.fixture
def given(token: str, port: int, tmp_path: Path) -> dict[str, Any]:
    """What a program is told, so that it need not search long."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    words = token
    return {
        "first": words[:8],
        "reversed_rest": words[8:][::-1],
        "port": port,
        "secret": str(secret),
        "hunt": READ_MEMORY,
        "processes": [],
        "victim": None,
    }


def adapted(hostile: Hostile, given: dict[str, Any], *, inside: bool, tmp: Path) -> str:
    """The program with what it is given, for the one place or the other."""
    here = {**given, "inside": inside}
    if "hidden tests" in hostile.name:
        here |= {"first": HIDDEN[:9], "reversed_rest": HIDDEN[9:][::-1]}
    if inside:
        here |= {"root": "/", "folders": ["/workspace", "/tmp"]}
        here |= {"processes": list(range(2, 100)), "victim": os.getpid()}
    else:
        here |= {"root": str(ENVS / "coding"), "folders": [str(tmp)]}
    return PRELUDE.format(given=here) + hostile.code


class Neighbour:
    """Another client of the same worker, on a thread of its own."""

    def __init__(self, session: EmbeddedSession) -> None:
        self._session = session
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.begun = threading.Event()
        self.seen: list[tuple[object, ...]] = []
        self.error: BaseException | None = None

    def _run(self) -> None:
        try:
            while True:
                self.seen.append(outcome(self._session.step({"code": WRONG + "print(6 * 7)"})))
                self.begun.set()
                if self._end.is_set():
                    return
        except BaseException as error:
            self.error = error
            self.begun.set()

    def __enter__(self) -> Neighbour:
        self._thread.start()
        self.begun.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()


def outcome(result: StepResult) -> tuple[object, ...]:
    """Everything of a step that is decided outside of the agent's process."""
    seen = result.observation
    return (seen.stdout, seen.exit_code, seen.cut, seen.ended, result.reward, result.done,
            result.metadata.get("grading"))  # fmt: skip


@contextmanager
def sessions(count: int) -> Iterator[list[EmbeddedSession]]:
    opened = []
    try:
        for _ in range(count):
            opened.append(envhub.make("coding", envs=ENVS))
            opened[-1].reset(task_set="basics", task="basics/0")
        yield opened
    finally:
        for session in opened:
            session.close()


@pytest.mark.parametrize("hostile", FIFTEEN, ids=lambda h: h.name)
def test_a_hostile_program_has_its_own_outcome_and_no_reward(
    hostile: Hostile, given: dict[str, Any], tmp_path: Path
) -> None:
    code = adapted(hostile, given, inside=True, tmp=tmp_path)
    with sessions(2) as (env, other):
        with Neighbour(other) as neighbour:
            result = env.step({"code": code, "timeout_s": hostile.timeout_s})
        again = outcome(env.step({"code": "print('again')"}))
        solved = env.step({"code": RIGHT})
        others = other.step({"code": RIGHT})

    seen = result.observation
    assert (seen.exit_code, seen.cut, seen.ended) == (
        hostile.exit_code, hostile.cut, hostile.ended,
    )  # fmt: skip
    assert hostile.says in seen.stdout + seen.stderr
    assert result.metadata.get("grading") == hostile.grading
    assert result.reward == (None if hostile.grading is None else 0.0)
    assert not result.done
    assert "error" not in result.metadata
    # the episode goes on, and the neighbour has noticed nothing
    assert again == ("again\n", 0, None, False, None, False, None)
    assert (solved.reward, solved.done) == (1.0, True)
    assert neighbour.error is None
    assert set(neighbour.seen) == {("42\n", 0, None, False, 0.0, False, "failed")}
    assert (others.reward, others.done) == (1.0, True)


def test_of_a_secret_in_the_hub_nothing_is_shown(
    token: str, given: dict[str, Any], tmp_path: Path
) -> None:
    """Also by what the agent's sandbox shows of itself."""
    with sessions(1) as (env,):
        seen = env.step({"code": "import os\nprint(os.environ, os.listdir('/'))"}).observation

    assert seen.exit_code == 0
    assert token not in seen.stdout


# ---------------------------------------------------------------- controls


@pytest.mark.parametrize(
    "hostile",
    [h for h in FIFTEEN if h.free in ("plain", "owner")],
    ids=lambda h: h.name,
)
def test_in_an_ordinary_process_it_would_reach_its_end(
    hostile: Hostile, given: dict[str, Any], tmp_path: Path
) -> None:
    code = adapted(hostile, given, inside=False, tmp=tmp_path)
    if hostile.free == "owner":
        shown = tmp_path / "shown"
        shown.mkdir()
        code = f"given = {{'shown': {str(shown)!r}}}\n{OWNER}\n{code}"
    ran = subprocess.run(
        [sys.executable, "-c", code],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=CONTROL_S, check=False,
    )  # fmt: skip
    for written in tmp_path.iterdir():
        if written.is_file():
            written.unlink()

    assert ran.returncode == 0, ran.stderr.decode()


@pytest.mark.parametrize("hostile", [h for h in FIFTEEN if h.free == "for ever"])
def test_in_an_ordinary_process_it_would_go_on(
    hostile: Hostile, given: dict[str, Any], tmp_path: Path
) -> None:
    code = adapted(hostile, given, inside=False, tmp=tmp_path)
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run([sys.executable, "-c", code], timeout=0.5, check=False)


def graded(kind: str, code: str) -> float | None:
    """What a naive grader gives; None when it did not live to say it."""
    lines = (ENVS / "coding" / "tasks" / "basics.jsonl").read_text().splitlines()
    test = json.loads(lines[0])["test"]
    ran = subprocess.run(
        [sys.executable, "-I", str(NAIVE), kind],
        input=json.dumps({"code": code, "test": test}),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=CONTROL_S,
        check=False, start_new_session=True,
    )  # fmt: skip
    return float(ran.stderr.splitlines()[-1]) if ran.returncode == 0 else None


NAIVELY = ("in process", "by exit code", "by pipe")


@pytest.mark.parametrize("kind", NAIVELY)
def test_a_naive_grader_tells_right_from_wrong(kind: str) -> None:
    """The control of the controls."""
    assert (graded(kind, RIGHT), graded(kind, WRONG)) == (1.0, 0.0)


@pytest.mark.parametrize(
    "hostile", [h for h in FIFTEEN if h.free in NAIVELY], ids=lambda h: h.name
)
def test_a_naive_grader_would_give_it_the_reward(
    hostile: Hostile, given: dict[str, Any], tmp_path: Path
) -> None:
    code = adapted(hostile, given, inside=False, tmp=tmp_path)

    assert graded(hostile.free, code) == 1.0


def test_a_naive_grader_would_be_killed(given: dict[str, Any], tmp_path: Path) -> None:
    (hostile,) = [h for h in FIFTEEN if h.free == "by pipe, killed"]
    code = adapted(hostile, given, inside=False, tmp=tmp_path)

    assert graded("by pipe", code) is None


def test_every_program_has_a_control() -> None:
    kinds = {"plain", "owner", "for ever", *NAIVELY, "by pipe, killed"}

    assert {hostile.free for hostile in FIFTEEN} == kinds
    assert len({hostile.name for hostile in FIFTEEN}) == len(FIFTEEN)
