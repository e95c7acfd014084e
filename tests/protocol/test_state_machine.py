"""Any interleaving of calls, cuts, retries and resumes gives the undisturbed trajectory."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from envhub.wire import native
from tests.protocol.envs.chain.env import linked
from tests.protocol.raw import Raw, key, packed, unpacked

texts = st.text(st.characters(codec="ascii", exclude_categories=["C"]), max_size=4)


class Undisturbed:
    """What each call would have been answered, had nothing ever gone wrong."""

    def __init__(self) -> None:
        self._digest, self._steps, self._playing = "", 0, False
        self.answers: dict[int, Any] = {}

    def reset(self, op: int, seed: int) -> None:
        self._digest, self._steps, self._playing = linked("", str(seed)), 0, True
        self._observe(op)

    def step(self, op: int, text: str) -> None:
        if not self._playing:
            self.answers[op] = "reset_needed"
            return
        self._digest, self._steps = linked(self._digest, text), self._steps + 1
        self._observe(op)

    def state(self, op: int) -> None:
        self.answers[op] = {
            "episode_id": None,
            "step_count": self._steps,
            "digest": self._digest,
        }

    def _observe(self, op: int) -> None:
        self.answers[op] = ({"digest": self._digest, "steps": self._steps}, float(self._steps))


def said(reply: Any) -> Any:
    """Return what a reply says, to be compared."""
    match reply:
        case native.Observed():
            return unpacked(reply.payload), reply.reward
        case native.Read():
            return unpacked(reply.payload)
        case native.Failed():
            return reply.code
        case _:
            return reply


class Episode(RuleBasedStateMachine):
    """One session, and a client to which everything happens."""

    url: str

    def __init__(self) -> None:
        super().__init__()
        self.expected = Undisturbed()
        self.client: Raw | None = None
        self.older: list[Raw] = []
        self.channel = 0
        self.key = key()
        self.calls: list[native.Numbered] = []  # as they were first said
        self.answered: set[int] = set()
        self.acked = 0

    @initialize()
    def open(self) -> None:
        self.client, self.channel = Raw(self.url), 1
        self.client.say(native.Open(1, self.key, "chain"))
        assert isinstance(self.client.hear(), native.Opened)

    @property
    def unanswered(self) -> list[native.Numbered]:
        return [call for call in self.calls if call.op not in self.answered]

    @property
    def connected(self) -> Raw:
        assert self.client is not None
        return self.client

    def call(self, request: native.Numbered) -> None:
        self.calls.append(request)
        if self.client is not None:
            self.client.say(self.numbered(request))

    def numbered(self, request: native.Numbered) -> native.Numbered:
        """The call as it is said now: over this connection, with what has arrived by now."""
        fields = {name: getattr(request, name) for name in request.__struct_fields__}
        fields |= {"session": self.channel, "acked": min(self.acked, request.op - 1)}
        return type(request)(**fields)

    @property
    def next_op(self) -> int:
        return len(self.calls) + 1

    def has_room(self) -> bool:
        return len(self.calls) - self.acked < native.WINDOW

    @precondition(has_room)
    @rule(seed=st.integers(0, 3))
    def reset(self, seed: int) -> None:
        self.expected.reset(self.next_op, seed)
        self.call(native.Reset(0, self.next_op, 0, packed(seed=seed)))

    @precondition(has_room)
    @rule(text=texts)
    def step(self, text: str) -> None:
        self.expected.step(self.next_op, text)
        self.call(native.Step(0, self.next_op, 0, packed(text=text)))

    @precondition(has_room)
    @rule()
    def state(self) -> None:
        self.expected.state(self.next_op)
        self.call(native.State(0, self.next_op, 0))

    @precondition(lambda self: self.client is not None and self.unanswered)
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        self.connected.say(self.numbered(data.draw(st.sampled_from(self.unanswered))))

    @precondition(lambda self: self.client is not None and self.unanswered)
    @rule()
    def hear(self) -> None:
        """Up to the reply to the oldest call; those to a retry may come before it."""
        oldest = self.unanswered[0].op
        while oldest not in self.answered:
            reply = self.connected.hear()
            assert said(reply) == self.expected.answers[reply.op]
            assert reply.op <= oldest
            self.answered.add(reply.op)
        while self.acked + 1 in self.answered:
            self.acked += 1

    @precondition(lambda self: self.client is not None)
    @rule()
    def cut(self) -> None:
        self.connected.cut()
        self.client = None

    @rule(channel=st.integers(0, 5))
    def resume(self, channel: int) -> None:
        """Over a new connection, whether the old one is cut, half-open or in good health."""
        if self.client is not None:
            self.older.append(self.client)
        self.client, self.channel = Raw(self.url), channel
        asked = [self.numbered(call) for call in self.unanswered]
        self.client.say(native.Resume(channel, self.key), *asked)
        opened = self.client.hear()
        assert isinstance(opened, native.Opened)
        assert opened.op <= len(self.calls)

    @invariant()
    def only_what_was_asked_is_unanswered(self) -> None:
        assert len(self.calls) - self.acked <= native.WINDOW

    def teardown(self) -> None:
        try:
            if self.client is None:
                self.resume(1)
            while self.unanswered:
                self.hear()
            self.expected.state(self.next_op)
            self.call(native.State(0, self.next_op, 0))
            self.hear()
            self.connected.say(native.Close(self.channel))
            while not isinstance(self.connected.hear(), native.Closed):
                pass
        finally:
            for connection in (*self.older, self.client):
                if connection is not None:
                    connection.close()


@pytest.mark.timeout(300)
def test_any_interleaving_gives_the_undisturbed_trajectory(url: str) -> None:
    machine = type("EpisodeHere", (Episode,), {"url": url})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=60,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
