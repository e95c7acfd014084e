"""Each check finds what it is there for, and only that: environments with one thing wrong."""

from __future__ import annotations

import os
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import anyio
import pytest

from envhub import Hub
from envhub.check import conformance, junit
from envhub.check.conformance import IDS
from envhub.check.result import Report, own_frames
from envhub.check.subject import Plan
from envhub.errors import UsageError
from tests.conftest import ENVS

BROKEN = Path(__file__).parent / "envs" / "broken.py"
PLAN = Plan(steps=3, episodes=6, sessions=4)
LIMITS = {
    "TooLarge": "[limits]\nmemory_bytes = 268435456\n",
    "ClosesLate": "[deadlines]\nclose_s = 0.05\n",
}
ONE_WRONG = [
    ("WrongSchema", "schemas", "state: $.properties.at: `#/$defs/Nowhere` refers to nothing"),
    ("Ends", "answers", "WorkerLost"),
    ("Refuses", "actions", "actions that fit its schema were refused"),
    ("SendsMore", "observations", "step 1: $: `left` is not in the schema"),
    ("NoText", "forms", "no form in JSON"),
    ("Varies", "seeds", "two fresh sessions; step 1: $.observation.text: "),
    ("Keeps", "reset", '`"1 steps"` fresh, `"5 steps"` after a reset'),
    ("NeedsReset", "before-reset", "`step` ended the process"),
    ("NeedsOptions", "options", "`reset` ended the process"),
    ("Shares", "concurrency", '`"1 open"` alone, `"4 open"` beside others'),
    ("LeaksDescriptors", "leaks", "grows: descriptors;"),
    ("TooLarge", "limits", "memory_bytes: "),
    ("ClosesLate", "close", "`close`"),
]
AT_ONCE = 4


def write(folder: Path, environment: str) -> None:
    """Make the folder an environment: one class of broken.py."""
    folder.chmod(0o755)
    shutil.copy(BROKEN, folder / "broken.py")
    manifest = f'name = "broken"\nentry = "broken:{environment}"\n'
    (folder / "env.toml").write_text(manifest + LIMITS.get(environment, ""))


async def checked(
    folder: Path, environment: str, *, only: tuple[str, ...] = (), skip: tuple[str, ...] = ()
) -> Report:
    """Check one class of broken.py."""
    write(folder, environment)
    return await conformance.run(lambda: Hub(folder), "broken", PLAN, only=only, skip=skip)


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Report]:
    """All checks of each, a few environments at a time: most of it is waiting."""
    found: dict[str, Report] = {}

    async def one(environment: str, places: anyio.CapacityLimiter) -> None:
        async with places:
            folder = tmp_path_factory.mktemp(environment)
            found[environment] = await checked(folder, environment)

    async def all_of_them() -> None:
        places = anyio.CapacityLimiter(AT_ONCE)
        async with anyio.create_task_group() as tasks:
            for environment in ("NoSeed", "Ignores", *(row[0] for row in ONE_WRONG)):
                tasks.start_soon(one, environment, places)

    anyio.run(all_of_them, backend_options={"use_uvloop": True})
    return found


def by_status(report: Report, status: str) -> list[str]:
    return [r.id for r in report.results if r.verdict.status == status]


async def test_one_with_nothing_wrong_passes_every_check(tmp_path: Path) -> None:
    report = await checked(tmp_path, "Right")

    async with Hub(tmp_path) as hub, hub.session("broken", schema=report.about["schema"]):
        pass  # the digest is one that a client can pin

    assert by_status(report, "passed") == list(IDS)
    assert report.ok


def test_so_does_one_that_takes_no_seed_where_that_matters(
    reports: dict[str, Report],
) -> None:
    report = reports["NoSeed"]

    assert by_status(report, "failed") == []
    assert by_status(report, "not applicable") == ["seeds", "seeds-matter"]


@pytest.mark.parametrize(("environment", "check", "seen"), ONE_WRONG)
def test_what_is_wrong_fails_its_check_and_no_other(
    reports: dict[str, Report], environment: str, check: str, seen: str
) -> None:
    report = reports[environment]
    failed = {r.id: r.verdict for r in report.results if r.verdict.status == "failed"}

    assert list(failed) == [check], failed
    assert seen in failed[check].seen
    assert failed[check].advice
    assert by_status(report, "warning") == []


