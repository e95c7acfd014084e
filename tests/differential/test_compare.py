"""The comparison itself can fail: what it overlooks, the suite would."""

from __future__ import annotations

import pytest

from tests.differential.differences import Difference
from tests.differential.masks import Mask, Words, masked
from tests.differential.replay import Reply
from tests.differential.test_differential import compare

ID = "0c6d3a4e-1b2c-4d5e-8f90-a1b2c3d4e5f{}"
SLOWER = Difference("slower", "it is", where="^talk 00", stock="fast", ours="slow")


def replies(*texts: str) -> list[Reply]:
    return [Reply("talk", f"talk {n:02}: x", text) for n, text in enumerate(texts)]


def hidden(*texts: str, masks: tuple[Mask | Words, ...] = ()) -> list[str]:
    return [reply.text for reply in masked(replies(*texts), masks, ["/where"])[0]]


def test_a_difference_of_one_byte_is_one() -> None:
    undeclared, occurred = compare(replies("a", '{"b":1}'), replies("a", '{"b": 1}'), [])

    assert len(undeclared) == 1
    assert undeclared[0].startswith("talk 01")
    assert not occurred


def test_a_reply_too_few_is_a_difference() -> None:
    undeclared, _ = compare(replies("a", "b"), replies("a"), [])

    assert len(undeclared) == 1


@pytest.mark.parametrize(
    ("stock", "ours", "expected"),
    [
        (["fast"], ["slow"], (0, 1)),
        (["fast"], ["slower"], (1, 0)),  # the whole reply must match
        (["a", "fast"], ["a", "slow"], (1, 0)),  # and the move
        (["fast"], ["fast"], (0, 0)),  # has not occurred: the suite fails for it
    ],
)
def test_only_what_is_declared_may_differ(
    stock: list[str], ours: list[str], expected: tuple[int, int]
) -> None:
    undeclared, occurred = compare(replies(*stock), replies(*ours), [SLOWER])

    assert (len(undeclared), occurred["slower"]) == expected


def test_ids_are_the_same_where_they_stay_and_change_alike() -> None:
    assert hidden(ID.format(1), ID.format(2), ID.format(1)) == ["<id 0>", "<id 1>", "<id 0>"]


def test_a_mask_leaves_places_types_and_the_order_of_keys() -> None:
    clock = Mask(("t",), "a clock")

    assert hidden('{"t":1,"a":[{"t":2.5}]}', masks=(clock,)) == [
        '{"t":"<int>","a":[{"t":"<float>"}]}'
    ]
    assert hidden('{"t":null}', masks=(clock,)) == ['{"t":null}']
    assert hidden('{"m":"say \\"t\\":1"}', masks=(clock,)) == ['{"m":"say \\"t\\":1"}']
    assert hidden('{"t":[1]}', masks=(Mask(("t",), "any", kinds=True),)) == ['{"t":"<any>"}']


def test_a_mask_that_hid_nothing_is_told() -> None:
    idle, needed = Mask(("t",), "a clock"), Words("[0-9]+", "a number")

    assert masked(replies("7", "/where/x"), (idle, needed), ["/where"]) == (
        replies("<words>", "<folder>/x"),
        {needed},
    )
