"""Plain literals as JSON: what a function under test may take and give.

Only the value travels, rebuilt from nothing on the other side: an object whose `__eq__`
always says yes arrives as an error, a subclass of `int` arrives as an `int`. Standard
library only, for it also runs beside agent code. Tagged forms: {"t": […]} is a tuple,
"s" a set, "z" a frozenset, "d" a dict as pairs, "b" bytes, "c" a complex, "f" a float that
JSON has no number for.
"""

from __future__ import annotations

import base64
import binascii
import math
from typing import Any

MAX_DEPTH = 32
MAX_VALUES = 200_000
MAX_HASHED = 5_000  # keys and members: if all of them collide, a tenth of a second
MAX_INT_BITS = 4096  # past it, conversion to text is refused by Python itself


class NotPlain(ValueError):
    """A value that is not a plain literal, or too deep or too large for one."""


def to_json(value: object) -> Any:
    """Return what `json.dumps` can write for a plain literal.

    Raises:
        NotPlain: it is something else.
    """
    return _Writer().write(value, 0)


def from_json(data: Any) -> Any:
    """Return the literal that `to_json` was given.

    Raises:
        NotPlain: it is not what `to_json` writes.
    """
    return _Reader().read(data, 0)


class _Counter:
    def __init__(self) -> None:
        self._seen = 0
        self._hashed = 0

    def count(self, depth: int) -> None:
        self._seen += 1
        if depth > MAX_DEPTH:
            raise NotPlain(f"nested deeper than {MAX_DEPTH}")
        if self._seen > MAX_VALUES:
            raise NotPlain(f"more than {MAX_VALUES} values")

    def count_hashed(self, number: int) -> None:
        self._hashed += number
        if self._hashed > MAX_HASHED:
            raise NotPlain(f"more than {MAX_HASHED} keys and members of sets")


class _Writer(_Counter):
    def write(self, value: object, depth: int) -> Any:
        self.count(depth)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            return _checked_int(int.__index__(value))
        if isinstance(value, float):
            number = float.__float__(value)
            return number if math.isfinite(number) else {"f": float.__repr__(number)}
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, list):
            return [self.write(item, depth + 1) for item in list.__iter__(value)]
        if isinstance(value, tuple):
            return {"t": [self.write(item, depth + 1) for item in tuple.__iter__(value)]}
        if isinstance(value, dict):
            pairs = dict.items(value)
            self.count_hashed(len(pairs))
            return {
                "d": [[self.write(k, depth + 1), self.write(v, depth + 1)] for k, v in pairs]
            }
        if isinstance(value, bytes | bytearray):
            return {"b": base64.b64encode(value).decode()}
        if isinstance(value, set | frozenset):
            self.count_hashed(set.__len__(value) if isinstance(value, set) else len(value))
        if isinstance(value, frozenset):
            return {"z": [self.write(item, depth + 1) for item in frozenset.__iter__(value)]}
        if isinstance(value, set):
            return {"s": [self.write(item, depth + 1) for item in set.__iter__(value)]}
        if isinstance(value, complex):
            return {"c": [self.write(part, depth + 1) for part in (value.real, value.imag)]}
        raise NotPlain(f"a `{type(value).__name__}` is not a plain literal")


class _Reader(_Counter):
    def read(self, data: Any, depth: int) -> Any:
        self.count(depth)
        if data is None or isinstance(data, bool | str | float):
            return data
        if isinstance(data, int):
            return _checked_int(data)
        if isinstance(data, list):
            return [self.read(item, depth + 1) for item in data]
        if not isinstance(data, dict) or len(data) != 1:
            raise NotPlain("not a tagged value")
        ((tag, body),) = data.items()
        try:
            return self._tagged(tag, body, depth)
        except (TypeError, ValueError, KeyError, binascii.Error) as error:
            if isinstance(error, NotPlain):
                raise
            raise NotPlain(f"not a value of tag `{tag}`: {error}") from None

    def _tagged(self, tag: str, body: Any, depth: int) -> Any:
        if tag == "b":
            return base64.b64decode(body, validate=True)
        if tag == "f":
            return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[body]
        if not isinstance(body, list):
            raise NotPlain(f"tag `{tag}` without a list")
        if tag in ("d", "s", "z"):
            self.count_hashed(len(body))
        if tag == "d":
            return {
                self.read(key, depth + 1): self.read(value, depth + 1) for key, value in body
            }
        items = [self.read(item, depth + 1) for item in body]
        if tag == "c":
            return complex(*items)
        kinds: dict[str, type] = {"t": tuple, "s": set, "z": frozenset}
        if tag not in kinds:
            raise NotPlain(f"unknown tag `{tag}`")
        return kinds[tag](items)


def _checked_int(value: int) -> int:
    if value.bit_length() > MAX_INT_BITS:
        raise NotPlain(f"an int of {value.bit_length()} bits")
    return value
