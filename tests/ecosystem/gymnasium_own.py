"""Run Gymnasium's own tests of vector environments, on its environments and on ours.

    python -m tests.ecosystem.gymnasium_own FOLDER_OF_GYMNASIUMS_REPOSITORY

Prints what passes, and in what ours differ. The tests are taken as they are: a plugin of pytest
puts `envhub.make_vec` in the place of `SyncVectorEnv`, then of `AsyncVectorEnv`. Tests count
that have made one of ours, if they pass on those of Gymnasium.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as Xml
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from tests.ecosystem.installed import python_with_us
from tests.serving import ROOT

HERE = Path(__file__).parent
FILES = ("tests/vector", "tests/wrappers/vector")
PLACES = ("SyncVectorEnv", "AsyncVectorEnv")
NEEDED = ("gymnasium[classic-control]", "scipy", "dill", "array-api-extra",
          "array-api-compat", "moviepy")  # fmt: skip
# a test, and why it does not fit
_SIZES = "values of no fixed size do not fit into shared memory"
_DIFFER = "environments with different spaces are `UsageError`; there is no `observation_mode`"
_ENVS = "there is no `envs`: they are in other processes"
_ASYNC = "there is no `reset_async` and its like, but `send` and `recv`"
DIFFERENT = {
    "*Graph(*": _SIZES,
    "*Text(*": _SIZES,
    "*Sequence(*": _SIZES,
    "*OneOf(*": _SIZES,
    "*_custom_space_*": _SIZES,
    "TestVectorEnvObservationModes::*": _DIFFER,
    "*::test_check_spaces_*": _DIFFER,
    "*::test_metadata_sync_vector_env": _ENVS,
    "test_normalize_reward::test_equivalence_with_wrapper": _ENVS,
    "*::test_*_timeout_async_*": _ASYNC,
    "*::test_*_out_of_order_*": _ASYNC,
    "*::test_sync_vector_determinism*": "`action_space` has a generator of its own",
    "*::test_action_count_compatibility*": "actions that do not fit are `InvalidAction`",
    "*::test_partial_reset_failure*": "errors of the same types, in words of our own",
    "*::test_already_closed_*": "what is closed is `SessionClosed`",
    "*::test_async_vector_subenv_error": "what an environment raises is `EnvironmentFailed`",
}


@dataclass(frozen=True)
class Played:
    """What came of the tests.

    Args:
        passed: by name.
        failed: by name, and why.
        ours: which have made an environment of ours.
    """

    passed: frozenset[str]
    failed: dict[str, str]
    ours: frozenset[str]


def play(python: Path, repository: Path, place: str = "") -> Played:
    """Run the tests, with ours in this place if one is named."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        plugin = ["-p", "in_gymnasiums_place"] if place else []
        path = (repository, HERE / "programs", ROOT, ROOT / "sandbox")
        ours = {
            "PYTHONPATH": ":".join(map(str, path)),
            "IN_PLACE_OF": place,
            "FOREIGN_ENVS": str(HERE / "envs"),
        }
        command: list[str | Path] = [
            python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *plugin, "--timeout", "120",
            "--junitxml", report, "--ignore", "tests/vector/utils", *FILES,
        ]  # fmt: skip
        subprocess.run(
            command, env=os.environ | ours, cwd=repository, capture_output=True, timeout=1500
        )
        return _read(report)


def _read(report: Path) -> Played:
    passed, failed, ours = set(), {}, set()
    for case in Xml.parse(report).iter("testcase"):
        name = f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name')}"
        wrong = case.find("failure")
        if wrong is None:
            wrong = case.find("error")
        if wrong is not None:
            failed[name] = wrong.get("message", "").partition("\n")[0]
        elif case.find("skipped") is None:
            passed.add(name)
        made = case.find("properties/property[@name='ours']")
        if made is not None and int(made.get("value", "0")):
            ours.add(name)
    return Played(frozenset(passed), failed, frozenset(ours))


def reason(name: str) -> str:
    """Return why a test does not fit; "" if nothing is known."""
    return next((why for what, why in DIFFERENT.items() if fnmatchcase(name, what)), "")


def main(repository: Path) -> None:
    python = python_with_us(*NEEDED)
    stock = play(python, repository)
    print(f"Gymnasium's: {len(stock.passed)} passed, {len(stock.failed)} failed")
    for place in PLACES:
        found = play(python, repository, place)
        whom = found.ours & stock.passed
        failed = sorted(whom & found.failed.keys())
        print(f"{place}: {len(whom & found.passed)} of {len(whom)} passed")
        for name in failed:
            print(f"  {name}: {reason(name) or found.failed[name]}")


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