@pytest.mark.parametrize(
    ("environment", "check", "seen"),
    [
        ("Raises", "answers", "not one of 9 steps was taken"),
        ("VariesByStart", "seeds", "two starts of its sandbox; step 1: $.observation.text: "),
        ("LeaksThreads", "leaks", "grows: threads;"),
        ("LeaksMemory", "leaks", "grows: memory;"),
        ("LeaksProcesses", "leaks", "grows: processes;"),
        ("CloseRaises", "close", "`close` raised: cannot close"),
    ],
)
async def test_more_that_these_checks_find(
    tmp_path: Path, environment: str, check: str, seen: str
) -> None:
    report = await checked(tmp_path, environment, only=(check,))
    (failed,) = [r.verdict for r in report.results if r.verdict.status == "failed"]

    assert seen in failed.seen


def test_a_seed_that_is_ignored_is_a_warning_only(reports: dict[str, Report]) -> None:
    report = reports["Ignores"]

    assert by_status(report, "warning") == ["seeds-matter"]
    assert report.ok


@pytest.mark.skipif(os.geteuid() != 0, reason="tier uid is root's")
async def test_a_leak_is_seen_behind_a_guardian_too(tmp_path: Path) -> None:
    """In tier uid the process that the hub knows is not the environment's."""
    write(tmp_path, "LeaksDescriptors")
    report = await conformance.run(
        lambda: Hub(tmp_path, isolation="uid", exactly=True), "broken", PLAN, only=("leaks",)
    )

    assert report.about["isolation"] == "uid"
    assert "grows: descriptors;" in report.results[-1].verdict.seen


async def test_what_does_not_start_fails_once_with_its_last_words(tmp_path: Path) -> None:
    report = await checked(tmp_path, "NobodysClass")
    first, *others = report.results

    assert first.verdict.status == "failed"
    assert "NobodysClass" in "\n".join(first.verdict.details)
    assert {r.verdict.seen for r in others} == {"it does not start"}


def test_of_a_traceback_the_author_s_frames_are_shown() -> None:
    theirs = ['  File "/mine/env.py", line 3, in step', "    1 / 0", "ZeroDivisionError: x"]
    ours = [
        "Traceback (most recent call last):",
        '  File "/opt/envhub/envhub/x.py", line 1, in x',
    ]

    assert own_frames("\n".join([*ours, "    step()", *theirs])) == tuple(theirs)
    assert own_frames("no traceback") == ("no traceback",)


async def test_only_and_skip_choose(tmp_path: Path) -> None:
    only = await checked(tmp_path, "LeaksMemory", only=("before-reset",))
    skip = await checked(tmp_path, "CloseRaises", only=("close",), skip=("close",))

    assert [r.id for r in only.results] == ["start", "before-reset"]
    assert [r.id for r in skip.results] == ["start"]
    with pytest.raises(UsageError, match="no check `leks`"):
        await checked(tmp_path, "Right", skip=("leks",))


async def test_our_own_with_agent_code_passes() -> None:
    report = await conformance.run(lambda: Hub(ENVS), "coding", PLAN)

    assert by_status(report, "failed") == []


async def test_given_actions_are_played(tmp_path: Path) -> None:
    plan = Plan(steps=3, episodes=9, sessions=2, given=({"by": 9},))
    write(tmp_path, "Right")
    report = await conformance.run(lambda: Hub(tmp_path), "broken", plan, only=("actions",))

    (refused,) = [r.verdict for r in report.results if r.verdict.status == "failed"]
    assert '`{"by": 9}`' in refused.details[0]


def test_junit_says_the_same(reports: dict[str, Report]) -> None:
    report = reports["NoText"]
    suite = ElementTree.fromstring(junit.xml(report))[0]

    assert [case.get("name") for case in suite] == list(IDS)
    assert suite.get("failures") == "1"
    assert [case.get("name") for case in suite if case.find("failure") is not None] == ["forms"]
    assert [case.get("name") for case in suite if case.find("skipped") is not None] == [
        "observations"
    ]
