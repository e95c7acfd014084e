"""Every attack of the table in the tiers below strict: what each claims, and no more.

What a tier does not claim must work in it. So `NOT_CLAIMED`, which docs/security.md repeats,
can neither boast nor grow stale.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import envhub_sandbox
from envhub_sandbox import Bind, Grade, landlock
from envhub_sandbox.tiers import FENCED, VARIANTS
from tests.sandbox.alone import DEADLINE_S, Zygote, launchers
from tests.sandbox.attack import DAEMON, PRELUDE, Attack
from tests.sandbox.table import ATTACKS

ROOT = str(Path(__file__).parents[2])
PACKAGE = str(Path(envhub_sandbox.__path__[0]).parent)
_SHARED = (
    "the password file",  # that it is there, and how large; not what is in it
    "knowing a parent",
    "knowing the host's name",
    "a signal to everybody",  # the kernel says yes and reaches nobody: see the test below
    "a full disk",
    "many files",
    "many files in /tmp",
    "a full /tmp",
)
NOT_CLAIMED: dict[str, tuple[str, ...]] = {
    "standard": (),
    "uid": _SHARED,
    "landlock": (
        *_SHARED,
        "40 processes",  # counted for each user; the hub's watchdog counts them by session
        "40 dead processes",
        "more processes than allowed",
        *(("being root",) if os.geteuid() == 0 else ()),  # by name, without its powers
    ),
}
GRADES = [
    grade
    for tier in ("standard", *FENCED)
    for grade in VARIANTS[tier]
    if tier != "uid" or os.geteuid() == 0
]

pytestmark = pytest.mark.skipif(landlock.version() < 6, reason="needs Linux 6.12's Landlock")


def named(grade: Grade) -> str:
    """What a test's name says of a grade."""
    without = " and ".join(grade.missing)
    return f"{grade.tier}, without {without}" if grade.tier == "standard" else grade.tier


@pytest.fixture(scope="module", params=GRADES, ids=named)
def grade(request: pytest.FixtureRequest) -> Grade:
    chosen: Grade = request.param
    return chosen


@pytest.fixture(scope="module")
def low(grade: Grade, shown: Bind) -> Iterator[Zygote]:
    """A zygote of one grade that all tests share."""
    with Zygote(launchers()[-1], grade=grade, extra=(shown,)) as zygote:
        yield zygote


@pytest.fixture
def given(
    grade: Grade, given_inside: dict[str, Any], targets: dict[str, Any]
) -> dict[str, Any]:
    """Where an attack finds things: without namespaces, where they are on the host."""
    if grade.namespaces:
        return given_inside
    own = {"scratch": ".", "tmp": ".", "shm": "/dev/shm", "shown": targets["shown"]}
    return {**given_inside, **own}


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: a.name)
def test_a_tier_stops_what_it_claims_to_stop(
    low: Zygote, grade: Grade, attack: Attack, given: dict[str, Any]
) -> None:
    ended = low.run(PRELUDE + attack.code, **given)

    assert ended.worked is (attack.name in NOT_CLAIMED[grade.tier]), ended


def test_a_signal_to_everybody_reaches_nobody(
    low: Zygote, given: dict[str, Any], victim: int
) -> None:
    """Its executioner, the zygote, the neighbour and we live on."""
    with low.session("say('up'); hear()") as neighbour:
        assert neighbour.hear() == "up"
        ended = low.run("import os\ntry: os.kill(-1, 9)\nexcept ProcessLookupError: pass")
        assert not neighbour.is_gone()

    assert ended.worked
    os.kill(victim, 0)


def test_what_hides_from_its_parent_ends_with_the_session(low: Zygote) -> None:
    """A daemon's end is the end of the pipe that it holds."""
    with low.session(DAEMON) as session:
        assert session.hear() == "daemon"
        session.kill()
        ended = session.wait()  # reads its output to the end

    assert ended.verdict.cause == "closed"


def test_a_session_finds_nothing_of_the_one_before(low: Zygote) -> None:
    mark = "import tempfile\nfor at in ('.', tempfile.gettempdir()): open(f'{at}/m', 'w')"
    look = (
        "import os, tempfile\n"
        "for at in ('.', tempfile.gettempdir()): assert not os.path.exists(f'{at}/m')"
    )

    assert low.run(mark).worked
    after = low.run(look)
    assert after.worked, after


@pytest.mark.parametrize("tier", FENCED)
def test_the_folder_of_a_sandbox_goes_with_it(tier: str, shown: Bind) -> None:
    if tier == "uid" and os.geteuid() != 0:
        pytest.skip("only root can be other users")
    hidden = "import os\nos.makedirs('a/b')\nopen('a/b/c', 'w')\nsay('made')\nhear()"
    grade = Grade(tier)  # type: ignore[arg-type]
    with Zygote(launchers()[-1], grade=grade, extra=(shown,)) as zygote:
        folder = zygote.launched.folder
        assert os.path.isdir(folder)
        with zygote.session(hidden) as session:
            assert session.hear() == "made"

    assert not os.path.exists(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be other users")
def test_no_two_sandboxes_share_their_users(shown: Bind) -> None:
    first, second = (
        Zygote(launchers()[-1], grade=Grade("uid"), extra=(shown,)) for _ in range(2)
    )
    with first, second:
        users = [
            {zygote.run("import os\nprint(os.getuid())").printed for _ in range(3)}
            for zygote in (first, second)
        ]

    assert [len(found) for found in users] == [3, 3]
    assert not users[0] & users[1]


FEW_DESCRIPTORS = f"""
import os, sys
sys.path[:0] = [{ROOT!r}, {PACKAGE!r}]
from envhub_sandbox import Grade
from tests.sandbox.alone import Zygote
for _ in range(5):
    with Zygote("built-in", grade=Grade(sys.argv[1])) as zygote:
        print(zygote.run("print('ran')").worked)
    os.open(os.devnull, os.O_RDONLY)
"""


@pytest.mark.parametrize("tier", FENCED)
def test_a_sandbox_is_built_whatever_the_numbers_of_its_descriptors(tier: str) -> None:
    """An owner with few open hands a zygote a low one, with gaps around it."""
    if tier == "uid" and os.geteuid() != 0:
        pytest.skip("only root can be other users")
    ran = subprocess.run(
        [sys.executable, "-c", FEW_DESCRIPTORS, tier],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )

    assert ran.stdout.split() == ["True"] * 5
