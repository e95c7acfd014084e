"""The log of `envhub serve`: a line for each event on standard error, as text or as JSON.

A line is written by a thread of its own. Whoever reads the log may be slow, or not read at
all; then lines are dropped and counted, and no session waits. Text of others cannot steer a
terminal, begin a line of its own or fill a disk: it is escaped, and cut.
"""

from __future__ import annotations

import atexit
import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from envhub.cli.terminal import shown
from envhub.hub.accounts.events import LOGGER, Event

FORMATS = ("text", "json")
LEVELS = ("debug", "info", "warning", "error")
_STDERR = 2
_LONGEST_CHARS = 2000  # of one field
_WAITING = 10_000  # lines
_AT_ONCE = 16  # lines; a pipe takes them whole, as a rule
_PAUSE_S = 0.01  # or each of many lines would wake the thread that writes it
_LAST_WORDS_S = 2.0  # for lines to be written at the end
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:/+")
Row = dict[str, Any]


def begin(form: str, level: str) -> None:
    """Write what is logged from now on to standard error, until the process ends.

    Args:
        form: of FORMATS.
        level: of LEVELS; of others' libraries, warnings and errors only, whatever it is.
    """
    writer = Writer(as_json if form == "json" else as_text)
    logging.getLogger().addHandler(writer)
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    logging.getLogger(LOGGER.partition(".")[0]).setLevel(level.upper())
    atexit.register(writer.finish)


def row(record: logging.LogRecord) -> Row:
    """Return what a line says, in order, with every text made harmless."""
    when = datetime.fromtimestamp(record.created, UTC)
    found: Row = {
        "time": when.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record.levelname.lower(),
    }
    if isinstance(record.msg, Event):
        found |= {"event": record.msg.what, **record.msg.fields}
    else:
        found |= {"event": "message", "logger": record.name, "message": record.getMessage()}
    if record.exc_info:
        found["traceback"] = logging.Formatter().formatException(record.exc_info)
    return {name: _harmless(v) if isinstance(v, str) else v for name, v in found.items()}


def as_json(found: Row) -> bytes:
    """Return a line of JSON."""
    return msgspec.json.encode(found) + b"\n"


def as_text(found: Row) -> bytes:
    """Return a line for people; a word with a blank or a quote in it is in quotes."""
    said = {name: found[name] for name in ("time", "level", "event")}
    words = [said["time"], f"{said['level']:<7}", said["event"]]
    words += [f"{name}={_quoted(v)}" for name, v in found.items() if name not in said]
    return " ".join(words).encode() + b"\n"


class Writer(logging.Handler):
    """Writes lines without ever making their authors wait.

    Args:
        form: makes a line of what it says.
        descriptor: where to write.
    """

    def __init__(self, form: Callable[[Row], bytes], descriptor: int = _STDERR) -> None:
        super().__init__()
        self._form = form
        self._descriptor = descriptor
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._dropped = 0
        self._thread: threading.Thread | None = threading.Thread(
            target=self._write, name="log", daemon=True
        )
        try:
            self._thread.start()
        except RuntimeError:  # the machine has none left: then lines are written as they come
            self._thread = None

    def emit(self, record: logging.LogRecord) -> None:
        """Have a record written, or drop it if too many wait already."""
        if self._lines.qsize() >= _WAITING:
            self._dropped += 1
            return
        try:
            dropped, self._dropped = self._dropped, 0
            if dropped:
                self._lines.put(self._form(row(_about(dropped))))
            self._lines.put(self._form(row(record)))
        except Exception:
            self.handleError(record)
        if self._thread is None:
            self._lines.put(None)
            self._write()

    def finish(self) -> None:
        """Write what waits, but not for long. Idempotent."""
        if self._thread is not None:
            self._lines.put(None)
            self._thread.join(_LAST_WORDS_S)

    def _write(self) -> None:
        is_end = False
        while not is_end:
            lines = [self._lines.get()]
            while lines[-1] is not None and len(lines) < _AT_ONCE and not self._lines.empty():
                lines.append(self._lines.get())
            is_end = lines[-1] is None
            data = b"".join(line for line in lines if line is not None)
            try:
                while data:
                    data = data[os.write(self._descriptor, data) :]
            except OSError:
                pass  # nobody reads any more
            if not is_end and self._lines.empty():
                time.sleep(_PAUSE_S)


def _is_news(record: logging.LogRecord) -> bool:
    """Whether it is none of those that uvicorn logs for each handshake that we refuse."""
    return record.getMessage() != "ASGI callable returned without completing handshake."


def _about(dropped: int) -> logging.LogRecord:
    event: Any = Event("lines dropped", {"lines": dropped})
    return logging.LogRecord(LOGGER, logging.WARNING, "", 0, event, None, None)


def _harmless(text: str) -> str:
    """Return text with what steers a terminal written out, and its middle cut if it is long."""
    if len(text) > _LONGEST_CHARS:
        half = _LONGEST_CHARS // 2
        text = f"{text[:half]} … {text[-half:]}"
    return shown(text)


def _quoted(value: Any) -> str:
    if not isinstance(value, str):
        return f"{value}"
    if value and _PLAIN.issuperset(value):
        return value
    return msgspec.json.encode(value).decode()
