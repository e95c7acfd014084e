"""Every attack of the table, free and in a session, behind both launchers."""

from __future__ import annotations

from typing import Any

import pytest

from envhub_sandbox import Bind
from tests.sandbox.alone import Zygote, launchers
from tests.sandbox.attack import PRELUDE, Attack
from tests.sandbox.outside import freely
from tests.sandbox.table import ATTACKS

DEEPER = [(attack, *row) for attack in ATTACKS for row in attack.deeper]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: a.name)
def test_a_session_meets_a_wall(
    zygote: Zygote, attack: Attack, given_inside: dict[str, Any]
) -> None:
    ended = zygote.run(PRELUDE + attack.code, **given_inside)

    assert not ended.worked
    assert attack.meets in str(ended)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: a.name)
def test_without_the_wall_it_works(
    attack: Attack, given_free: dict[str, Any], given_inside: dict[str, Any], shown: Bind
) -> None:
    """The control: the attack is one."""
    if isinstance(attack.free, str):
        ran = freely(attack.code, given_free, owner=attack.free == "owner")
        worked, said = ran.returncode == 0, ran.stdout
    else:
        with Zygote(launchers()[0], extra=(shown,), left_out=attack.free) as zygote:
            ended = zygote.run(PRELUDE + attack.code, **given_inside)
        worked, said = ended.worked, str(ended)
    if not worked and attack.optional:
        pytest.skip(f"not possible on this machine at all: {attack.optional}")

    assert worked, said


@pytest.mark.parametrize(
    ("attack", "left_out", "meets"),
    DEEPER,
    ids=[f"{a.name}, without {' and '.join(left_out)}" for a, left_out, _ in DEEPER],
)
def test_behind_that_wall_is_another(
    attack: Attack,
    left_out: tuple[str, ...],
    meets: str,
    given_inside: dict[str, Any],
    shown: Bind,
) -> None:
    with Zygote(launchers()[-1], extra=(shown,), left_out=left_out) as zygote:
        ended = zygote.run(PRELUDE + attack.code, **given_inside)

    assert not ended.worked
    assert meets in str(ended)


# what works as soon as this alone is missing
EARNED = {
    ("seccomp",): "memory that is a file",
    ("landlock",): "escaping the killer of what runs out of memory",
    ("rlimits",): "40 processes",
    ("seccomp", "no further namespaces"): "a user namespace",
    ("seccomp", "no capabilities", "unprivileged user"): "a capability",
}


@pytest.mark.parametrize("left_out", EARNED, ids=" and ".join)
def test_a_layer_earns_its_place(
    left_out: tuple[str, ...], given_inside: dict[str, Any], shown: Bind
) -> None:
    (attack,) = [attack for attack in ATTACKS if attack.name == EARNED[left_out]]
    with Zygote(launchers()[-1], extra=(shown,), left_out=left_out) as zygote:
        ended = zygote.run(PRELUDE + attack.code, **given_inside)

    assert ended.worked, ended
