"""MessagePack from a hostile peer: few values, and keys of maps that are text, or few.

A byte can become an object of a hundred, so what is long is counted before it is decoded.

Python's hashes of numbers and tuples are known to everybody, so a map with thousands of keys
that all collide takes minutes to build (https://bugs.python.org/issue13703). Hashes of text
are secret. msgspec builds whatever keys there are, so they are looked at before.
"""

from __future__ import annotations

MAX_DEPTH = 512  # the interpreter's own limit is another in each of its versions
MAX_VALUES = 4_000_000  # that are looked at; about a second
LEAST_BYTES = 3 + 2 * 16  # of a large map; what is shorter needs no check
_UNCOUNTED_BYTES = 512 * 1024  # as many values at most
_CONTAINER, _EXTENSION = 8, 32  # what they weigh: so many times a number in memory, and time
_MAP16, _MAP32 = b"\xde", b"\xdf"  # smaller ones have at most 15 entries
# first byte → bytes that follow: of the value itself, or of its length
_FIXED = {
    0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8,
    0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17,
}  # fmt: skip
_SIZED = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xC7: 1, 0xC8: 2, 0xC9: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
_EXTENSIONS = (0xC7, 0xC8, 0xC9)
_ARRAYS = {0xDC: 2, 0xDD: 4}
_MAPS = {0xDE: 2, 0xDF: 4}
_TEXTS = (0xD9, 0xDA, 0xDB)
_CONTAINERS = bytes((*range(0x80, 0xA0), 0xDC, 0xDD, 0xDE, 0xDF))


def check(data: bytes) -> None:
    """Refuse MessagePack of too many values, too deep, or with a large map of keys not text.

    Large is a map of more than 15 entries. An array, a map or an extension weighs as much as
    several values.

    Bytes that are not MessagePack at all may pass: the decoder refuses them.

    Raises:
        ValueError: there is such a map, or too much to look at.
    """
    if (
        len(data) <= _UNCOUNTED_BYTES
        and _MAP16 not in data
        and _MAP32 not in data
        and (len(data) <= MAX_DEPTH or not _may_be_deep(data))
    ):
        return
    try:
        _walk(data)
    except IndexError:
        pass  # it ends too early, as the decoder will find


def _may_be_deep(data: bytes) -> bool:
    """Whether there are bytes for so many containers; most often there are not."""
    return len(data) - len(data.translate(None, _CONTAINERS)) > MAX_DEPTH


def _walk(data: bytes) -> None:
    at = seen = 0
    left, text_keys = 1, False  # values that the current array or map still has
    outer: list[tuple[int, bool]] = []
    while True:
        while not left:
            if not outer:
                return
            left, text_keys = outer.pop()
        head = data[at]
        at += 1
        seen += 1
        is_key = text_keys and left % 2 == 0
        left -= 1
        if is_key and not (0xA0 <= head <= 0xBF or head in _TEXTS):
            raise ValueError("a map with many keys that are not text")
        if len(outer) > MAX_DEPTH:
            raise ValueError(f"more than {MAX_DEPTH} values in each other")
        if seen > MAX_VALUES:
            raise ValueError(f"more than {MAX_VALUES} values")
        if head < 0x80 or head >= 0xE0:
            continue
        if head <= 0x9F:
            seen += _CONTAINER
            outer.append((left, text_keys))
            left, text_keys = (head & 15) * (2 if head <= 0x8F else 1), False
        elif head <= 0xBF:
            at += head & 31
        elif head in _FIXED:
            seen += _EXTENSION if head >= 0xD4 else 0
            at += _FIXED[head]
        elif width := _SIZED.get(head):
            seen += _EXTENSION if head in _EXTENSIONS else 0
            at += width + int.from_bytes(data[at : at + width]) + (head in _EXTENSIONS)
        elif width := _ARRAYS.get(head):
            seen += _CONTAINER
            outer.append((left, text_keys))
            left, text_keys = int.from_bytes(data[at : at + width]), False
            at += width
        elif width := _MAPS.get(head):
            seen += _CONTAINER
            outer.append((left, text_keys))
            left, text_keys = 2 * int.from_bytes(data[at : at + width]), True
            at += width
