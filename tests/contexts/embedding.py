"""Uses an embedded hub once and says how that went, as JSON. Run in a context.

`python -m tests.contexts.embedding [ISOLATION]`: echo, and an agent's code in coding.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import envhub
from envhub_sandbox import SandboxError

_ENVS = Path(__file__).parents[2] / "envs"


async def use(isolation: str) -> dict[str, object]:
    """Play one step; a refusal is told by its type, its layer, and its hint."""
    try:
        async with envhub.Hub(_ENVS, isolation=isolation) as hub:
            async with hub.session("echo") as env:
                await env.reset()
                await env.step({"message": "here"})
                receipt = env.receipt
            async with hub.session("coding") as env:
                await env.reset()
                ran = await env.step({"code": "open('x', 'w').write('!'); print(6 * 7)"})
                killed = await env.step({"code": "import os; os.kill(-1, 9)"})
                kept = await env.step({"code": "print(open('x').read())"})
                said = [seen.observation["stdout"] for seen in (ran, killed, kept)]
            landlock = any("landlock" in layer for layer in receipt.layers)
            return {"tier": receipt.tier, "landlock": landlock, "printed": said}
    except SandboxError as error:
        layer = getattr(error, "layer", "")
        name = type(error).__name__
        return {"refused": name, "layer": layer, "said": str(error), "hint": error.hint}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(use(sys.argv[1] if len(sys.argv) > 1 else "strict"))))
