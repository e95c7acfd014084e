"""Can be asked to leave a step, and does as its action says. It counts what it was asked."""

import subprocess
import time
from typing import Any


class Cancels:
    def __init__(self) -> None:
        self.asked = self.steps = 0
        self.how = ""

    def reset(self, seed: int | None = None, how: str = "") -> dict[str, int]:
        if how:
            self.step({"how": how})
        return {"steps": self.steps}

    def step(self, action: dict[str, Any]) -> dict[str, Any]:
        before, self.how = self.asked, action["how"]
        print(action.get("mark", "begun"), flush=True)
        if self.how == "sleep":
            time.sleep(600)
        elif self.how == "wait":
            subprocess.run(["sleep", "600"], check=False)
        elif self.how != "quick":
            while self.asked == before or self.how == "deaf":
                pass
        self.steps += 1
        return {"steps": self.steps, "asked": self.asked}

    def cancel(self) -> None:
        self.asked += 1
        if self.how in ("raise", "sleep", "wait"):
            raise RuntimeError("left early")
        while self.how == "hang":
            time.sleep(1)

    @property
    def state(self) -> dict[str, int]:
        return {"steps": self.steps, "asked": self.asked}
