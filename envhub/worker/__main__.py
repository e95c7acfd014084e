"""`python -m envhub.worker SPEC CONTROL`: the zygote of one environment.

SPEC is JSON: {"format": "envhub", "openenv" or "gym", "entry": "env:Echo", "options": {…},
"folders": […], "limits": {…}, "variables": [names]}. CONTROL is the descriptor of the socket
to the hub.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from envhub.authoring import schema
from envhub.authoring.schema import Signature
from envhub.worker import hidden, rehearsal, session
from envhub.worker.answer import Answering
from envhub_sandbox import tiers, zygote
from envhub_sandbox.policy import Limits


class _Loaded:
    """What `prepare` leaves for every session process to find."""

    shell: session.Shell
    answering: Answering


def main() -> None:
    """Import the environment once, then fork session processes until the hub hangs up."""
    spec = json.loads(sys.argv[1])
    limits = Limits.from_dict(spec["limits"])
    hidden.hide(spec["variables"])
    loaded = _Loaded()

    def prepare() -> dict[str, Any]:
        try:
            environment, signature, on_loop = load(spec)
        except Exception as error:
            raise hidden.told(error) from None
        answering = Answering(environment, signature, limits.frame_bytes)
        loaded.shell = session.shell_for(on_loop, cancels=answering.cancels)
        loaded.answering = answering
        rehearsal.run(loaded.shell)
        if "gymnasium" in sys.modules:  # so that those who want many find this ready
            with suppress(ImportError):
                import_module("envhub.worker.vectors")
        return {"title": environment.__name__, "cancels": answering.cancels}

    def begin(descriptors: list[int]) -> None:
        session.run(loaded.shell, loaded.answering, descriptors)

    zygote.run(
        socket.socket(fileno=int(sys.argv[2])),
        tiers.take_ground(),
        prepare=prepare,
        begin=begin,
        limits=limits,
    )


def load(spec: dict[str, Any]) -> tuple[type, Signature, bool]:
    """Import an environment; return its class, its types, and whether it needs a loop.

    Raises:
        LookupError: the module has nothing of that name, or is no environment's.
    """
    entry = spec["entry"]
    if spec["format"] == "openenv":
        from envhub.worker import openenv

        return openenv.load(entry, spec["folders"])
    if spec["format"] == "gym":
        from envhub.worker import gym

        sys.path[:0] = spec["folders"]
        return gym.load(entry, spec["options"])
    folder = spec["folders"][-1]
    module, _, name = entry.partition(":")
    sys.path.insert(0, folder)  # this process serves this folder and nothing else
    os.chdir(folder)
    found = getattr(import_module(module), name, None)
    if not isinstance(found, type):
        raise LookupError(f"`{Path(folder) / module}.py` has no class `{name}`")
    os.chdir("/")
    return found, schema.read(found), session.is_async(found)


if __name__ == "__main__":
    main()
