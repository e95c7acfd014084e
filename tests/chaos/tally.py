"""What a program did and saw. It outlives the program, for programs are killed, too."""

from __future__ import annotations

import json
import sys
import traceback
from collections import Counter
from typing import Any

from envhub.errors import EnvhubError

_MOST = 20  # descriptions of what must not be are kept


class Tally:
    """Counts of one program.

    Attributes:
        counts: by what was counted.
        errors: typed ones, by class.
        wrong: descriptions of what must not be.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.wrong: list[str] = []

    def right(self, what: str) -> None:
        """An observation was the expected one."""
        self.counts["operations"] += 1
        self.counts["right"] += 1
        self.counts[f"right: {what}"] += 1

    def error(self, error: EnvhubError) -> None:
        """A call raised a typed error."""
        self.counts["operations"] += 1
        name = type(error).__name__
        if name == "EnvhubError":  # "internal": a bug in envhub
            self.complain(f"a bug in envhub: {error}")
        self.errors[name] += 1

    def code(self, code: str, message: str) -> None:
        """A call was answered by a failure."""
        self.counts["operations"] += 1
        if code == "internal":
            self.complain(f"a bug in envhub: {message}")
        self.errors[f"code {code}"] += 1

    def complain(self, what: str) -> None:
        """Something was wrong."""
        self.counts["wrong"] += 1
        if len(self.wrong) < _MOST:
            self.wrong.append(what)

    def escaped(self, error: BaseException) -> None:
        """Something that is no EnvhubError has reached the program."""
        text = "".join(traceback.format_exception(error))[-2000:]
        self.complain(f"not typed: {type(error).__name__}: {text}")

    def print(self) -> None:
        """Say how far it is, as one line."""
        sys.stdout.write(json.dumps(self.as_dict()) + "\n")
        sys.stdout.flush()

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"counts": self.counts, "errors": self.errors, "wrong": self.wrong}

    def add(self, told: dict[str, Any]) -> None:
        """Add what another one counted."""
        self.counts.update(told["counts"])
        self.errors.update(told["errors"])
        self.wrong += told["wrong"]
