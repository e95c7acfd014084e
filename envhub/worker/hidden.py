"""Values that no error may carry: of the variables that an operator handed to an environment.

A client sees the environment's errors with their tracebacks, and a log may keep them. What the
environment prints or returns is its author's own business.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterable

_SHORTEST = 4  # "1" and "yes" are no secrets, and are in every text
_values: list[str] = []


def hide(variables: Iterable[str]) -> None:
    """Hide the values that these environment variables have."""
    found = [os.environ.get(name, "") for name in variables]
    _values.extend(sorted((v for v in found if len(v) >= _SHORTEST), key=len, reverse=True))


def without(text: str) -> str:
    """Return the text with stars in their place."""
    for value in _values:
        text = text.replace(value, "***")
    return text


def told(error: BaseException) -> BaseException:
    """Return the error, or, if it or its traceback has one of them, another that has not."""
    text = "".join(traceback.format_exception(error))
    return error if without(text) == text else RuntimeError(without(text))
