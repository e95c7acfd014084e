"""The benchmarks run and write what the page and the comparison read. No time is asserted."""

import asyncio
import io
import json
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
from rich.console import Console

from bench import cartpole, hostile, page, report
from bench.figures import Group, percentile
from bench.goals import GOALS
from bench.ticks import ticks

REPOSITORY = Path(__file__).parents[2]
SUMMARY = {"name", "unit", "n", "median", "min", "max", "p99", "target", "met", "note"}
FOUND = {"purpose", "load", "contention", "took_s", "error", "figures", "series", "absent"}


def bench(*arguments: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "bench", *arguments]
    return subprocess.run(
        line, cwd=REPOSITORY, capture_output=True, text=True, timeout=timeout_s
    )


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "run.json"
    done = bench("imports", "descriptors", "--quick", "--json", str(path))

    assert done.returncode == 0, done.stdout + done.stderr
    assert "a bare interpreter" in done.stdout
    return path


def test_a_run_states_its_machine_and_every_figure_its_unit_and_spread(quick: Path) -> None:
    run = json.loads(quick.read_text())

    assert run["format"] == report.FORMAT
    assert run["quick"] is True
    assert run["machine"].keys() >= {"cpu", "cores", "kernel", "python", "launcher"}
    assert run["benchmarks"].keys() == {"imports", "descriptors"}
    for found in run["benchmarks"].values():
        assert found.keys() == FOUND
        assert found["error"] == ""
        for figure in found["figures"]:
            assert figure.keys() >= SUMMARY
            assert figure["unit"]
            assert figure["min"] <= figure["median"] <= figure["max"]


def test_a_session_holds_as_few_descriptors_as_promised(quick: Path) -> None:
    run = json.loads(quick.read_text())

    assert all(f["met"] is not False for f in run["benchmarks"]["descriptors"]["figures"])


