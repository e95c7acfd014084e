"""`python player.py URL asyncio|uvloop`: OpenEnv's own client plays, a connection a session."""

import asyncio
import sys
from contextlib import AsyncExitStack

import uvloop
from echo_env import EchoAction, EchoEnv

from bench.playing import Echoed, each, obey


class Player:
    def __init__(self, url):
        self._url = url

    async def open(self, sessions):
        self._stack = AsyncExitStack()
        self._steps = []
        for number in range(sessions):
            env = await self._stack.enter_async_context(EchoEnv(base_url=self._url))
            await env.reset()
            self._steps.append(_steps(env, Echoed(number)))

    async def play(self, until):
        return await each(self._steps, until)

    async def close(self):
        await self._stack.aclose()


def _steps(env, echoed):
    async def step():
        result = await env.step(EchoAction(message=echoed.next()))
        echoed.check(result.observation.message)

    return step


if __name__ == "__main__":
    run = {"asyncio": asyncio.run, "uvloop": uvloop.run}[sys.argv[2]]
    run(obey(Player(sys.argv[1])))
