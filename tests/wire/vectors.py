"""Each message of the native protocol as bytes, for clients in other languages.

`python -m tests.wire.vectors` writes docs/protocol-vectors.json; a test holds it true.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from envhub.wire import arrays, blobs, infos, native
from envhub.wire.native import Frame
from envhub.wire.vector import Box, Discrete, Failure, encode_space

FILE = Path(__file__).parents[2] / "docs" / "protocol-vectors.json"
_KEY = bytes(range(16))
_MAP = msgspec.msgpack.encode({"seed": 7})
_EMPTY = msgspec.msgpack.encode({})
_BATCH = bytes([1, 2]).ljust(64, b"\0") + np.array([3, 0], "<i8").tobytes().ljust(64, b"\0")
_RESULTS = [np.array([1.0, 0.0]), np.array([[True, False], [False, False]])]
_SEEN = [*_RESULTS, np.array([[0.5, 1.5], [0.0, 0.0]], "<f4")]

REQUESTS: dict[str, Frame] = {
    "open": Frame(0, 0, [native.Open(1, _KEY, "echo", "")]),
    "open of one schema": Frame(0, 0, [native.Open(1, _KEY, "echo", "sha256:00")]),
    "resume": Frame(0, 0, [native.Resume(5, _KEY)]),
    "reset": Frame(0, 0, [native.Reset(1, 1, 0, _MAP)]),
    "step": Frame(0, 0, [native.Step(1, 2, 1, msgspec.msgpack.encode({"message": "hi"}))]),
    "step in parts": Frame(0, 0, [native.Step(1, 3, 2, _EMPTY, True)]),
    "continue": Frame(0, 0, [native.Continue(1, 4, 3)]),
    "state": Frame(0, 0, [native.State(1, 5, 4)]),
    "describe": Frame(0, 0, [native.Describe(1, 6, 5)]),
    "gather": Frame(0, 0, [native.Gather(1, 1, 0, 2, "next_step", _EMPTY)]),
    "gather, with seeds, a vectorised class": Frame(
        0, 0, [native.Gather(1, 1, 0, 2, "next_step", b"", True, (7, None))]
    ),
    "reset of many": Frame(
        0, 0, [native.Reset(1, 2, 1, blobs.encode(blobs.Resets(b"\2\2", (7, None), _EMPTY)))]
    ),
    "a step of the first, and a reset of the second": Frame(
        0, 0, [native.Step(1, 3, 2, _BATCH)]
    ),
    "ask": Frame(0, 0, [native.Ask(1, 4, 3, "gravity", infos.encode_info([[], {}]))]),
    "ask, to set": Frame(
        0, 0, [native.Ask(1, 5, 4, "gravity", infos.encode_info([[9.5, 9.5], {}]), True)]
    ),
    "cancel": Frame(0, 0, [native.Cancel(1, 7)]),
    "bill": Frame(0, 0, [native.Bill(1)]),
    "close": Frame(0, 0, [native.Close(1)]),
    "large numbers": Frame(0, 0, [native.Step(2**32 - 1, 2**53 - 1, 2**53 - 2, b"\xc0")]),
    "a batch, the first 2 of 3": Frame(
        1, 2, [native.Step(session, 9, 8, _EMPTY) for session in (1, 2, 3)]
    ),
}
REPLIES: dict[str, list[native.Reply]] = {
    "opened": [native.Opened(1, "echo", "1.0.0", 0, 60.0, {"step_s": 60.0, "processes": 64})],
    "process": [
        native.Process(
            1,
            4711,
            "strict",
            "bubblewrap",
            ("pid namespace", "seccomp"),
            ("seccomp",),
            65534,
            (),
        )
    ],
    "observed": [
        native.Observed(1, 2, _MAP, 2.0, False, False, _EMPTY, False, ""),
    ],
    "observed without a reward": [
        native.Observed(1, 1, _MAP, None, True, False, _EMPTY, True, "printed\n"),
    ],
    "finished": [native.Finished(1, 4)],
    "read": [native.Read(1, 5, _MAP)],
    "described": [
        native.Described(1, 6, "Echo", "Says it again.", b"{}", b"{}", b"{}", b"{}", ("seed",))
    ],
    "described, any option": [
        native.Described(1, 6, "Echo", "", b"{}", b"{}", b"{}", b"{}", None)
    ],
    "gathered": [
        native.Gathered(
            1,
            1,
            encode_space(Discrete(4, 0, "<i8")),
            encode_space(Box("<f4", (2,), b"\0\0\0\0", b"\0\0\x80?")),
            _EMPTY,
            None,
        )
    ],
    "observed by many, of which the second has raised": [
        native.Observed(
            1,
            3,
            b"".join(a.tobytes().ljust(64, b"\0") for a in _SEEN),
            None,
            False,
            False,
            blobs.encode(
                blobs.Told(
                    infos.encode_info([[0, {"lives": 3}]]),
                    (Failure(1, "environment_failed", "trouble", "Traceback…"),),
                )
            ),
            False,
            "",
        )
    ],
    "billed": [native.Billed(1, {"calls": 3, "cpu_s": 0.25})],
    "closed": [native.Closed(1)],
    "failed": [
        native.Failed(
            1,
            7,
            "deadline_exceeded",
            "`step` was not answered within 1 s",
            "",
            {"verdict": "deadline", "limit": "step_s", "allowed": 1.0, "observed": 1.25},
        )
    ],
    "two at once": [native.Closed(1), native.Closed(2)],
}
# what actions and observations may be, beside text, truth values, nil, arrays and maps
INSIDE: dict[str, Any] = {
    "integers": [0, 127, 128, -32, -33, 255, 256, -128, -129, 2**16, -(2**15) - 1, 2**32],
    "numbers with a fraction": [0.5, 2.0, -1e300],
    "an array of numbers": {
        "image": np.array([[0, 1.5, -2], [3, 4, 5]], dtype="<f4"),
        "mask": np.array([True, False]),
        "empty": np.zeros((0, 2), dtype="<i8"),
    },
}


def plain(value: Any) -> Any:
    """Return a decoded value as JSON, with {kind: content} for what JSON has not."""
    if isinstance(value, bytes):
        return {"bin": value.hex()}
    if isinstance(value, float):
        return {"float": value}
    if isinstance(value, msgspec.msgpack.Ext):
        return {"array": plain(msgspec.msgpack.decode(value.data))}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


def table() -> list[dict[str, Any]]:
    """Return the vectors, as they stand in the file."""
    sent = [("client", name, native.encode(frame)) for name, frame in REQUESTS.items()]
    heard = [
        ("hub", name, native.joined([native.encode(reply) for reply in replies]))
        for name, replies in REPLIES.items()
    ]
    inside = [("either", name, arrays.ENCODER.encode(value)) for name, value in INSIDE.items()]
    return [
        {
            "from": side,
            "what": name,
            "frame" if side != "either" else "value": plain(msgspec.msgpack.decode(data)),
            "bytes": data.hex(),
        }
        for side, name, data in sent + heard + inside
    ]


def text() -> str:
    """Return the file's text."""
    lines = ",\n".join(json.dumps(row) for row in table())
    return f"[\n{lines}\n]\n"


if __name__ == "__main__":
    FILE.write_text(text())
