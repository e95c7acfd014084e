"""The ledger: whatever a client sends, each call is new once, and answered as it was."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envhub.door.native.ledger import Ledger, Stock
from envhub.errors import OutOfOrder
from envhub.wire.native import WINDOW, Failed, Finished, Read, Reset, State, Step


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
    for op in range(1, len(kept) + 1):
        empty.take(State(1, op, 0))
        empty.answer(Read(1, op, b""))
    assert ledger.kept_bytes == empty.kept_bytes + sum(kept.values())


def _all_in(answered: dict[int, int], after: int, last: int) -> bool:
    return all(number in answered for number in range(after + 1, last + 1))


def test_few_sessions_do_not_use_up_what_all_may_hold() -> None:
    stock = Stock(10_000)
    greedy, modest = Ledger(stock), Ledger(stock)
    taken = [greedy.take(step(op, 0, b"a" * 3000)) for op in (1, 2, 3)]
    refused = taken[2][1]

    assert [is_new for is_new, _ in taken] == [True, True, False]
    assert isinstance(refused, Failed)
    assert (refused.op, refused.code) == (3, "capacity")
    assert greedy.take(step(3, 0, b"a" * 3000)) == (False, refused)
    assert modest.take(step(1, 0, b"a" * 3000)) == (True, None)
    greedy.close()
    modest.answer(Finished(1, 1))
    assert modest.take(step(2, 1)) == (True, None)
    modest.close()
    assert stock.bytes == 0


def test_no_call_begins_while_too_many_replies_are_kept() -> None:
    stock = Stock(10_000)
    ledger, other = Ledger(stock), Ledger(stock)
    for op in (1, 2, 3):
        ledger.take(State(1, op, 0))
    ledger.answer(Read(1, 1, b"x" * 6000))
    assert ledger.is_full
    assert not other.is_full
    ledger.answer(Finished(1, 2))
    ledger.answer(Finished(1, 3))

    assert ledger.take(State(1, 4, 3)) == (True, None)
    assert not ledger.is_full
