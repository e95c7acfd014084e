"""Who gets the next place: the clients take turns, and each one's requests keep their order.

No loop, no clock: `Admission` waits, this decides. A client that asks for a thousand places
and one that asks for one are served alternately. Where the queue is full, the last request of
the client that waits for most gives way to one that waits for fewer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Literal


class Turn:
    """One request for a place. Made by `Turns.ask`.

    Attributes:
        client: who asks.
        state: `waiting`; `served`, it holds a place; `refused`, others had to have its place
            in the queue; `over`, it was given back.
    """

    __slots__ = ("client", "state", "tell")

    def __init__(self, client: str, tell: Callable[[], None]) -> None:
        self.client = client
        self.state: Literal["waiting", "served", "refused", "over"] = "waiting"
        self.tell = tell


class Turns:
    """Counts places, and gives free ones out.

    Args:
        places: how many there are.
        waiting_max: how many requests may wait.

    Attributes:
        taken: places that are given out.
        waiting: requests that wait.
    """

    def __init__(self, places: int, waiting_max: int) -> None:
        self.places = places
        self.waiting_max = waiting_max
        self.taken = 0
        self.waiting = 0
        self._most: int | None = None  # that may be taken for now
        self._queues: dict[str, deque[Turn]] = {}  # none is empty; whose turn is next is first

    @property
    def free(self) -> int:
        """How many places can be given out now."""
        most = self.places if self._most is None else min(self.places, self._most)
        return max(0, most - self.taken)

    def ask(self, client: str, tell: Callable[[], None] = lambda: None) -> Turn:
        """Return a turn, which is served at once if that can be.

        Args:
            client: who asks.
            tell: called once if it has to wait, and then is served or refused.
        """
        turn = Turn(client, tell)
        if self.free:  # so nobody waits
            self.taken += 1
            turn.state = "served"
        elif self.waiting < self.waiting_max or self._made_room(client):
            self._queues.setdefault(client, deque()).append(turn)
            self.waiting += 1
        else:
            turn.state = "refused"
        return turn

    def give_back(self, turn: Turn) -> None:
        """Note that a turn is over, whether it waits or has its place. Idempotent."""
        if turn.state == "waiting":
            self._remove(turn)
        elif turn.state == "served":
            self.taken -= 1
        turn.state = "over"
        self._serve()

    def hold(self, most: int | None) -> None:
        """Let no more than so many places be taken for now; None lets all of them."""
        self._most = most
        self._serve()

    def _serve(self) -> None:
        while self.waiting and self.free:
            client, queue = next(iter(self._queues.items()))
            turn = queue[0]
            self._remove(turn)
            if queue:  # its next one is served when everybody else has been
                self._queues[client] = self._queues.pop(client)
            self.taken += 1
            turn.state = "served"
            turn.tell()

    def _made_room(self, client: str) -> bool:
        """Refuse the last request of whoever waits for most, if that is fairer than not to."""
        if not self._queues:
            return False
        longest = max(self._queues.values(), key=len)
        if len(self._queues.get(client, ())) + 1 >= len(longest):
            return False
        turn = longest[-1]
        self._remove(turn)
        turn.state = "refused"
        turn.tell()
        return True

    def _remove(self, turn: Turn) -> None:
        queue = self._queues[turn.client]
        queue.remove(turn)
        self.waiting -= 1
        if not queue:
            del self._queues[turn.client]
