"""The ledger: whatever a client sends, each call is new once, and answered as it was."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envhub.door.native.ledger import Ledger
from envhub.errors import OutOfOrder
from envhub.wire.native import WINDOW, Finished, Read, Reset, State, Step


def step(op: int, acked: int, action: bytes = b"a") -> Step:
    return Step(1, op, acked, action)


def test_a_call_that_comes_again_gets_its_answer_again() -> None:
    ledger = Ledger()
    assert ledger.take(step(1, 0)) == (True, None)
    assert ledger.take(step(1, 0)) == (False, None)
    ledger.answer(Finished(1, 1))

    assert ledger.take(step(1, 0)) == (False, Finished(1, 1))
    assert ledger.take(step(2, 1)) == (True, None)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (step(4, 0), "came where 3"),
        (step(1, 0), "after its reply had been acknowledged"),
        (step(2, 1, b"b"), "as another one"),
        (State(1, 2, 1), "as another one"),
        (Reset(1, 2, 1, b"a"), "as another one"),
        (step(3, 2), "which was not given"),
        (step(3, 3), "which was not given"),
        (step(2, 2), "which was not given"),
    ],
)
def test_numbers_that_cannot_be_change_nothing(call: Step, words: str) -> None:
    ledger = Ledger()
    ledger.take(step(1, 0))
    ledger.answer(Finished(1, 1))
    ledger.take(step(2, 1))

    with pytest.raises(OutOfOrder, match=words):
        ledger.take(call)
    assert ledger.last == 2
    assert ledger.take(step(2, 1)) == (False, None)
    assert ledger.take(step(3, 1)) == (True, None)


def test_a_window_of_calls_may_be_without_an_acknowledged_reply() -> None:
    ledger = Ledger()
    for op in range(1, WINDOW + 1):
        ledger.take(step(op, 0))
    with pytest.raises(OutOfOrder, match=f"more than {WINDOW}"):
        ledger.take(step(WINDOW + 1, 0))
    ledger.answer(Finished(1, 1))

    assert ledger.take(step(WINDOW + 1, 1)) == (True, None)


@given(
    st.lists(st.tuples(st.sampled_from(["take", "answer"]), st.integers(0, 40)), max_size=80)
)
def test_what_is_kept_is_what_is_answered_and_not_acknowledged(
    events: list[tuple[str, int]],
) -> None:
    ledger, sizes, acked = Ledger(), dict[int, int](), 0
    pending: list[int] = []
    for what, number in events:
        if what == "answer" and pending:
            op = pending.pop(number % len(pending))
            sizes[op] = number
            ledger.answer(Read(1, op, b"x" * number))
        elif what == "take":
            claim = max(n for n in range(acked, ledger.last + 1) if _all_in(sizes, acked, n))
            try:
                is_new, _ = ledger.take(State(1, ledger.last + 1, claim))
            except OutOfOrder:
                continue
            assert is_new
            pending.append(ledger.last)
            acked = claim

    kept = {op: size for op, size in sizes.items() if op > acked}
    empty = Ledger()
    for _ in kept:
        empty.answer(Read(1, 0, b""))
    assert ledger.kept_bytes == empty.kept_bytes + sum(kept.values())


def _all_in(answered: dict[int, int], after: int, last: int) -> bool:
    return all(number in answered for number in range(after + 1, last + 1))
