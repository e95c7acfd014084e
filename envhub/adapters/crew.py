"""The processes of a vector environment, and whose episodes are over."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from gymnasium import spaces as kinds
from gymnasium.vector import AutoresetMode

from envhub.adapters import spaces
from envhub.adapters.packing import Batch, pack
from envhub.errors import EnvhubError, RemoteProtocolError, UsageError
from envhub.hub.vectors.member import Member, are_alike
from envhub.hub.vectors.waiting import wait, wait_one
from envhub.wire.vector import (
    RESET,
    STEP,
    Answered,
    Ask,
    Batched,
    Gathered,
    ResetBatch,
    StepBatch,
)


class Crew:
    """Has its members step and reset, and replaces those that are lost.

    Args:
        members: not started.
        mode: of autoreset.
        copy: observations are the caller's own.

    Attributes:
        members: as given.
        rows: which environments are whose.
        size: how many there are.
        space: of one observation.
        over: whose next step is a reset.
    """

    space: kinds.Space[Any]

    def __init__(self, members: Sequence[Member], mode: AutoresetMode, *, copy: bool) -> None:
        self.members = list(members)
        ends = [0]
        for member in self.members:
            ends.append(ends[-1] + member.count)
        self.rows = [slice(first, last) for first, last in pairwise(ends)]
        self.size = ends[-1]
        self.over = np.ones(self.size, np.bool_)
        self._same_step = mode is AutoresetMode.SAME_STEP
        self._copy = copy
        self._views: list[spaces.Views | None] = [None] * len(self.members)
        # of members without a process
        self._last: list[list[Any] | None] = [None] * len(self.members)
        self._kept: dict[int, list[Any]] = {}

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
        self._leaves = spaces.leaf_kinds(gathered.observation)
        return gathered

    def check_usable(self) -> None:
        """Raise what a call would meet that cannot be made."""
        for member in self.members:
            member.check_usable()

    def are_over(self, whom: Iterable[int]) -> bool:
        """Whether an episode of these members is."""
        return any(self.over[self.rows[at]].any() for at in whom)

    # ------------------------------------------------------------ resets

    def reset(self, mask: Any, seeds: list[int | None], options: bytes) -> Batch:
        """Reset the environments that `mask` names."""
        whom = [at for at, rows in enumerate(self.rows) if mask[rows].any()]
        self.over[mask] = True  # until they were reset
        try:
            live = self._live(whom)
            for at, views in live.items():
                np.multiply(mask[self.rows[at]], RESET, out=views.todo, casting="unsafe")
                self._begin_reset(at, seeds[self.rows[at]], options)
            wait([self.members[at] for at in whom], len(whom))
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
        for at in range(len(self.members)):
            self._see(at, batch)
        return batch

    def _begin_reset(self, at: int, seeds: list[int | None], options: bytes) -> None:
        turn = self._next_turn(at)
        self.members[at].begin("reset", lambda op: ResetBatch(op, turn, seeds, options))

    def _finish_reset(self, at: int, mask: Any, batch: Batch) -> None:
        member = self.members[at]
        pack(batch, batch.parts[at], member.result(Batched))
        self._turn(at)
        self.over[self.rows[at]] &= ~mask
        member.count_batch(steps=0, episodes=int(mask.sum()))

    # ------------------------------------------------------------ steps

    def begin_steps(self, parts: dict[int, slice], taken: list[Any]) -> None:
        """Begin the steps of these members.

        Args:
            parts: which of the actions are whose.
            taken: the leaves of the actions.
        """
        live = self._live(parts)  # all, before one of them steps
        try:
            for at, views in live.items():
                over = self.over[self.rows[at]]
                views.todo[:] = np.where(over, RESET, STEP)
                for leaf, array in zip(views.actions, taken, strict=True):
                    np.copyto(leaf, array[parts[at]], casting="same_kind")
                self._begin_step(at)
        except BaseException:
            for at in parts:
                self._drop(at)
            raise

    def _begin_step(self, at: int) -> None:
        turn = self._next_turn(at)
        self.members[at].begin("step", lambda op: StepBatch(op, turn))

    def wait_some(self, whom: Sequence[int], least: int) -> list[int]:
        """Wait until so many environments of these members are done; return the members."""
        members = [self.members[at] for at in whom]
        least = min(least, sum(member.count for member in members))
        try:
            while True:
                done = sorted(at for at in whom if not self.members[at].is_pending)
                if done and sum(self.members[at].count for at in done) >= least:
                    return done
                wait(members, len(done) + 1)
        except BaseException:
            self._drop_pending(whom)
            raise

    def finish_steps(self, whom: Sequence[int]) -> Batch:
        """Wait for the steps of these members, and return what they came to."""
        try:
            wait([self.members[at] for at in whom], len(whom))
        except BaseException:
            self._drop_pending(whom)
            raise
        batch = self._batch(whom)
        failed: EnvhubError | None = None
        for at in whom:
            try:
                self._finish_step(at, batch)
            except EnvhubError as error:
                failed = failed or error
        if failed is not None:
            raise failed
        return batch

    def _finish_step(self, at: int, batch: Batch) -> None:
        member, rows, views = self.members[at], self.rows[at], self._views[at]
        part, was_over = batch.parts[at], self.over[rows]
        resets = int(was_over.sum())
        assert views is not None
        try:
            batched = member.result(Batched)
            rewards = views.rewards.copy()
            rewards[was_over] = 0.0  # a reset has none, whatever lies there
            if not np.isfinite(rewards).all():  # no worker of ours says so
                raise RemoteProtocolError("rewards that are not finite")
            pack(batch, part, batched)
        except EnvhubError as error:
            del views
            self._lose(at, error, batch, all_resets=resets == member.count)
            return
        self._turn(at)
        batch.rewards[part] = rewards
        terminated, truncated = batch.terminated[part], batch.truncated[part]
        np.not_equal(views.terminated, 0, out=terminated)
        np.not_equal(views.truncated, 0, out=truncated)
        if resets:
            terminated[was_over] = truncated[was_over] = False
        over = terminated | truncated
        begun = resets + (int(over.sum()) if self._same_step else 0)
        self.over[rows] = False if self._same_step else over
        self._see(at, batch)
        member.count_batch(steps=member.count - resets, episodes=begun)

    def _lose(self, at: int, error: EnvhubError, batch: Batch, *, all_resets: bool) -> None:
        """End the episodes of a member that has no result, for this cause."""
        part = batch.parts[at]
        self._drop(at)
        if all_resets:  # a fresh one would come to no more
            raise error
        self._see(at, batch)
        batch.rewards[part], batch.terminated[part], batch.truncated[part] = 0.0, False, True
        for row in range(part.start, part.stop):
            last = {}
            if self._same_step:
                last = {"final_obs": batch.row(self.space, row), "final_info": {}}
            batch.tell(row, {**last, "envhub_error": error})
        if self._same_step:
            self._begin_anew(at, batch)

    def _begin_anew(self, at: int, batch: Batch) -> None:
        """Reset what was lost, in a fresh process, within the same step."""
        member = self.members[at]
        self._start((at,))[at].todo.fill(RESET)
        self._begin_reset(at, [None] * member.count, b"")
        try:
            wait_one(member)
            self._finish_reset(at, np.ones(member.count, np.bool_), batch)
        except BaseException:
            self._drop(at)
            raise
        self._see(at, batch)

    # ------------------------------------------------------------ attributes

    def ask(self, name: str, given: list[bytes], *, assign: bool = False) -> list[bytes]:
        """Ask each member's environments; return the answers of each."""
        whom = range(len(self.members))
        try:
            self._live(whom)
            for member, data in zip(self.members, given, strict=True):
                _begin_ask(member, name, data, assign)
            wait(self.members, len(self.members))
        except BaseException:
            self._drop_pending(whom)
            raise
        return [member.result(Answered).values for member in self.members]

    # ------------------------------------------------------------ processes

    def close(self) -> None:
        """End the processes, and give their places back. Idempotent."""
        self._views = [None] * len(self.members)
        for member in self.members:
            if member.is_pending:
                member.abandon()
            else:
                member.begin_close()
        try:
            wait(self.members, len(self.members))
        finally:
            for member in self.members:
                member.close()

    def _start(self, whom: Sequence[int]) -> dict[int, spaces.Views]:
        """Start the processes of these members, all at the same time."""
        members = [self.members[at] for at in whom]
        try:
            for member in members:
                member.begin_start()
            wait(members, len(members))
            for member in members:
                member.begin_share()
            wait(members, len(members))
            started = {at: spaces.Views(*self.members[at].finish_start()) for at in whom}
        except BaseException:
            for member in members:
                member.drop()
            raise
        for at, views in started.items():
            self._views[at] = views
        return started

    def _live(self, whom: Iterable[int]) -> dict[int, spaces.Views]:
        """Return the memory of these members' processes, fresh ones after a loss.

        One that has ended with an episode in it is left for its call to find, and to tell.
        """
        live: dict[int, spaces.Views] = {}
        lost: list[int] = []
        for at in whom:
            views, surely = self._views[at], bool(self.over[self.rows[at]].all())
            if views is not None and self.members[at].is_ready(surely=surely):
                live[at] = views
            else:
                lost.append(at)
            del views  # or the memory could not be unmapped
        for at in lost:
            self._drop(at)
        return live | self._start(lost) if lost else live

    def _drop(self, at: int) -> None:
        views, self._views[at] = self._views[at], None
        if views is not None and views.has_observed:
            self._last[at] = views.copies()
        del views  # or the memory could not be unmapped
        self.over[self.rows[at]] = True
        self.members[at].drop()

    def _drop_pending(self, whom: Iterable[int]) -> None:
        """Those that were interrupted have no process any more, the others no result."""
        for at in whom:
            if not self.members[at].is_ready():
                self._drop(at)
            self.over[self.rows[at]] = True

    def _next_turn(self, at: int) -> Literal[0, 1]:
        views = self._views[at]
        assert views is not None
        return 0 if views.turn else 1

    def _turn(self, at: int) -> None:
        views = self._views[at]
        assert views is not None
        views.turn, views.has_observed = 1 - views.turn, True

    # ------------------------------------------------------------ what is returned

    def _batch(self, whom: Iterable[int]) -> Batch:
        parts, size = {}, 0
        for at in whom:
            parts[at] = slice(size, size + self.members[at].count)
            size += self.members[at].count
        leaves = self._kept.get(size)
        if self._copy or leaves is None:
            leaves = [np.zeros((size, *shape), dtype) for dtype, shape in self._leaves]
        if not self._copy:
            self._kept[size] = leaves
        return Batch(parts, size, leaves)

    def _see(self, at: int, batch: Batch) -> None:
        """Take over the last observations of a member."""
        views, last = self._views[at], self._last[at]
        if views is not None and views.has_observed:
            if not self._copy and len(batch.parts) == 1 and views.is_plain:
                batch.leaves = views.observations[views.turn]
            else:
                views.put(batch.leaves, batch.parts[at])
        elif last is not None:
            for leaf, rows in zip(batch.leaves, last, strict=True):
                leaf[batch.parts[at]] = rows


def _begin_ask(member: Member, name: str, data: bytes, assign: bool) -> None:
    member.begin("state", lambda op: Ask(op, name, data, assign))