def test_neighbours_are_measured_beside_every_kind_of_harm(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    done = bench("neighbours", "--quick", "--json", str(path))

    assert done.returncode == 0, done.stdout + done.stderr
    run = report.read(path)
    found = run["benchmarks"]["neighbours"]
    names = [figure["name"] for figure in found["figures"]]
    for kind in (*hostile.KINDS.values(), "mix of all"):
        assert f"{kind}: one step" in names
        assert f"{kind} ÷ quiet: p99 of a step" in names
        assert len(found["series"][kind]) == 2
    targets = [figure["name"] for figure in found["figures"] if figure["target"]]
    assert targets == [
        "mix of all ÷ quiet: p99 of a step",
        "at full speed, mix of all ÷ quiet: p99 of a step",
    ]


def test_cartpole_is_measured_beside_everybody_who_is_installed(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    done = bench("cartpole", "--quick", "--json", str(path))

    assert done.returncode == 0, done.stdout + done.stderr
    found = report.read(path)["benchmarks"]["cartpole"]
    names = {figure["name"] for figure in found["figures"]}
    for way in cartpole.WAYS:  # all of Gymnasium's ways, and each library or why it is absent
        is_there = f"CartPole, 64 at once, {way.name}" in names
        assert is_there is (way.name not in found["absent"])
        assert is_there or (way.library and found["absent"][way.name])
    targets = [figure["target"] for figure in found["figures"] if figure["target"]]
    assert {14.0, 1.8} <= set(targets)


async def test_ticks_are_told_when_they_were_due() -> None:
    due: list[float] = []
    begun = time.perf_counter()
    enough = asyncio.Event()

    def tick(at: float) -> None:
        due.append(at)
        if len(due) == 50:
            enough.set()

    with ticks(0.001, tick):
        await asyncio.wait_for(enough.wait(), 30)

    assert begun < due[0]
    assert [round(b - a, 6) for a, b in pairwise(due)] == [0.001] * (len(due) - 1)


def test_a_run_is_compared_with_an_earlier_one(quick: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.json"
    done = bench("imports", "--quick", "--json", str(again), "--compare", str(quick))

    assert done.returncode in {0, 3}  # a busy moment may be worse than the one before
    assert "now ÷ earlier" in done.stdout


@pytest.mark.parametrize(
    ("unit", "target", "at_least", "factor", "is_worse"),
    [
        ("ms", None, False, 1.3, True),
        ("ms", None, False, 1.05, False),
        ("ms", None, False, 0.5, False),
        ("steps/s", None, False, 0.7, True),
        ("steps/s", None, False, 2.0, False),
        ("ratio", None, False, 3.0, False),
        ("ratio", 8.0, True, 0.5, True),
        ("ratio", 3.0, False, 2.0, True),
    ],
)
def test_what_has_become_worse_is_said(
    quick: Path, unit: str, target: float | None, at_least: bool, factor: float, is_worse: bool
) -> None:
    runs = []
    for scale in (1.0, factor):
        group = Group()
        samples = [scale * one for one in (10.0, 10.1, 10.2)]
        group.add("it", unit, samples, target, at_least=at_least)
        run = report.read(quick)
        run["benchmarks"] = {"steps": {"figures": [one.as_dict() for one in group.figures]}}
        runs.append(run)
    earlier, now = runs
    said = io.StringIO()

    assert report.print_comparison(Console(file=said), now, earlier) == ["steps: it"] * is_worse
    assert ("worse: steps: it" in said.getvalue()) is is_worse


def test_spreads_that_overlap_are_not_worse(quick: Path) -> None:
    runs = []
    for samples in ([1.0, 2.0, 9.0], [1.5, 4.0, 9.0]):
        group = Group()
        group.add("it", "ms", samples)
        run = report.read(quick)
        run["benchmarks"] = {"steps": {"figures": [one.as_dict() for one in group.figures]}}
        runs.append(run)

    assert report.print_comparison(Console(file=io.StringIO()), runs[1], runs[0]) == []


def test_a_file_that_is_no_run_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text("{}")
    done = bench("imports", "--compare", str(path))

    assert done.returncode == 2
    assert "is no run of these benchmarks" in done.stderr


def test_an_unknown_benchmark_is_refused() -> None:
    assert bench("improts").returncode == 2


def test_every_figure_stands_in_the_table_of_the_page(quick: Path) -> None:
    run = report.read(quick)
    found = run["benchmarks"]["descriptors"]
    table, promises = page.table(found, run), page.promises([run])

    assert run["machine"]["kernel"] in table
    assert "| descriptors: plain session (echo) | 3 descriptors | ≤ 4 | met |" in promises
    assert all(f"| {figure['name']}" in table for figure in found["figures"])


def test_what_was_not_measured_again_stays_on_the_page(quick: Path) -> None:
    before = """<!-- promises -->

| figure | median | target | |
|---|---:|---:|---|
| kill: 64-process bomb | 12.6 ms | ≤ 20 | met |
| descriptors: plain session (echo) | 5 descriptors | ≤ 4 | **missed** |

<!-- end -->
"""
    rows = page.promises([report.read(quick)], before).splitlines()

    assert rows[2] == "| kill: 64-process bomb | 12.6 ms | ≤ 20 | met |"
    assert "| descriptors: plain session (echo) | 3 descriptors | ≤ 4 | met |" in rows
    assert len([row for row in rows if "plain session (echo)" in row]) == 1


def test_a_goal_stands_in_the_first_table_and_in_no_other(quick: Path) -> None:
    run = report.read(quick)
    first, *_ = goals = [goal for goal in GOALS if goal.benchmark == "cartpole"]
    group = Group()
    for goal in goals:
        group.add(goal.figure, "ratio", [14.5], 14.0, at_least=True)
    group.add("another", "ms", [3.0], 2.0)
    run["benchmarks"] = {
        "cartpole": {"figures": [figure.as_dict() for figure in group.figures]}
    }
    table, promises = page.goals([run]), page.promises([run])

    row = f"| {first.what} | {first.against} | 14.5\N{MULTIPLICATION SIGN} | ≥ 14 | met |"
    assert row in table.splitlines()
    assert len(table.splitlines()) == len(GOALS) + 2
    assert len(set(table.splitlines())) == len(GOALS) + 2
    assert "at once" not in promises
    assert "| cartpole: another | 3 ms | ≤ 2 | **missed** |" in promises
    kept = page.goals([], f"<!-- goals -->\n\n{table}\n\n<!-- end -->")
    assert kept == table


def test_a_quick_run_does_not_come_on_the_page(
    quick: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert page.main([str(quick)]) == 2
    assert "says nothing" in capsys.readouterr().err


def test_the_percentile_is_a_sample_that_was_taken() -> None:
    samples = [float(n) for n in range(1, 201)]

    assert percentile(samples, 50) == 100.0
    assert percentile(samples, 99) == 198.0
    assert percentile([7.0], 99) == 7.0


def test_a_ratio_is_taken_pair_by_pair() -> None:
    group = Group()
    group.add_ratio("a ÷ b", [2.0, 30.0], [1.0, 10.0])

    assert group.figures[0].samples == [2.0, 3.0]


def test_a_promise_may_be_to_stay_at_or_above(quick: Path) -> None:
    group = Group()
    for name, samples in (("more", [8.0, 9.0, 9.5]), ("less", [7.0, 7.5, 9.0])):
        group.add(name, "ratio", samples, 8.0, at_least=True)
    found = {
        "load": 1.0, "contention": [1.0, 1.0], "took_s": 1.0,
        "figures": [figure.as_dict() for figure in group.figures],
    }  # fmt: skip
    table = page.table(found, report.read(quick))

    assert "| more | ratio | 3 | 9 [8..9.50] | 9.50 | ≥ 8 | met |" in table
    assert "| less | ratio | 3 | 7.50 [7..9] | 9 | ≥ 8 | **missed** |" in table


def test_a_figure_without_samples_is_an_error() -> None:
    with pytest.raises(ValueError, match="no sample"):
        Group().add("nothing", "ms", [])
