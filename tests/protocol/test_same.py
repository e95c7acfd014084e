"""One program, run embedded and remote: the results and the errors are the same."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import envhub
from envhub.errors import EnvhubError
from tests.protocol.conftest import FOLDERS

CODES = [
    "result = {'x': 1, 'reward': 0.5}",
    "print('printed'); result = {'x': [1, 2.5, None, 'é'], 'metadata': {'k': 1}}",
    "raise ValueError('mine')",
    "result = {'done': True}",
    "result = {}",  # after the end
    "import os; os._exit(7)",
    "result = {}",  # after the loss
]


def told(error: EnvhubError) -> tuple[object, ...]:
    """What a program can know of an error."""
    return type(error).__name__, str(error), vars(error)


async def program(hub: Any) -> list[object]:
    log: list[object] = []
    async with hub.session("probe") as env, hub.session("chain") as chain:
        for seed in (None, 7):
            result = await env.reset(seed=seed, note="n")
            log.append(result)
            for action in [*({"code": code} for code in CODES), {"cod": 1}, 5]:
                try:
                    log.append(await env.step(action))
                    log.append(env.output)
                except EnvhubError as error:
                    log.append(told(error))
            log.append((env.limits, env.pid > 0))
        try:
            await env.reset(nobody_knows=1)
        except EnvhubError as error:
            log.append(told(error))
        await env.reset(seed=1)
        log += [await env.state(), env.receipt.tier, env.receipt.layers]
        log.append((await env.describe()).title)
        await chain.reset(seed=3)
        batch = hub.batch([chain])
        for text in "abc":
            log += await batch.step([{"text": text}])
        log.append(await chain.state())
        bill = await chain.bill()
        log.append((bill.calls, bill.sent_bytes, bill.received_bytes, bill.cpu_s > 0))
    log.append((await chain.bill()).calls)
    try:
        await env.step({"code": ""})
    except EnvhubError as error:
        log.append(told(error))
    async with hub.session("parts") as parts:
        await parts.reset()
        for to in (3, 0):  # and of none there is no part
            log += [part async for part in parts.stream({"to": to})]
    try:
        async with hub.session("nobody"):
            pass
    except EnvhubError as error:
        log.append(told(error))
    return log


def blocking_program(make: Any) -> list[object]:
    log: list[object] = []
    with make("probe") as env:
        log.append(env.reset(seed=7))
        for code in CODES:
            try:
                log.append(env.step({"code": code}))
                log.append(env.output)
            except EnvhubError as error:
                log.append(told(error))
        env.reset(seed=1)
        log += [env.state, env.receipt.tier, env.limits, env.pid > 0, env.describe().title]
        log += [env.bill.calls, env.bill.printed_bytes]
    log.append(env.bill.calls)
    try:
        env.reset()
    except EnvhubError as error:
        log.append(told(error))
    with make("parts") as parts:
        parts.reset()
        for to in (3, 0):
            log += list(parts.stream({"to": to}))
    return log


@asynccontextmanager
async def embedded() -> AsyncIterator[envhub.Hub]:
    async with envhub.Hub(FOLDERS, caps={"step_s": 10}) as hub:
        yield hub


async def test_the_async_program_cannot_tell(url: str) -> None:
    async with embedded() as hub:
        here = await program(hub)
    async with envhub.connect(url) as remote:
        there = await program(remote)

    assert there == here


def test_the_blocking_program_cannot_tell(url: str) -> None:
    def make(name: str) -> Any:
        return envhub.make(name, envs=FOLDERS, caps={"step_s": 10})

    here = blocking_program(make)
    with envhub.connect(url) as hub:
        there = blocking_program(hub.make)

    assert there == here
