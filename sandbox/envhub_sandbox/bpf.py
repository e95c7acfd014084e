"""A small assembler for seccomp filters: a table of rules to bytes, by binary search.

A filter reads `struct seccomp_data` (number, architecture, instruction pointer, six
arguments) and returns what the kernel shall do (seccomp(2)). The rules are leaves of a tree
over the call numbers, so that a call costs about eight comparisons and not two hundred.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence

ALLOW = 0x7FFF0000
KILL_PROCESS = 0x80000000
_ERRNO = 0x00050000
_AUDIT_ARCH_X86_64 = 0xC000003E
_X32_BIT = 0x40000000  # numbers from here on are the x32 ABI, which has holes of its own

_LOAD, _JUMP_EQUAL, _JUMP_GREATER_EQUAL, _JUMP_SET = 0x20, 0x15, 0x35, 0x45
_JUMP, _RETURN, _AND = 0x05, 0x06, 0x54
_NUMBER_AT, _ARCH_AT, _ARGUMENTS_AT = 0, 4, 16

Leaf = tuple[bytes, ...]


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, value & 0xFFFFFFFF)


def _argument(index: int) -> bytes:
    """Load the low half of an argument; every argument that a rule reads is 32 bits wide."""
    return _instruction(_LOAD, _ARGUMENTS_AT + 8 * index)


def answer(action: int) -> Leaf:
    """Always do this."""
    return (_instruction(_RETURN, action),)


def refuse(number: int) -> int:
    """Return the action that fails the call with this errno."""
    return _ERRNO | number


def if_bits(index: int, mask: int, action: int) -> Leaf:
    """Do `action` if the argument has any bit of `mask`, else allow."""
    return (
        _argument(index),
        _instruction(_JUMP_SET, mask, 0, 1),
        *answer(action),
        *answer(ALLOW),
    )


def if_among(index: int, values: Sequence[int], action: int, *, mask: int = 0) -> Leaf:
    """Do `action` if the (masked) argument is one of `values`, else allow."""
    return _compare(index, values, mask, answer(ALLOW), answer(action))


def if_any(pairs: Sequence[tuple[int, int]], action: int) -> Leaf:
    """Do `action` if any of the (argument, value) pairs holds, else allow."""
    tests: list[bytes] = []
    for at, (index, value) in enumerate(pairs):
        to_action = 2 * (len(pairs) - at) - 1
        tests += [_argument(index), _instruction(_JUMP_EQUAL, value, to_action, 0)]
    return (*tests, *answer(ALLOW), *answer(action))


def unless_all(conditions: Sequence[tuple[int, int, int]], action: int) -> Leaf:
    """Do `action` unless every (argument, mask, value) holds: argument & mask == value."""
    tests: list[bytes] = []
    for at, (index, mask, value) in enumerate(conditions):
        to_action = 3 * (len(conditions) - at - 1) + 1
        compare = _instruction(_JUMP_EQUAL, value, 0, to_action)
        tests += [_argument(index), _instruction(_AND, mask), compare]
    return (*tests, *answer(ALLOW), *answer(action))


def unless_among(index: int, values: Sequence[int], action: int) -> Leaf:
    """Do `action` unless the argument is one of `values`."""
    return _compare(index, values, 0, answer(action), answer(ALLOW))


def _compare(index: int, values: Sequence[int], mask: int, other: Leaf, equal: Leaf) -> Leaf:
    tests = [
        _instruction(_JUMP_EQUAL, value, len(values) - at, 0) for at, value in enumerate(values)
    ]
    masked = (_instruction(_AND, mask),) if mask else ()
    return (_argument(index), *masked, *tests, *other, *equal)


def assemble(rules: Mapping[int, Leaf], *, newest: int, above: int) -> bytes:
    """Return the filter: `rules` by call number, ALLOW between them, `above` past `newest`.

    Another architecture and the x32 ABI are killed: their numbers mean other calls.
    """
    segments = list(_segments(rules, newest, answer(above)))
    prologue = (
        _instruction(_LOAD, _ARCH_AT),
        _instruction(_JUMP_EQUAL, _AUDIT_ARCH_X86_64, 1, 0),
        *answer(KILL_PROCESS),
        _instruction(_LOAD, _NUMBER_AT),
        _instruction(_JUMP_GREATER_EQUAL, _X32_BIT, 0, 1),
        *answer(KILL_PROCESS),
    )
    return b"".join((*prologue, *_tree(segments)))


def _segments(
    rules: Mapping[int, Leaf], newest: int, above: Leaf
) -> Iterable[tuple[int, Leaf]]:
    """Yield (first number, leaf) of each run of numbers that share a leaf."""
    last: Leaf | None = None
    for number in range(newest + 2):
        leaf = above if number > newest else rules.get(number, answer(ALLOW))
        if leaf != last:
            yield number, leaf
            last = leaf


def _tree(segments: Sequence[tuple[int, Leaf]]) -> list[bytes]:
    if len(segments) == 1:
        return list(segments[0][1])
    middle = len(segments) // 2
    low, high = _tree(segments[:middle]), _tree(segments[middle:])
    pivot = segments[middle][0]
    if len(low) <= 255:  # a conditional jump reaches no further
        return [_instruction(_JUMP_GREATER_EQUAL, pivot, len(low), 0), *low, *high]
    far = _instruction(_JUMP, len(low))
    return [_instruction(_JUMP_GREATER_EQUAL, pivot, 0, 1), far, *low, *high]
