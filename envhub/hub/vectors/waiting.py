"""Waiting for the processes of a vector environment: look for a moment, then block.

A wake-up costs some 50 µs where the other processor sleeps, so for as long it is cheaper to
look; but not where the last call took longer, so that only a block helps. What is looked at, a
number in shared memory, is a hint: the reply itself comes over the socket, and a process that
lies about it only has us look in vain.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Sequence
from operator import attrgetter

from envhub.hub.vectors.member import Member, Watched

_SPIN_S = 50e-6
_SOON_S = 150e-6  # what took less, a wake-up included, might have been spun for
_BRIEF_S = 0.002
_BRIEF_MS = _BRIEF_S * 1000
_CLOSE_S = 30.0  # between a kill and the end
# Python runs a signal's handler between two bytecodes, and one that comes between the last of
# them and the wait not before the wait is over
_LOOK_S = 0.5
_IS_LAST = attrgetter("was_last")


def wait(members: Sequence[Member], least: int) -> None:
    """Wait until so many of these have the outcome of their calls.

    Each call is over at its deadline, at the latest, and a process that is stuck killed. One
    that is interrupted by an exception is given up: nobody could place its reply.
    """
    try:
        pending = [member for member in members if member.is_pending]
        if len(members) - len(pending) >= least:
            return
        for member in pending:
            if member.took_s < _SOON_S:
                pending = _spin(members, pending, least)
                break
        if least == len(members):
            pending = [member for member in _one_by_one(pending) if member.is_pending]
        if len(members) - len(pending) < least:
            _block(pending, least - (len(members) - len(pending)))
    except BaseException:  # KeyboardInterrupt among them
        for member in members:
            member.abandon()
        raise


def _one_by_one(pending: list[Member]) -> list[Member]:
    """Wait for each of those that take no time worth mentioning; return the others.

    One that ends before the one that is waited for wakes nobody up. So the first is who was the
    last to end before: as a rule it has a processor together with us, and to be woken up while
    it computes would hold it up.
    """
    if not pending:
        return pending
    until = time.perf_counter() + _BRIEF_S
    last = None
    if not pending[0].was_last:
        pending = sorted(pending, key=_IS_LAST, reverse=True)
    for at, member in enumerate(pending):
        if member.may_have_answered():
            member.receive()
        while member.is_pending:
            if member.unsent or time.perf_counter() >= until:
                return pending[at:]
            last = member
            for descriptor, _ in member.watch.poll(_BRIEF_MS):
                if not _look(member, member.watched[descriptor]):
                    member.watch.unregister(descriptor)
                if not member.is_pending:
                    break
    if last is not None and not last.was_last:
        for member in pending:
            member.was_last = member is last
    return []


def _spin(members: Sequence[Member], pending: list[Member], least: int) -> list[Member]:
    until = time.perf_counter() + _SPIN_S
    while True:
        answered = False
        for member in pending:
            if member.may_have_answered():
                member.receive()
                answered = answered or not member.is_pending
        if answered:
            pending = [member for member in pending if member.is_pending]
        if len(members) - len(pending) >= least or time.perf_counter() >= until:
            return pending
        os.sched_yield()


def _block(pending: list[Member], least: int) -> None:
    poll = select.poll()
    by_descriptor: dict[int, tuple[Member, Watched]] = {}
    until: dict[int, float] = {}
    for member in pending:
        until[id(member)] = member.deadline.until
        events = select.POLLIN | (select.POLLOUT if member.unsent else 0)
        for descriptor, what in member.watched.items():
            by_descriptor[descriptor] = member, what
            poll.register(descriptor, events if what == "channel" else select.POLLIN)
    while least > 0:
        waiting = [member for member in pending if member.is_pending]
        left = min(until[id(member)] for member in waiting) - time.monotonic()
        ready = poll.poll(min(max(left, 0.0), _LOOK_S) * 1000)
        for descriptor, _ in ready:
            member, what = by_descriptor[descriptor]
            if not member.is_pending:
                poll.unregister(descriptor)  # it has its reply
            elif not _look(member, what):
                poll.unregister(descriptor)
            elif what == "channel" and not member.unsent:
                poll.modify(descriptor, select.POLLIN)
        now = time.monotonic()
        for member in waiting:
            if not member.is_pending:
                least -= 1
            elif until[id(member)] <= now:  # also while something comes
                if member.process.is_killed:
                    member.ended()  # it cannot be killed: whoever reaps it is told so
                    least -= 1
                    continue
                member.process.kill(member.deadline.reason, member.deadline.passed)
                until[id(member)] = now + _CLOSE_S


def _look(member: Member, what: Watched) -> bool:
    """See to a descriptor; return whether more may come from it."""
    if what == "output":
        return member.read_output()
    if what == "end":
        member.ended()
        return False
    if member.unsent:
        member.send()
    return member.receive()
