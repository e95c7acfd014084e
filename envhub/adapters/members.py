"""Who performs batches: session processes, in a hub of this program or in one elsewhere."""

# ruff: noqa: D102, said where they are done
from __future__ import annotations

import mmap
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from envhub.wire.messages import Request
from envhub.wire.vector import Autoreset, Gathered, Layout, VectorRequest

R = TypeVar("R")


class Member(Protocol):
    """One session process and those that replace it. A call is begun, waited for, and read.

    See `envhub.hub.vectors.member.Member` and `envhub.client.native.member.RemoteMember`.
    """

    count: int
    whole: bool
    autoreset: Autoreset
    gathered: Gathered | None

    @property
    def pid(self) -> int: ...

    @property
    def is_pending(self) -> bool: ...

    def check_usable(self) -> None: ...

    def opened(self) -> None: ...

    def begin(self, stage: str, request: Callable[[int], Request | VectorRequest]) -> None: ...

    def result(self, kind: type[R]) -> R: ...

    def count_batch(self, steps: int, episodes: int) -> None: ...

    def begin_start(self) -> None: ...

    def begin_share(self, seeds: list[int | None]) -> None: ...

    def finish_start(self) -> tuple[mmap.mmap, Layout]: ...

    def is_ready(self, surely: bool = False) -> bool: ...

    def abandon(self) -> None: ...

    def drop(self) -> None: ...

    def begin_close(self) -> None: ...

    def close(self) -> None: ...


M = TypeVar("M", bound=Member)
Waiting = Callable[[Sequence[M], int], None]  # for some members, until so many are done
