import cloudpickle
import gymnasium  # noqa: F401  (in the zygote, and not in each process)


class Foreign:
    """Has the functions that `SyncVectorEnv` would have been given; each makes its own."""

    made = 0

    def __init__(self) -> None:
        raise RuntimeError("only vectorised")

    def reset(self) -> None: ...

    def step(self, action: int) -> None: ...

    @property
    def state(self) -> None: ...

    @classmethod
    def gymnasium_env(cls, functions):
        """The next of them; the test's own code, which runs in the sandbox."""
        found = functions[cls.made % len(functions)]
        cls.made += 1
        return cloudpickle.loads(found.tobytes())()
