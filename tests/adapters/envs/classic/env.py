import gymnasium


class Classic:
    """Any environment of Gymnasium's own."""

    def __init__(self) -> None:
        raise RuntimeError("only vectorised")

    def reset(self) -> None: ...

    def step(self, action: int) -> None: ...

    @property
    def state(self) -> None: ...

    @staticmethod
    def gymnasium_env(which="CartPole-v1", **options):
        return gymnasium.make(which, **options)
