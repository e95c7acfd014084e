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
# what happens, and what that means: the table of docs/operations.md
EVENTS = {
    "session opened": "and how long that took",
    "session not opened": "its place was given back: `code` says why; one a second for each",
    "session closed": "`why`: `closed` by its client, `idle`, `operator`, `hub closed`",
    "call failed": "at level debug: the environment raised, or the client misused it",
    "episode lost": "with its process: `code` and `cause` say why, and at which limit",
    "worker started": "its zygote has imported the environment",
    "worker replaced": "another one has, after one that ended",
    "worker died": "by itself, and every session process of it",
    "worker wedged": "its zygote does not answer; its sessions go on without it",
    "environment broken": "it cannot be started; `output` is the end of what it printed",
    "clients refused": "`why`, and how many since the last such line; at most one in a second",
    "drain begins": "no more sessions are opened; `sessions` are waited for",
    "door closes": "no more connections are accepted",
    "lines dropped": "nobody read the log fast enough",
    "message": "another library's, or a bug: with `logger`, `message`, perhaps `traceback`",
}

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
    """Log one of EVENTS, if anybody listens."""
    assert what in EVENTS
    if _log.isEnabledFor(level):
        _log.log(level, Event(what, fields))
