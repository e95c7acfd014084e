"""A zygote of nothing but envhub_sandbox. Its sessions execute the code that they are sent.

Runs inside a sandbox: `python -I -S -B /opt/inside.py SPEC CONTROL`. SPEC is JSON:
{"limits": {…}, "first": code, "prepare": code}; `first` runs before anything of the package
has been used, which is where a control leaves a layer out.

A session gets one frame {"code": text, "given": {…}}. It exits with 0 when the code reached
its end, and else with 1 after a traceback. `say` and `hear` speak with the owner meanwhile.
"""

import json
import os
import socket
import sys
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from envhub_sandbox import isolate, seccomp, syscalls, tiers, zygote  # noqa: F401
from envhub_sandbox.policy import Limits

GROUND = tiers.take_ground()


def main() -> None:
    spec = json.loads(sys.argv[1])
    exec(spec["first"], globals())

    def prepare() -> dict[str, str]:
        exec(spec["prepare"], globals())
        return {}

    zygote.run(
        socket.socket(fileno=int(sys.argv[2])),
        GROUND,
        prepare=prepare,
        begin=begin,
        limits=Limits.from_dict(spec["limits"]),
    )


def begin(descriptors: list[int]) -> None:
    owner = socket.socket(fileno=descriptors[0])
    words = owner.makefile("rwb", buffering=0)

    def say(word: object) -> None:
        words.write(json.dumps(word).encode() + b"\n")

    def hear() -> object:
        return json.loads(words.readline())

    wish = json.loads(words.readline())
    names = {"given": wish["given"], "say": say, "hear": hear, "owner": owner}
    try:
        exec(compile(wish["code"], "<attack>", "exec"), names)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
