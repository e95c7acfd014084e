"""`python player.py URL asyncio|uvloop`: OpenEnv's own client plays, a connection a session."""

import asyncio
import sys

import uvloop
from echo_env import EchoAction, EchoEnv

from bench.playing import Echoed, each, obey, some_at_once


class Player:
    def __init__(self, url):
        self._url = url
        self._sessions = []

    async def open(self, sessions):
        opened = await some_at_once(self._open for _ in range(sessions))
        self._sessions = [env for env in opened if env is not None]
        return sessions - len(self._sessions)

    async def _open(self):
        env = EchoEnv(base_url=self._url)
        await env.connect()
        await env.reset()
        return env

    async def play(self, until):
        steps = (_steps(env, Echoed(at)) for at, env in enumerate(self._sessions))
        return await each(steps, until)

    async def close(self):
        await some_at_once(env.close for env in self._sessions)
        self._sessions.clear()


def _steps(env, echoed):
    async def step():
        result = await env.step(EchoAction(message=echoed.next()))
        echoed.check(result.observation.message)

    return step


if __name__ == "__main__":
    run = {"asyncio": asyncio.run, "uvloop": uvloop.run}[sys.argv[2]]
    run(obey(Player(sys.argv[1])))
