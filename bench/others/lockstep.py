"""`python lockstep.py ray|envhub SESSIONS`: sessions that all take a step, and then the next.

For `bench.actors`, as `vector.py` is for `bench.cartpole`.
"""

import asyncio
import sys
import tempfile

from vector import play

ACTION = {"add": 1}


class Ray:
    """An actor for each session, each a process."""

    def __init__(self, sessions, _):
        import ray

        class Counter:
            def reset(self):
                self.count = 0
                return {"count": 0}

            def step(self, action):
                self.count += action["add"]
                return {"count": self.count, "reward": 1.0}

        self._ray = ray
        self._folder = tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp")
        ray.init(
            num_cpus=sessions,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="error",
            object_store_memory=100_000_000,
            _node_ip_address="127.0.0.1",
            _temp_dir=self._folder.name,
        )
        actor = ray.remote(num_cpus=1)(Counter)
        self._actors = [actor.remote() for _ in range(sessions)]

    def reset(self):
        self._ray.get([actor.reset.remote() for actor in self._actors])
        self._steps = 0

    def step(self, actions):
        told = zip(self._actors, actions, strict=True)
        found = self._ray.get([actor.step.remote(action) for actor, action in told])
        self._steps += 1
        check(found, self._steps)

    def close(self):
        self._ray.shutdown()
        self._folder.cleanup()


class Envhub:
    """A session each on one event loop, each a process in a sandbox of its own."""

    def __init__(self, sessions, folder):
        import uvloop

        self._loop = uvloop.new_event_loop()
        opened = self._loop.create_future()
        self._closing = asyncio.Event()
        # one task holds the hub, as its `async with` wants it
        self._life = self._loop.create_task(self._live(sessions, folder, opened))
        both = asyncio.wait((opened, self._life), return_when=asyncio.FIRST_COMPLETED)
        self._loop.run_until_complete(both)
        if self._life.done():
            self._life.result()

    async def _live(self, sessions, folder, opened):
        import envhub

        async with envhub.Hub(folder, max_sessions=sessions + 2) as hub:
            self._sessions = [await hub.open("native") for _ in range(sessions)]
            opened.set_result(None)
            await self._closing.wait()

    def reset(self):
        self._loop.run_until_complete(self._all(session.reset() for session in self._sessions))
        self._steps = 0

    def step(self, actions):
        told = zip(self._sessions, actions, strict=True)
        found = self._loop.run_until_complete(self._all(one.step(do) for one, do in told))
        self._steps += 1
        check([result.observation for result in found], self._steps)

    async def _all(self, calls):
        return await asyncio.gather(*calls)

    def close(self):
        self._closing.set()
        self._loop.run_until_complete(self._life)


def check(found, steps):
    if any(one["count"] != steps for one in found):
        raise ValueError(f"step {steps} came to {found}")


if __name__ == "__main__":
    way, number, folder = sys.argv[1:]
    made = {"ray": Ray, "envhub": Envhub}[way](int(number), folder)
    play(made, int(number), [[ACTION] * int(number)])
