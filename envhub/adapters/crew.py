"""The processes of a vector environment, and whose episodes are over."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, Generic, Literal, cast

import numpy as np
from gymnasium import spaces as kinds
from gymnasium.vector import AutoresetMode

from envhub.adapters import spaces
from envhub.adapters.episodes import Episodes
from envhub.adapters.members import M, Member, Waiting
from envhub.adapters.packing import Batch, pack
from envhub.adapters.seeds import Seeds
from envhub.adapters.seen import Seen
from envhub.errors import EnvhubError, RemoteProtocolError, UsageError
from envhub.wire.vector import (
    RESET,
    Answered,
    Ask,
    Autoreset,
    Batched,
    Gathered,
    ResetBatch,
    StepBatch,
    are_alike,
)

_STEPS = (lambda op: StepBatch(op, 0), lambda op: StepBatch(op, 1))  # by turn


class Crew(Generic[M]):
    """Has its members step and reset, and replaces those that are lost.

    Args:
        members: not started.
        wait: waits for some of them.
        copy: observations are the caller's own.

    Attributes:
        members: as given.
        rows: which environments are whose.
        everybody: `rows`, by member.
        whom: all members.
        size: how many there are.
        space: of one observation.
        episodes: whose are over.
        seen: their observations.
        kind: of what is returned.
        is_whole: they are one object, which resets its own.
    """

    space: kinds.Space[Any]
    kind: type[Batch] = Batch

    def __init__(self, members: Sequence[M], wait: Waiting[M], *, copy: bool) -> None:
        self.members = list(members)
        self._wait = wait
        self.is_whole = any(member.whole for member in members)
        ends = [0]
        for member in self.members:
            ends.append(ends[-1] + member.count)
        self.rows = [slice(first, last) for first, last in pairwise(ends)]
        self.size = ends[-1]
        self.episodes = Episodes(self.rows)
        self.everybody = dict(enumerate(self.rows))
        self.whom = range(len(self.members))
        self._same_step = False
        self.seen = Seen(len(self.members), copy=copy)
        self._seeds = Seeds(self.size, len(self.members))

    def start(self) -> Gathered:
        """Start every process, and return what the environments are."""
        self._start(range(len(self.members)))
        for member in self.members:
            member.opened()
        first, *others = (member.gathered for member in self.members)
        assert first is not None
        if not all(other is not None and are_alike(first, other) for other in others):
            raise UsageError("cannot be vectorised: its processes have different spaces")
        gathered = first
        self.seen.leaves = spaces.leaf_kinds(gathered.observation)
        return gathered

    def follow(self, mode: AutoresetMode) -> None:
        """Know when an episode follows the one before."""
        self._same_step = mode is AutoresetMode.SAME_STEP
        for member in self.members:
            member.autoreset = cast(Autoreset, mode.name.lower())

    def check_usable(self) -> None:
        """Raise what a call would meet that cannot be made."""
        self.members[0].check_usable()

    # ------------------------------------------------------------ resets

    def reset(
        self, mask: Any, seeds: list[int | None], options: bytes, whole: list[int | None]
    ) -> Batch:
        """Reset the environments that `mask` names.

        Args:
            mask: one for each.
            seeds: likewise.
            options: for all.
            whole: what a vectorised class gets for seeds.
        """
        whom = [at for at, rows in enumerate(self.rows) if mask[rows].any()]
        for at in whom:  # until they were reset
            self.episodes.mark(at, self.episodes.of(at) | mask[self.rows[at]])
        self._seeds.give(seeds, np.flatnonzero(mask))
        try:
            live = self._live(whom)
            for at, views in live.items():
                np.multiply(mask[self.rows[at]], RESET, out=views.todo, casting="unsafe")
                given = whole if self.is_whole else seeds[self.rows[at]]
                self._begin_reset(at, given, options)
            self._wait([self.members[at] for at in whom], len(whom))
        except BaseException:
            self._drop_pending(whom)
            raise
        live.clear()
        batch = self._batch(range(len(self.members)))
        failed: EnvhubError | None = None
        for at in whom:
            try:
                self._finish_reset(at, mask[self.rows[at]], batch)
            except EnvhubError as error:
                failed = failed or error
                self._drop(at)
        if failed is not None:
            raise failed
        self.seen.fill(batch)
        return batch

    def _begin_reset(self, at: int, seeds: list[int | None], options: bytes) -> None:
        views = self.seen.views[at]
        assert views is not None
        turn: Literal[0, 1] = 0 if views.turn else 1
        self.members[at].begin("reset", lambda op: ResetBatch(op, turn, seeds, options))

    def _finish_reset(self, at: int, mask: Any, batch: Batch) -> None:
        member, views = self.members[at], self.seen.views[at]
        assert views is not None
        pack(batch, batch.parts[at], member.result(Batched), whole=self.is_whole)
        views.turn, views.has_observed = 1 - views.turn, True
        self.episodes.mark(at, self.episodes.of(at) & ~mask)
        member.count_batch(0, int(mask.sum()))

    # ------------------------------------------------------------ steps

    def begin_steps(self, parts: dict[int, slice], taken: list[Any]) -> None:
        """Begin the steps of these members.

        Args:
            parts: which of the actions are whose.
            taken: the leaves of the actions, of kinds that may be cast to theirs.
        """
        live = self._live(parts)  # all, before one of them steps
        try:
            for at, views in live.items():
                self.episodes.tell(at, views.todo)
                part = parts[at]
                for leaf, array in zip(views.actions, taken, strict=True):
                    leaf[:] = array[part]
                self.members[at].begin("step", _STEPS[1 - views.turn])
        except BaseException:
            for at in parts:
                self._drop(at)
            raise

    def hurry(self, whom: Iterable[int]) -> None:
        """Have what was begun be under way, where that takes more than to have begun it."""
        self._wait([self.members[at] for at in whom], 0)

    def wait_some(self, whom: Sequence[int], least: int) -> list[int]:
        """Wait until so many environments of these members are done; return the members."""
        members = [self.members[at] for at in whom]
        least = min(least, sum(member.count for member in members))
        try:
            while True:
                done = sorted(at for at in whom if not self.members[at].is_pending)
                if done and sum(self.members[at].count for at in done) >= least:
                    return done
                self._wait(members, len(done) + 1)
        except BaseException:
            self._drop_pending(whom)
            raise

    def finish_steps(self, whom: Sequence[int]) -> Batch:
        """Wait for the steps of these members, and return what they came to."""
        try:
            self._wait([self.members[at] for at in whom], len(whom))
        except BaseException:
            self._drop_pending(whom)
            raise
        batch = self._batch(whom)
        lost: dict[int, EnvhubError] = {}
        for at in whom:
            try:
                reply = self.members[at].result(Batched)
                if reply.infos or reply.failures:
                    pack(batch, batch.parts[at], reply, whole=self.is_whole)
            except EnvhubError as error:
                lost[at] = error
        self._take_steps(whom, batch, lost)
        if not lost:
            return batch
        failed: EnvhubError | None = None
        for at, cause in lost.items():
            try:
                self._lose(at, cause, batch)
            except EnvhubError as error:
                failed = failed or error
        if failed is not None:
            raise failed
        return batch

    def _take_steps(
        self, whom: Sequence[int], batch: Batch, lost: dict[int, EnvhubError]
    ) -> None:
        """Read what came of a step, of all members at once; nothing of those that are lost.

        Args:
            whom: the members.
            batch: takes it.
            lost: who has no result, and why; who lies is added.
        """
        views: list[spaces.Views] = [self.seen.views[at] for at in whom]  # type: ignore[misc]
        batch.rewards = rewards = np.concatenate([each.rewards for each in views])
        if 0 in np.isfinite(rewards).tobytes():  # half of what `all` costs
            self._find_liars(whom, batch, lost)
        ends = np.concatenate([each.ends for each in views], 1) != 0
        batch.terminated, batch.truncated = terminated, truncated = ends[0], ends[1]
        now_over = terminated | truncated
        said, counts, is_anew = now_over.tobytes(), self.episodes.counts, self._same_step
        for at, each in zip(whom, views, strict=True):
            if at in lost:
                continue
            each.turn, each.has_observed = 1 - each.turn, True
            member, part, resets = self.members[at], batch.parts[at], counts[at]
            count = said.count(1, part.start, part.stop)
            member.count_batch(member.count - resets, resets + count if is_anew else resets)
            if is_anew:
                count = 0
            if resets or count:
                self.episodes.follow(at, now_over[part] if count else False, count)
        self.seen.join(views, batch, own=bool(lost))

    def _find_liars(
        self, whom: Sequence[int], batch: Batch, lost: dict[int, EnvhubError]
    ) -> None:
        """Note as lost whose rewards are not finite: no worker of ours says so."""
        for at in whom:
            rewards = batch.rewards[batch.parts[at]]
            if not self.is_whole:
                rewards[self.episodes.of(at)] = 0.0  # a reset has none
            if at not in lost and not np.isfinite(rewards).all():
                lost[at] = RemoteProtocolError("rewards that are not finite")

    def _lose(self, at: int, error: EnvhubError, batch: Batch) -> None:
        """End the episodes of a member that has no result, for this cause."""
        part, all_resets = batch.parts[at], self.episodes.counts[at] == self.members[at].count
        self._drop(at)
        if all_resets:  # a fresh one would come to no more
            raise error
        batch.rewards[part], batch.terminated[part], batch.truncated[part] = 0.0, False, True
        for row in range(part.start, part.stop):
            if self._same_step:
                batch.tell_last(row, batch.row(self.space, row), {})
            batch.tell(row, {"envhub_error": error})
        if self._same_step:
            self._begin_anew(at, batch)

    def _begin_anew(self, at: int, batch: Batch) -> None:
        """Reset what was lost, in a fresh process, within the same step."""
        member = self.members[at]
        self._start((at,))[at].todo.fill(RESET)
        self._begin_reset(at, [None] * member.count, b"")
        try:
            self._wait((member,), 1)
            self._finish_reset(at, np.ones(member.count, np.bool_), batch)
        except BaseException:
            self._drop(at)
            raise
        self.seen.put(at, batch)

    # ------------------------------------------------------------ attributes

    def ask(self, name: str, given: list[bytes], *, assign: bool = False) -> list[bytes]:
        """Ask each member's environments; return the answers of each."""
        whom = range(len(self.members))
        try:
            self._live(whom)
            for member, data in zip(self.members, given, strict=True):
                _begin_ask(member, name, data, assign)
            self._wait(self.members, len(self.members))
        except BaseException:
            self._drop_pending(whom)
            raise
        return [member.result(Answered).values for member in self.members]

    # ------------------------------------------------------------ processes

    def close(self) -> None:
        """End the processes, and give their places back. Idempotent."""
        self.seen.views = [None] * len(self.members)
        for member in self.members:
            if member.is_pending:
                member.abandon()
            else:
                member.begin_close()
        try:
            self._wait(self.members, len(self.members))
        finally:
            for member in self.members:
                member.close()

    def _start(self, whom: Sequence[int]) -> dict[int, spaces.Views]:
        """Start the processes of these members, all at the same time."""
        members = [self.members[at] for at in whom]
        try:
            for member in members:
                member.begin_start()
            self._wait(members, len(members))
            for at, member in zip(whom, members, strict=True):
                member.begin_share(self._seeds.after_start(at, self.rows[at]))
            self._wait(members, len(members))
            started = {at: spaces.Views(*self.members[at].finish_start()) for at in whom}
        except BaseException:
            for member in members:
                member.drop()
            raise
        for at, views in started.items():
            self.seen.views[at] = views
        return started

    def _live(self, whom: Iterable[int]) -> dict[int, spaces.Views]:
        """Return the memory of these members' processes, fresh ones after a loss.

        One that has ended with an episode in it is left for its call to find, and to tell.
        """
        live: dict[int, spaces.Views] = {}
        lost: list[int] = []
        for at in whom:
            views, member = self.seen.views[at], self.members[at]
            if views is not None and member.is_ready(self.episodes.counts[at] == member.count):
                live[at] = views
            else:
                lost.append(at)
        del views  # or the memory could not be unmapped
        for at in lost:
            self._drop(at)
        return live | self._start(lost) if lost else live

    def _drop(self, at: int) -> None:
        self.seen.drop(at)
        self.episodes.mark(at, True)
        self.members[at].drop()

    def _drop_pending(self, whom: Iterable[int]) -> None:
        """Those that were interrupted have no process any more, the others no result."""
        for at in whom:
            if not self.members[at].is_ready():
                self._drop(at)
            self.episodes.mark(at, True)

    # ------------------------------------------------------------ what is returned

    def _batch(self, whom: Sequence[int]) -> Batch:
        if len(whom) == len(self.members):
            return self.kind(self.everybody, self.size)
        parts, size = {}, 0
        for at in whom:
            parts[at] = slice(size, size + self.members[at].count)
            size += self.members[at].count
        return self.kind(parts, size)


def _begin_ask(member: Member, name: str, data: bytes, assign: bool) -> None:
    member.begin("state", lambda op: Ask(op, name, data, assign))
