"""Uses an embedded hub once and says how that went, as JSON. Run in a context."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import envhub
from envhub_sandbox import SandboxError

_ENVS = Path(__file__).parents[2] / "envs"


async def use() -> dict[str, object]:
    """Play one step; a refusal is told by its type, its layer, and its hint."""
    try:
        async with envhub.Hub(_ENVS) as hub, hub.session("echo") as env:
            await env.reset()
            await env.step({"message": "here"})
            return {"tier": env.receipt.tier, "landlock": "landlock" in str(env.receipt)}
    except SandboxError as error:
        layer = getattr(error, "layer", "")
        name = type(error).__name__
        return {"refused": name, "layer": layer, "said": str(error), "hint": error.hint}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(use())))
