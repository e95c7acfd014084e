"""A zygote dies with its launcher; code that it imports cannot undo that."""

from __future__ import annotations

import signal

import pytest

from envhub_sandbox import syscalls
from envhub_sandbox.sysno import X86_64
from tests.sandbox.test_seccomp import SESSION, ZYGOTE, action


@pytest.mark.parametrize("number", [0, signal.SIGTERM, signal.SIGINT, 64, 2**32 - 1])
def test_a_zygote_may_wish_for_no_other_signal_than_the_one_that_nobody_ignores(
    number: int,
) -> None:
    """As process 1 of a namespace it ignores whatever else it does not handle."""
    prctl, option = X86_64["prctl"], syscalls.PR_SET_PDEATHSIG

    assert action(ZYGOTE, prctl, option, number) == "EPERM"
    assert action(ZYGOTE, prctl, option | 1 << 32, number) == "EPERM"  # an int to the kernel


def test_it_may_wish_for_that_one_and_use_every_other_option() -> None:
    """Its children ask for it when they are isolated, under the zygote's filter."""
    prctl = X86_64["prctl"]

    assert action(ZYGOTE, prctl, syscalls.PR_SET_PDEATHSIG, signal.SIGKILL) == "allow"
    for option in (0, 2, syscalls.PR_SET_NO_NEW_PRIVS, syscalls.PR_SET_DUMPABLE):
        assert action(ZYGOTE, prctl, option, 0) == "allow"
    assert action(SESSION, prctl, syscalls.PR_SET_PDEATHSIG, 0) == "allow"
