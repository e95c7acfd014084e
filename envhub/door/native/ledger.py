"""The ledger of a session's numbered calls: what makes each happen exactly once. Pure.

A client numbers its calls 1, 2, 3…, and says with each how far it has got the replies. What
it may still ask for again is kept here; so a call that is sent twice, over one connection or
over two, is carried out once and answered twice.
"""

from __future__ import annotations

from envhub.errors import OutOfOrder
from envhub.wire.native import (
    WINDOW,
    Answer,
    Numbered,
    Observed,
    Read,
    Reset,
    Step,
    encode,
)

_FIELDS_BYTES = 256  # of a reply, beside what it carries


class Ledger:
    """The calls of one session.

    Attributes:
        last: number of the last call that was taken; 0 for none.
        kept_bytes: that the replies take up here.
    """

    def __init__(self) -> None:
        self.last = 0
        self.kept_bytes = 0
        self._acked = 0
        self._asked: dict[int, int] = {}  # number → what was asked, in short
        self._answers: dict[int, tuple[Answer, int]] = {}  # and what it weighs

    def take(self, request: Numbered) -> tuple[bool, Answer | None]:
        """Take a call.

        Returns:
            Whether it is new; and if it is not, its answer, or None while it is under way.

        Raises:
            OutOfOrder: there is a gap before it, its reply is no longer kept, it is another
                call than it was, or too many are without a reply. Nothing has changed.
        """
        op, acked = request.op, request.acked
        if op > self.last + 1:
            raise OutOfOrder(f"call {op} came where {self.last + 1} was expected")
        if op <= self._acked:
            raise OutOfOrder(f"call {op} came again after its reply had been acknowledged")
        if acked >= op or not self._all_answered(acked):
            raise OutOfOrder(f"call {op} acknowledges a reply to {acked}, which was not given")
        if op <= self.last:
            if self._asked[op] != _gist(request):
                raise OutOfOrder(f"call {op} came again as another one")
            self._forget(acked)
            answer, _ = self._answers.get(op, (None, 0))
            return False, answer
        if op - max(acked, self._acked) > WINDOW:
            raise OutOfOrder(f"more than {WINDOW} calls are without an acknowledged reply")
        self._forget(acked)
        self.last = op
        self._asked[op] = _gist(request)
        return True, None

    def answer(self, answer: Answer) -> None:
        """Keep what a call has come to, until the client has it."""
        weight = _weight(answer)
        self._answers[answer.op] = answer, weight
        self.kept_bytes += weight

    def _all_answered(self, last: int) -> bool:
        return all(number in self._answers for number in range(self._acked + 1, last + 1))

    def _forget(self, acked: int) -> None:
        while self._acked < acked:
            self._acked += 1
            del self._asked[self._acked]
            self.kept_bytes -= self._answers.pop(self._acked)[1]


def _gist(request: Numbered) -> int:
    """What tells a call from another that bears its number. Nobody can make two alike."""
    if isinstance(request, Step):
        return hash((request.action, request.stream))
    if isinstance(request, Reset):
        return hash((request.options, Reset))
    return hash(type(request))


def _weight(answer: Answer) -> int:
    """How many bytes it takes up, about."""
    if isinstance(answer, Observed):
        carried = len(answer.payload) + len(answer.metadata) + len(answer.output)
        return _FIELDS_BYTES + carried
    if isinstance(answer, Read):
        return _FIELDS_BYTES + len(answer.payload)
    return _FIELDS_BYTES + len(encode(answer))
