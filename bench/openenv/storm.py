"""`python storm.py URL`: many sessions at once, each for one step. For `bench.storm`.

Each line of standard input is a JSON object, how many sessions and how long their step takes;
the answer has the time of each session that came to its end, and what became of the others.
"""

import asyncio
import json
import sys
import time
from itertools import pairwise

import uvloop
import websockets

_PATIENCE_S = 120.0


async def session(url, wait_s):
    """Connect, reset, step and close; return how long that took in all, and until when."""
    times = [time.perf_counter()]
    # as OpenEnv's scaling study has it: no limit on how long a connection takes but the whole's
    async with websockets.connect(url, open_timeout=_PATIENCE_S, ping_interval=None) as link:
        times.append(time.perf_counter())
        await ask(link, {"type": "reset", "data": {}})
        times.append(time.perf_counter())
        told = await ask(link, {"type": "step", "data": {"wait_s": wait_s}})
        if told["observation"]["waited_s"] != wait_s:
            raise ValueError(f"a step of {wait_s} s came to {told}")
        times.append(time.perf_counter())
        await link.send(json.dumps({"type": "close", "data": {}}))
    times.append(time.perf_counter())
    return [b - a for a, b in pairwise(times)]


async def ask(link, message):
    await link.send(json.dumps(message))
    answer = json.loads(await asyncio.wait_for(link.recv(), _PATIENCE_S))
    if answer["type"] != "observation":
        raise ValueError(f"an answer of type {answer['type']}: {answer}")
    return answer["data"]


async def storm(url, sessions, wait_s):
    found = await asyncio.gather(
        *(session(url, wait_s) for _ in range(sessions)), return_exceptions=True
    )
    failures = {}
    for one in found:
        if isinstance(one, BaseException):
            words = f"{type(one).__name__}: {one}"[:200]
            failures[words] = failures.get(words, 0) + 1
    return {"times": [one for one in found if isinstance(one, list)], "failures": failures}


async def main(url):
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        told = json.loads(line)
        print(json.dumps(await storm(url, told["sessions"], told["wait_s"])), flush=True)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
