"""A client in JavaScript, written from docs/protocol.md alone, against a real server."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.serving import ROOT, serving

HERE = Path(__file__).parent
ENVS = [ROOT / "envs/echo", ROOT / "envs/coding", HERE / "envs/doubling"]
NODE = shutil.which("node") or ""

pytestmark = pytest.mark.skipif(
    not NODE, reason="there is no `node`: `apt-get install nodejs` (18 or later) brings it"
)


def run(program: str, *arguments: str) -> list[dict[str, Any]]:
    """What a program of this folder prints, a JSON object on each line. It must end well."""
    command = [NODE, str(HERE / program), *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stdout
    return [json.loads(line) for line in ran.stdout.splitlines()]


def test_each_message_of_the_page_is_the_same_bytes_in_another_language() -> None:
    vectors = ROOT / "docs/protocol-vectors.json"

    (said,) = run("vectors.mjs", str(vectors))

    assert said == {"rows": len(json.loads(vectors.read_text())), "wrong": 0}


@pytest.fixture(scope="module")
def facts() -> dict[str, dict[str, Any]]:
    """What play.mjs saw, by the fact's name."""
    with serving(*map(str, ENVS)) as address:
        said = run("play.mjs", address)
    return {fact.pop("fact"): fact for fact in said}


# as play.mjs tells them, in its order
EXPECTED: dict[str, dict[str, Any]] = {
    "opened": {"environments": ["echo", "coding"], "step_s": 150},
    "reset": {"message": "seed 7", "reward": None, "isolated": True},
    "step": {"message": "hi", "reward": 2, "terminated": False},
    "describe": {
        "title": "Echo",
        "properties": ["metadata", "message"],
        "resetOptions": ["seed", "episode_id"],
    },
    "many": {"rewards": list(range(20))},
    "bill": {"calls": 23, "wall": True, "later": 23},
    "twice": {"reward": 5, "counted": 1},
    "cut": {
        "stdout": "once\n",
        "step_count": 1,
        "resent": ["resume", "step"],
        "echo_goes_on": 10,
    },
    "batch": {"rewards": [1, 2], "received": [2]},
    "cancelled": {"code": "cancelled", "verdict": "cancelled"},
    "after_cancel": {"step": "reset_needed"},
    "begun_again": {"stdout": "42\n"},
    "cancelled_waiting": {"code": "cancelled"},
    "closed": {"late": ["closed", "session_closed"]},
    "closed_running": {"code": "session_closed"},
    "array": {"dtype": "<f4", "shape": [1, 2], "numbers": [3, 1.5]},
    "parts": {
        "parts": [[2, 1, True], [4, 2, True], [8, 4, True]],
        "step_count": 1,
        "last": [8, 4],
    },
    "unknown_environment": {"code": "unknown_environment", "hint": "did you mean `echo`?"},
    "invalid_action": {"code": "invalid_action", "missing": ["message"]},
    "invalid_option": {"code": "invalid_option"},
    "too_long": {"code": "usage"},
    "out_of_order": {"code": "out_of_order", "gap": 5, "goes_on": 2},
    "end": {"ways": ["→", "←", "cut"]},
}


def test_the_client_saw_these_facts_and_no_others(facts: dict[str, dict[str, Any]]) -> None:
    assert list(facts) == list(EXPECTED)


@pytest.mark.parametrize("fact", EXPECTED)
def test_a_client_in_javascript_sees(fact: str, facts: dict[str, dict[str, Any]]) -> None:
    assert facts[fact] == EXPECTED[fact]
