"""What a run has compared and what not, for the word at its end."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest


@dataclass(slots=True)
class Account:
    """By the name of an environment's folder.

    Args:
        compared: how many replies, and how many of them differ as declared.
        not_run: why it was not played.
    """

    compared: dict[str, tuple[int, int]] = field(default_factory=dict)
    not_run: dict[str, str] = field(default_factory=dict)


ACCOUNT = pytest.StashKey[Account]()
