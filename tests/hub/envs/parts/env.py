from collections.abc import Iterator

from envhub import Action, Environment, Observation, State


class Count(Action):
    to: int
    fails_at: int = -1


class Counted(Observation):
    at: int


class Parts(Environment[Count, Counted, State]):
    """Counts, and lets one watch."""

    def __init__(self) -> None:
        super().__init__()
        self.made = self.left = 0

    def reset(self, seed: int | None = None, episode_id: str | None = None) -> Counted:
        return Counted(at=0)

    def step(self, action: Count) -> Iterator[Counted]:
        try:
            for at in range(action.to):
                if at == action.fails_at:
                    raise ValueError(f"as asked, at {at}")
                self.made += 1
                last = at == action.to - 1
                yield Counted(at=at, reward=1.0 if last else None, done=last and at == 9)
        finally:
            self.left += 1

    @property
    def state(self) -> State:
        return State(step_count=self.made, left=self.left)
