"""The ledger of a session's numbered calls: what makes each happen exactly once. Pure.

A client numbers its calls 1, 2, 3…, and says with each how far it has got the replies. What
it may still ask for again is kept here; so a call that is sent twice, over one connection or
over two, is carried out once and answered twice.
"""

from __future__ import annotations

from msgspec.structs import astuple

from envhub.errors import CapacityError, OutOfOrder
from envhub.wire.failures import failed
from envhub.wire.native import (
    WINDOW,
    Answer,
    Numbered,
    Observed,
    Read,
    Reset,
    Step,
    carried_bytes,
    encode,
)

MOST_BYTES = 512 * 1024 * 1024  # in the ledgers of a door
_FIELDS_BYTES = 256  # of a reply, or a call, beside what it carries


class Stock:
    """What all ledgers of one door hold together: calls without a reply, and replies.

    A session may have as much of it as is left to all others, so that it is never used up by
    few. One that holds nothing, as who waits for each reply does, may still begin a call.

    Args:
        most_bytes: about; half as many again if each session has one call.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.most_bytes = most_bytes
        self.bytes = 0

    def has_room(self, held_bytes: int) -> bool:
        """Whether a session that holds so many bytes may hold more."""
        left = self.most_bytes - self.bytes
        return held_bytes <= left or (not held_bytes and left > -self.most_bytes // 2)


class Ledger:
    """The calls of one session.

    Args:
        stock: of the door; None for one of its own.

    Attributes:
        last: number of the last call that was taken; 0 for none.
        kept_bytes: that the replies take up here.
    """

    def __init__(self, stock: Stock | None = None) -> None:
        self.last = 0
        self.kept_bytes = 0
        self._stock = stock or Stock()
        self._asked_bytes = 0  # of calls that have no reply yet
        self._acked = 0
        self._asked: dict[int, tuple[int, int]] = {}  # number → in short, and its size
        self._answers: dict[int, tuple[Answer, int]] = {}  # and what it weighs

    def take(self, request: Numbered) -> tuple[bool, Answer | None]:
        """Take a call.

        Returns:
            Whether it is to be carried out; and if it is not, its answer, or None while it is
            under way. That there is no room for it is an answer, too.

        Raises:
            OutOfOrder: there is a gap before it, its reply is no longer kept, it is another
                call than it was, or too many are without a reply. Nothing has changed.
        """
        op, acked = request.op, request.acked
        if op > self.last + 1:
            raise OutOfOrder(f"call {op} came where {self.last + 1} was expected")
        if op <= self._acked:
            raise OutOfOrder(f"call {op} came again after its reply had been acknowledged")
        if acked >= op or (acked > self._acked and not self._all_answered(acked)):
            raise OutOfOrder(f"call {op} acknowledges a reply to {acked}, which was not given")
        if op <= self.last:
            if self._asked[op][0] != _gist(request):
                raise OutOfOrder(f"call {op} came again as another one")
            self._forget(acked)
            answer, _ = self._answers.get(op, (None, 0))
            return False, answer
        if op - acked > WINDOW and op - self._acked > WINDOW:
            raise OutOfOrder(f"more than {WINDOW} calls are without an acknowledged reply")
        self._forget(acked)
        stock = self._stock
        has_room = stock.has_room(self.kept_bytes + self._asked_bytes)
        size = _size(request) if has_room else 0
        self.last = op
        self._asked[op] = _gist(request), size
        self._asked_bytes += size
        stock.bytes += size
        if has_room:
            return True, None
        answer = failed(request.session, op, self.full())
        self.answer(answer)
        return False, answer

    @property
    def is_full(self) -> bool:
        """Whether no call may begin: replies are kept, and there is no room for another."""
        return self.kept_bytes > 0 and not self._stock.has_room(self.kept_bytes)

    def full(self) -> CapacityError:
        """Return the error for a call that finds no room."""
        return CapacityError(
            f"{self._stock.bytes} bytes of calls and replies wait in the hub,"
            f" {self.kept_bytes + self._asked_bytes} of them in this session",
            hint="acknowledge replies, and have fewer calls under way at once",
        )

    def close(self) -> None:
        """Hold nothing any more."""
        self._stock.bytes -= self.kept_bytes + self._asked_bytes
        self.kept_bytes = self._asked_bytes = 0
        self._asked.clear()
        self._answers.clear()

    def answer(self, answer: Answer) -> None:
        """Keep what a call has come to, until the client has it."""
        weight = _weight(answer)
        self._answers[answer.op] = answer, weight
        gist, size = self._asked[answer.op]
        self._asked[answer.op] = gist, 0
        self._asked_bytes -= size
        self.kept_bytes += weight
        self._stock.bytes += weight - size

    def _all_answered(self, last: int) -> bool:
        return all(number in self._answers for number in range(self._acked + 1, last + 1))

    def _forget(self, acked: int) -> None:
        while self._acked < acked:
            self._acked += 1
            del self._asked[self._acked]
            weight = self._answers.pop(self._acked)[1]
            self.kept_bytes -= weight
            self._stock.bytes -= weight


def _gist(request: Numbered) -> int:
    """What tells a call from another that bears its number. Nobody can make two alike."""
    if isinstance(request, Step):
        return hash((request.action, request.stream))
    if isinstance(request, Reset):
        return hash((request.options, Reset))
    return hash((type(request), *astuple(request)[3:]))


def _size(request: Numbered) -> int:
    """How many bytes a call takes up, about."""
    return _FIELDS_BYTES + carried_bytes(request)


def _weight(answer: Answer) -> int:
    """How many bytes it takes up, about."""
    if isinstance(answer, Observed):
        carried = len(answer.payload) + len(answer.metadata) + len(answer.output)
        return _FIELDS_BYTES + carried
    if isinstance(answer, Read):
        return _FIELDS_BYTES + len(answer.payload)
    return _FIELDS_BYTES + len(encode(answer))
