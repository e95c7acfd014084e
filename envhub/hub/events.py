"""What happens in a hub, one line each, for whoever has asked the logging module for it.

Nobody who has not is shown anything: what goes wrong is also told to the caller whom it
concerns. An event has fields and no sentence; `envhub serve` writes them as text or as JSON.
Of a payload, a token or a header nothing is ever a field.
"""

from __future__ import annotations

import logging

DEBUG, INFO, WARNING = logging.DEBUG, logging.INFO, logging.WARNING
LOGGER = "envhub.events"
Field = str | int | float

_log = logging.getLogger(LOGGER)
_log.addHandler(logging.NullHandler())  # or a program that sets up no logging is shown warnings


class Event:
    """The message of a log record.

    Args:
        what: happened, in two or three words.
        fields: by name; empty text is left out.
    """

    def __init__(self, what: str, fields: dict[str, Field]) -> None:
        self.what = what
        self.fields = {name: value for name, value in fields.items() if value != ""}

    def __str__(self) -> str:
        return " ".join([self.what, *(f"{n}={v!r}" for n, v in self.fields.items())])


def tell(level: int, what: str, **fields: Field) -> None:
    """Log an event, if anybody listens."""
    if _log.isEnabledFor(level):
        _log.log(level, Event(what, fields))
