"""A case is data: who attacks where, and the program of the attack. No I/O but the corpus.

The corpus is a folder of JSON files, one case in each, named for what it attacks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from envhub.wire.framing import HEADER
from envhub.wire.messages import Message, encode

CORPUS = Path(__file__).parent / "corpus"
OP = 3  # number of the call that is attacked: a reset and the step that arms come before it
Where = Literal["session", "make", "websocket", "http", "zygote"]
Call = Literal["step", "reset", "state", "describe", "close", "import", "loop", "fork", "hello"]
To = Literal["hub", "broker", "output"]
Thing = Literal["file", "itself", "hub", "child", "dead", "pipe"]


class Instruction(Struct, frozen=True, tag_field="do", tag=str.lower, omit_defaults=True):
    """One thing that a hostile process does; `hostile.py` has what each means."""


class Send(Instruction, frozen=True):
    """Write bytes, given as text or as hexadecimal digits.

    Args:
        to: "hub" is the session's socket, or the zygote's control socket.
        text: in it, `$N` is the number of the fork that was asked for.
        hex: follows the text.
        times: how often the hexadecimal part.
        chop: bytes in each write; 0 for all at once.
        pause_s: after each write.
    """

    to: To = "hub"
    text: str = ""
    hex: str = ""
    times: int = 1
    chop: int = 0
    pause_s: float = 0.0

    @property
    def data(self) -> bytes:
        """All that is written."""
        return self.text.encode() + bytes.fromhex(self.hex) * self.times


class Pass(Instruction, frozen=True):
    """Send bytes with descriptors (SCM_RIGHTS)."""

    things: tuple[Thing, ...]
    to: To = "hub"
    text: str = ""
    hex: str = ""

    @property
    def data(self) -> bytes:
        """The bytes beside the descriptors."""
        return self.text.encode() + bytes.fromhex(self.hex)


class Urgent(Instruction, frozen=True):
    """Send one byte out of band (MSG_OOB)."""


class Sleep(Instruction, frozen=True):
    """Do nothing for a while."""

    s: float


class Die(Instruction, frozen=True):
    """End the process."""

    how: Literal["exit", "kill", "crash"] = "exit"
    code: int = 0


class Hang(Instruction, frozen=True):
    """Close a descriptor for good, or only shut it for writing."""

    what: To = "hub"
    how: Literal["close", "shut"] = "close"


class Thread(Instruction, frozen=True):
    """Run a program beside the honest work; its calls go on being answered."""

    program: tuple[Program, ...]


class Mute(Instruction, frozen=True):
    """Leave out the honest answer; later calls are answered."""


class Crowd(Instruction, frozen=True):
    """Fork; the children run the rest of the program, too."""

    count: int = 3


class Deaf(Instruction, frozen=True):
    """Undo the wish to die with the parent.

    Args:
        signal: to wish for instead; 0 for none.
    """

    signal: int = 0


class Flood(Instruction, frozen=True):
    """Write a text many times, each by itself; `$I` in it counts."""

    text: str
    times: int
    to: To = "hub"


class Stay(Instruction, frozen=True):
    """In a zygote: sessions go on when the hub has hung up."""


class Really(Instruction, frozen=True):
    """Do what an honest zygote does when it is asked to fork."""


Program = (
    Send | Pass | Urgent | Sleep | Die | Hang | Mute
    | Thread | Crowd | Deaf | Flood | Stay | Really
)  # fmt: skip


class Case(Struct, frozen=True, omit_defaults=True):
    """An attack.

    Args:
        attacks: what, in a few words.
        where: through which of the hub's shells; "zygote" is code at import.
        call: during which call of the hub's, or at which moment of a zygote's life.
        program: what is done instead of an honest answer, and before it.
        expect: the outcomes that are right; None asks `permitted`.
        hurried: deadlines are short, for it is meant to reach one.
        times: how often it is played: it may be a race.
        since: number of the first fork that a zygote turns against; it is honest before.
        bug: why this fails today; "" for what must pass.
    """

    attacks: str
    where: Where = "session"
    call: Call = "step"
    program: tuple[Program, ...] = ()
    expect: tuple[str, ...] | None = None
    hurried: bool = False
    times: int = 1
    since: int = 0
    bug: str = ""

    @property
    def environment(self) -> str:
        """Which of the hostile environments plays it."""
        kind = "zygote" if self.where == "zygote" else "hostile"
        return f"hurried-{kind}" if self.hurried else kind


def as_data(program: tuple[Program, ...]) -> list[dict[str, object]]:
    """Return what `hostile.py` reads."""
    data: list[dict[str, object]] = msgspec.to_builtins(program)
    return data


def frame(message: Message) -> Send:
    """Return the instruction to send a message as the hub expects it."""
    data = encode(message)
    return Send(hex=(HEADER.pack(len(data)) + data).hex())


def packet(**fields: object) -> Send:
    """Return the instruction to send a zygote's JSON packet."""
    return Send(text=json.dumps(fields))


def read(path: Path) -> Case:
    """Return the case in a file of the corpus."""
    return msgspec.json.decode(path.read_bytes(), type=Case)


def save(case: Case, name: str, folder: Path = CORPUS) -> Path:
    """Write a case into the corpus."""
    path = folder / f"{name}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(case)) + b"\n")
    return path


def corpus(folder: Path = CORPUS) -> Iterator[tuple[str, Case]]:
    """Yield every case by name."""
    for path in sorted(folder.glob("*.json")):
        yield path.stem, read(path)
