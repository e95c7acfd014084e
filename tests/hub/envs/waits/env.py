"""An asynchronous environment whose loop runs on between the calls, with a short deadline."""

import asyncio


class Waits:
    async def reset(self, seed: int | None = None) -> dict[str, int]:
        self.ticks = 0
        self.ticking = asyncio.create_task(self._tick())
        return {"ticks": self.ticks}

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(0.001)
            self.ticks += 1

    async def step(self, action: dict[str, float]) -> dict[str, int]:
        print("about to wait", flush=True)
        await asyncio.sleep(action["wait_s"])
        return {"ticks": self.ticks}

    @property
    def state(self) -> dict[str, int]:
        return {"ticks": self.ticks}
