"""What zygotes and fresh session processes say about themselves, decoded strictly.

The sandbox package speaks JSON, for it has the standard library only; see
`envhub_sandbox.zygote` for who says what when.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

Number = Annotated[int, Meta(ge=0, lt=2**53)]
Errno = Annotated[int, Meta(ge=0, lt=2**31)]


class FailedStart(Struct, forbid_unknown_fields=True):
    """Why a zygote could not start: a layer, or the environment's import."""

    layer: str = ""
    what: str = ""
    errno: Errno | None = 0
    hint: str = ""
    message: str = ""
    traceback: str = ""


class Ready(Struct, forbid_unknown_fields=True):
    """What the environment is, as far as its import tells.

    Args:
        title: its class's name; "" of a runner, which has no environment.
        cancels: its class has a `cancel`. That may be a lie: a deadline holds who is asked.
    """

    title: str = ""
    cancels: bool = False


class Packet(Struct, forbid_unknown_fields=True):
    """Whatever a zygote may say; see `envhub_sandbox.zygote`."""

    nests: bool | None = None
    ready: Ready | None = None
    failed: FailedStart | None = None
    pong: bool | None = None
    forked: Number | None = None
    refused: Number | None = None
    why: str = ""
    ended: Number | None = None
    status: int = 0
    cpu_s: float = 0.0
    peak_bytes: int = 0


PING = b"ping"  # to a zygote; it answers `pong`
PACKETS = msgspec.json.Decoder(Packet)


class Hello(Struct, forbid_unknown_fields=True):
    """A session process's first frame."""

    layers: tuple[str, ...] | None = None
    failed: tuple[str, str, Errno] | None = None


HELLOS = msgspec.json.Decoder(Hello)
