"""Places are neither lost nor given twice, and clients are served in turn."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from envhub.hub.places.turns import Turn, Turns

CLIENTS = st.sampled_from("abc")
LEFT = st.randoms(use_true_random=False)


class Interleaved(RuleBasedStateMachine):
    """Whatever is asked, cancelled, given back or held, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.turns = Turns(3, 4)
        self.asked: list[Turn] = []
        self.told: dict[Turn, int] = {}
        self.held: int | None = None
        self.overtaken: dict[Turn, list[str]] = {}  # clients served while it was its own first

    @rule(client=CLIENTS)
    def ask(self, client: str) -> None:
        box: list[Turn] = []

        def tell() -> None:
            turn = box[0]
            self.told[turn] = self.told.get(turn, 0) + 1
            if turn.state == "served":
                self.note_served(turn)

        turn = self.turns.ask(client, tell)
        box.append(turn)
        if turn.state == "refused":
            assert self.turns.waiting == 4
        self.asked.append(turn)

    @precondition(lambda self: self.asked)
    @rule(random=LEFT)
    def give_back(self, random: object) -> None:
        """Cancel one that waits, release one that is served, or do either twice."""
        self.turns.give_back(random.choice(self.asked))  # type: ignore[attr-defined]

    @rule(most=st.none() | st.integers(0, 4))
    def hold(self, most: int | None) -> None:
        self.held = most
        self.turns.hold(most)

    def note_served(self, served: Turn) -> None:
        waiting = [t for t in self.asked if t.state == "waiting"]
        earlier = self.asked[: self.asked.index(served)]

        assert not [t for t in earlier if t in waiting and t.client == served.client]
        for turn in waiting:
            if turn.client != served.client:
                passed = self.overtaken.setdefault(turn, [])
                passed.append(served.client)
        self.overtaken.pop(served, None)
        for first in {t.client: t for t in reversed(waiting)}.values():
            # by nobody twice while it was first in its own queue; before that, by the others
            # once for each of its own that went before
            before = self.asked[: self.asked.index(first)]
            own_before = [t for t in before if t.client == first.client]
            most = 1 + len(own_before)
            passed = self.overtaken.get(first, [])
            assert all(passed.count(client) <= most for client in passed)

    @invariant()
    def every_place_is_accounted_for(self) -> None:
        served = [turn for turn in self.asked if turn.state == "served"]
        waiting = [turn for turn in self.asked if turn.state == "waiting"]

        assert self.turns.taken == len(served) <= 3
        assert self.turns.waiting == len(waiting) <= 4
        assert not (self.turns.free and waiting)
        assert all(times == 1 for times in self.told.values())


TestInterleaved = Interleaved.TestCase


def served(turns: Turns, asked: dict[str, Turn]) -> list[str]:
    """Give places back one at a time; return in which order the others have got them."""
    order: list[str] = []
    while holding := [name for name, turn in asked.items() if turn.state == "served"]:
        order += [name for name in holding if name not in order]
        turns.give_back(asked[order[-1]])
    return order


def test_who_asks_for_many_does_not_keep_others_waiting() -> None:
    turns = Turns(1, 100)
    asked = {name: turns.ask(name[0]) for name in ["a1", "a2", "a3", "a4", "b1", "c1", "b2"]}

    assert served(turns, asked) == ["a1", "a2", "b1", "c1", "a3", "b2", "a4"]


def test_a_full_queue_has_room_for_who_waits_for_least() -> None:
    turns = Turns(1, 3)
    asked = {name: turns.ask(name[0]) for name in ["a1", "a2", "a3", "a4", "b1", "a5", "b2"]}

    assert [name for name, turn in asked.items() if turn.state == "refused"] == [
        "a4",
        "a5",
        "b2",
    ]
    assert served(turns, asked) == ["a1", "a2", "b1", "a3"]


def test_nobody_waits_where_nobody_may() -> None:
    turns = Turns(1, 0)

    assert [turns.ask("a").state, turns.ask("b").state] == ["served", "refused"]
