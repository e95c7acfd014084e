"""What a run may be told: how much to measure, and with what."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import envhub_sandbox

REPOSITORY = Path(__file__).parent.parent
ENVS = REPOSITORY / "envs"


@dataclass(frozen=True)
class Plan:
    """How this run measures.

    Args:
        quick: enough samples to see that it works, too few to say anything.
        install: also install others' libraries that are not there, each into a virtual
            environment of its own, and this one into a fresh one; which takes long.
    """

    quick: bool = False
    install: bool = False

    def times(self, full: int) -> int:
        """Return how often to repeat what a full run repeats `full` times."""
        return max(2, full // 20) if self.quick else full

    @property
    def launchers(self) -> list[str]:
        """The launchers there are on this machine."""
        found = ["bubblewrap"] if envhub_sandbox.bubblewrap() else []
        return [*found, "built-in"]


@contextmanager
def environments(
    settings: Mapping[str, str] | None = None, /, **sources: str
) -> Iterator[Path]:
    """Hold a folder of environments made from Python source, one class `Env` in each.

    Not below /tmp: each session would have to be shown its folder again over its own /tmp,
    which a user's environment need not.

    Args:
        settings: the rest of env.toml, by name of the environment.
        sources: the content of env.py, by name of the environment.
    """
    spacious = "/var/tmp"
    place = spacious if os.access(spacious, os.W_OK | os.X_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="envhub-bench-", dir=place))
    try:
        folder.chmod(0o755)  # a hub of root's runs its workers as another user
        for name, source in sources.items():
            (folder / name).mkdir()
            (folder / name / "env.py").write_text(source)
            manifest = f'name = "{name}"\nentry = "env:Env"\n'
            (folder / name / "env.toml").write_text(manifest + (settings or {}).get(name, ""))
        yield folder
    finally:
        shutil.rmtree(folder)


# dict in, dict out: no model is validated on the way
NATIVE = '''"""The least that an environment does."""

class Env:
    def reset(self, seed: int | None = None) -> dict:
        self.count = 0
        return {"count": 0}

    def step(self, action: dict) -> dict:
        self.count += action["add"]
        return {"count": self.count, "reward": 1.0}
'''
NUMPY = f"import numpy\n{NATIVE}"
ACTION = {"add": 1}
# how an environment of Gymnasium's, and all of them at once, become one of ours
_OF_GYMNASIUM = """

class Env:
    def reset(self) -> None: ...

    def step(self, action: int) -> None: ...

    @staticmethod
    def gymnasium_env():
        return {one}

    @staticmethod
    def gymnasium_vector_env(num_envs):
        return {all}
"""
_VECTOR = 'gymnasium.make_vec("CartPole-v1", num_envs, vectorization_mode="vector_entry_point")'
CARTPOLE = "import gymnasium\n" + _OF_GYMNASIUM.format(
    one='gymnasium.make("CartPole-v1")', all=_VECTOR
)
OTHERS = REPOSITORY / "bench" / "others"
COUNTER = (OTHERS / "counter.py").read_text() + _OF_GYMNASIUM.format(
    one="Counter()", all="None"
)
_COUNTERS = """

class Counters(gymnasium.vector.VectorEnv):
    metadata = {"autoreset_mode": gymnasium.vector.AutoresetMode.NEXT_STEP}

    def __init__(self, num_envs):
        self.num_envs = num_envs
        self.single_observation_space = Counter.observation_space
        self.single_action_space = Counter.action_space
        self._seen = np.zeros((num_envs, 1), np.float32)
        self._rewards, self._no = np.ones(num_envs), np.zeros(num_envs, bool)

    def reset(self, *, seed=None, options=None):
        self._seen = np.zeros((self.num_envs, 1), np.float32)
        return self._seen, {}

    def step(self, actions):
        self._seen = self._seen + 1
        return self._seen, self._rewards, self._no, self._no, {}
"""
COUNTERS = (
    (OTHERS / "counter.py").read_text()
    + _COUNTERS
    + _OF_GYMNASIUM.format(one="Counter()", all="Counters(num_envs)")
)
