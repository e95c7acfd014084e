"""Every case of the corpus, replayed against one hub: a few seconds for all of them.

A case with a `bug` fails today. It is replayed with ENVHUB_FUZZ_BUGS=1, by a hub of its own;
when that says XPASS, the bug is mended: take the `bug` out of the case's file.
"""

from __future__ import annotations

import os
from contextlib import closing

import pytest

from envhub.wire.messages import Observed
from tests.fuzz.arena import Arena
from tests.fuzz.cases import OP, Case, Die, Mute, Send, corpus, frame
from tests.fuzz.known import known
from tests.fuzz.play import play

CASES = dict(corpus())
WELL = {name: case for name, case in CASES.items() if not case.bug}
BUGS = {name: case for name, case in CASES.items() if case.bug}


def complaints(arena: Arena, case: Case) -> list[str]:
    """What is wrong; a bug that is known excuses every case but its own."""
    for _ in range(case.times):
        played = play(arena, case)
        if played.complaints and (case.bug or not known(played)):
            return played.complaints
    return []


def test_an_honest_environment_is_heard() -> None:
    """The control of all that follow: each shell, and no complaint."""
    with closing(Arena()) as arena:
        for where in ("session", "make", "websocket", "http"):
            assert play(arena, Case("nothing", where)).complaints == []
        played = play(arena, Case("nothing", "zygote", "loop"))

    assert (played.word, played.complaints) == ("accepted", [])


def test_the_corpus_ends_as_the_protocol_says_and_harms_nobody() -> None:
    arena = Arena()
    seen = {name: complaints(arena, case) for name, case in WELL.items()}
    left = arena.close()

    assert {name: texts for name, texts in seen.items() if texts} == {}
    assert left == []


def test_a_process_may_die_at_every_byte_of_its_reply() -> None:
    whole = frame(Observed(OP, b"\x81\xa1a\x01", 1.0)).hex
    seen: dict[int, tuple[str, list[str]]] = {}
    arena = Arena()
    for at in range(len(whole) // 2 + 1):
        last = Mute() if at == len(whole) // 2 else Die()
        case = Case("a cut reply", program=(Send(hex=whole[: 2 * at]), last))
        played = play(arena, case)
        seen[at] = (played.word, played.complaints)
    arena.close()

    assert seen.pop(len(whole) // 2) == ("accepted", [])
    assert set(map(str, seen.values())) == {str(("exited", []))}


@pytest.mark.skipif("ENVHUB_FUZZ_BUGS" not in os.environ, reason="known to fail, and slow")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a dead hub's
@pytest.mark.parametrize("name", BUGS)
def test_a_bug_that_is_known(name: str, request: pytest.FixtureRequest) -> None:
    request.applymarker(pytest.mark.xfail(reason=BUGS[name].bug, strict=True))
    arena = Arena(settle_s=1.0)
    found = complaints(arena, BUGS[name])
    found += arena.close()

    assert found == []
