"""As `cancels`, on an event loop."""

import asyncio
import contextvars
import time
from typing import Any

SEEN: contextvars.ContextVar[int] = contextvars.ContextVar("seen", default=0)


class Cancels:
    def __init__(self) -> None:
        self.asked = self.steps = self.cleaned = 0
        self.leave = asyncio.Event()
        self.how = ""

    async def reset(self, seed: int | None = None, how: str = "") -> dict[str, int]:
        if how:
            await self.step({"how": how})
        return {"steps": self.steps}

    async def step(self, action: dict[str, Any]) -> dict[str, Any]:
        before, self.how = self.asked, action["how"]
        print(action.get("mark", "begun"), flush=True)
        self.leave.clear()
        try:
            if self.how in ("raise", "sleep", "wait", "deaf", "hang"):
                await asyncio.sleep(600)
            elif self.how == "block":
                time.sleep(600)  # noqa: ASYNC251 (as bad authors do)
            elif self.how != "quick":
                await self.leave.wait()
        finally:
            self.cleaned += 1
        assert self.how == "quick" or self.asked > before
        self.steps += 1
        SEEN.set(SEEN.get() + 1)
        return {"steps": self.steps, "asked": self.asked, "seen": SEEN.get()}

    async def cancel(self) -> None:
        self.asked += 1
        await asyncio.sleep(0)
        if self.how in ("raise", "sleep", "wait"):
            raise RuntimeError("left early")
        if self.how == "hang":
            await asyncio.sleep(600)
        self.leave.set()

    @property
    def state(self) -> dict[str, int]:
        return {"steps": self.steps, "asked": self.asked, "cleaned": self.cleaned}
