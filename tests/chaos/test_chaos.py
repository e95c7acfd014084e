"""The chaos run, a short one: nothing leaks, nothing is wrong, every loss has a typed error."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos import cell
from tests.chaos.models import Act, Chain, Coding, Probe
from tests.chaos.tally import Tally
from tests.serving import ROOT

SEED = 5


@pytest.mark.timeout(600)
def test_a_server_under_load_survives_the_monkey(tmp_path: Path) -> None:
    if why := cell.missing():
        pytest.skip(why)
    report = tmp_path / "report.json"
    words = ["--seed", str(SEED), "--minutes", "0.3", "--sessions", "40"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", *words, "--report", str(report)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )

    assert done.returncode == 0, done.stdout
    found = json.loads(report.read_text())
    assert (found["violations"], found["wrong"]) == ([], 0)
    assert found["right"] > 500
    assert found["monkey"]["SIGKILL of the hub"] == 1
    assert found["monkey"]["SIGKILL of a session"] > 0


def test_the_models_would_see_a_wrong_observation() -> None:
    """What checks everything is checked: it must be able to complain."""
    import random

    from envhub.results import Record, StepResult

    chance = random.Random(0)
    wrong = StepResult(Record(digest="0", steps=1, stdout="0\n", exit_code=0, said="0"), 1.0)
    for model in (Chain(), Coding(), Probe()):
        model.begin(0)
        act = model.act(chance)
        while act.failures:
            act = model.act(chance)
        assert model.stepped(act, wrong, "")
    silent = Act({}, "exit", ("WorkerLost",))
    assert "ended well" in Probe().stepped(silent, wrong, "")


def test_a_tally_outlives_its_program() -> None:
    one, both = Tally(), Tally()
    one.right("step")
    one.escaped(ValueError("x"))
    both.add(json.loads(json.dumps(one.as_dict())))
    both.add(one.as_dict())

    assert both.counts["right"] == 2
    assert len(both.wrong) == 2
