"""What a case is: bytes sent in the middle of an honest conversation, and what must follow."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from tests.door.websocket.peer import CUT, Talk

BOTH = ("openenv", "native")
Parts = Callable[[Talk], Iterable[bytes]]


@dataclass(frozen=True)
class Case:
    """A case.

    Args:
        name: what the client does.
        section: that decides it, of RFC 6455 unless it says another.
        parts: what it sends, each part by itself. Taken from the talk, which knows by
            `ask` and `sized` what must be answered.
        codes: with which the server may close; none if it must not. CUT: without any.
        pongs: all that must come back, if the server answers each ping. It need not (5.5.3):
            those to earlier ones may be missing.
        lanes: for which it is one.
        is_free: the RFC leaves it to the server whether it closes at all.
    """

    name: str
    section: str
    parts: Parts
    codes: tuple[int, ...] = ()
    pongs: tuple[bytes, ...] = ()
    lanes: tuple[str, ...] = BOTH
    is_free: bool = False


def good(name: str, section: str, parts: Parts, *, pongs: Iterable[bytes] = ()) -> Case:
    """Return a case that is right: everything is answered, and the conversation goes on."""
    return Case(name, section, parts, pongs=tuple(pongs))


def bad(name: str, section: str, parts: Parts, *codes: int) -> Case:
    """Return a case that breaks the protocol: by default 1002, then the end."""
    return Case(name, section, parts, codes or (1002,))


def free(name: str, section: str, parts: Parts, *codes: int) -> Case:
    """Return a case that may be taken as right, or closed with one of the codes."""
    return Case(name, section, parts, codes or (1002,), is_free=True)


def each(values: Iterable[Any], make: Callable[..., Case]) -> list[Case]:
    """Return a case for each value; one that is a tuple is several arguments."""
    return [make(*value) if isinstance(value, tuple) else make(value) for value in values]


def only(way: str, *cases: Case) -> list[Case]:
    """Return the cases, for one of the two lanes."""
    return [replace(case, lanes=(way,)) for case in cases]


def play(case: Case, talk: Talk) -> None:
    """Have a case on a connection, and judge what follows."""
    began = len(talk.expected)
    talk.say(case.parts(talk))
    if case.is_free:
        talk.say([talk.asking("is there anybody?")])
        talk.listen()
    if case.codes and (not case.is_free or talk.peer.closed_with is not None):
        code = talk.end()
        said = f"{case.section}: expected one of {case.codes}, got {code}"
        assert code in case.codes, said + (" (no close frame)" if code == CUT else "")
        return
    talk.listen(pongs=bool(case.pongs))
    if case.pongs:
        _are_pongs_right(talk, case.pongs)
    talk.say([talk.asking("and on it goes")])
    talk.listen()
    assert talk.answered[began:] == talk.expected[began:], case.section
    assert talk.close() == 1000, "7.1.1: the conversation did not end well"


def _are_pongs_right(talk: Talk, sent: tuple[bytes, ...]) -> None:
    """Take pongs until the last ping has its own; those to earlier ones may be missing."""
    while talk.pongs[-1] != sent[-1] or len(talk.pongs) > len(sent):
        before = len(talk.pongs)
        talk.listen(pongs=before + 1)
        assert len(talk.pongs) > before, f"5.5.3: no answer to a ping, but {talk.pongs}"
    remaining = iter(sent)
    assert all(pong in remaining for pong in talk.pongs), f"5.5.3: {talk.pongs}"
