"""As `cancels`; its steps are in a thread, beside the loop that its `cancel` needs."""

from typing import Any


class Cancels:
    def __init__(self) -> None:
        self.asked = self.steps = 0
        self.how = ""

    def reset(self, seed: int | None = None) -> dict[str, int]:
        return {"steps": self.steps}

    def step(self, action: dict[str, Any]) -> dict[str, Any]:
        before, self.how = self.asked, action["how"]
        print(action.get("mark", "begun"), flush=True)
        while self.how != "quick" and self.asked == before:
            pass
        while self.how == "raise":
            pass
        self.steps += 1
        return {"steps": self.steps, "asked": self.asked}

    async def cancel(self) -> None:
        self.asked += 1
        if self.how == "raise":
            raise RuntimeError("nobody hears that")

    @property
    def state(self) -> dict[str, int]:
        return {"steps": self.steps, "asked": self.asked}
