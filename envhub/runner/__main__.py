"""`python -m envhub.runner SPEC CONTROL`: the zygote that agent sandboxes are forked from.

SPEC is JSON: {"limits": {…}, "imports": […]}: modules to hold warm.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from importlib import import_module
from typing import Any

from envhub.runner import keeper
from envhub_sandbox import tiers, zygote
from envhub_sandbox.policy import Limits

# what nearly all agent code imports: paid once here, not in each of its processes
_WARM = ("collections", "heapq", "itertools", "math", "random", "re", "string", "typing")


def main() -> None:
    """Hold the packages warm, then fork agent sandboxes until the hub hangs up."""
    spec = json.loads(sys.argv[1])
    ground = tiers.take_ground()
    walls = keeper.walls(ground.grade)

    def prepare() -> dict[str, Any]:
        for name in (*_WARM, *spec["imports"]):
            import_module(name)
        return {}

    def begin(descriptors: list[int]) -> None:
        keeper.keep(socket.socket(fileno=descriptors[0]), walls)
        os._exit(0)

    zygote.run(
        socket.socket(fileno=int(sys.argv[2])),
        ground,
        prepare=prepare,
        begin=begin,
        limits=Limits.from_dict(spec["limits"]),
    )


if __name__ == "__main__":
    main()
