"""A zygote dies with its launcher; code that it imports cannot undo that."""

from __future__ import annotations

import signal

import pytest

from envhub_sandbox import Grade, syscalls
from envhub_sandbox.seccomp import zygote_filter
from envhub_sandbox.sysno import X86_64
from envhub_sandbox.tiers import Ground
from tests.sandbox.test_seccomp import SESSION, ZYGOTE, action, program_of


@pytest.mark.parametrize("number", [0, signal.SIGTERM, signal.SIGINT, 64, 2**32 - 1])
def test_a_zygote_may_wish_for_no_other_signal_than_the_one_that_nobody_ignores(
    number: int,
) -> None:
    """As process 1 of a namespace it ignores whatever else it does not handle.

    It is told that it has what it asked for: libraries ask, and fail without.
    """
    prctl, option = X86_64["prctl"], syscalls.PR_SET_PDEATHSIG

    assert action(ZYGOTE, prctl, option, number) == "told that it was done"
    assert action(ZYGOTE, prctl, option | 1 << 32, number) == "told that it was done"


def test_it_may_wish_for_that_one_and_use_every_other_option() -> None:
    """Its children ask for it when they are isolated, under the zygote's filter."""
    prctl = X86_64["prctl"]
    ordered = program_of(zygote_filter(Ground(Grade("landlock"))))  # an executioner's signal

    assert action(ordered, prctl, syscalls.PR_SET_PDEATHSIG, signal.SIGTERM) == "allow"
    assert action(ZYGOTE, prctl, syscalls.PR_SET_PDEATHSIG, signal.SIGKILL) == "allow"
    for option in (0, 2, syscalls.PR_SET_NO_NEW_PRIVS, syscalls.PR_SET_DUMPABLE):
        assert action(ZYGOTE, prctl, option, 0) == "allow"
    assert action(SESSION, prctl, syscalls.PR_SET_PDEATHSIG, 0) == "allow"
