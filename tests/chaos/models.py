"""What each environment must answer, worked out beside it: an episode's true course."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from typing import Any, Protocol

from envhub.errors import EnvhubError, EnvironmentFailed
from envhub.results import StepResult

_MODULUS = 1_000_003


@dataclass(frozen=True, slots=True)
class Act:
    """One action and what it must come to.

    Args:
        action: to send.
        what: it does, for the count.
        failures: names of errors that it is meant to raise; without any, it must succeed.
    """

    action: dict[str, Any]
    what: str
    failures: tuple[str, ...] = ()


class Model(Protocol):
    """The course of one session's episodes."""

    environment: str

    def begin(self, seed: int) -> None:
        """Note that an episode begins."""
        ...

    def began(self, result: StepResult) -> str:
        """Return what is wrong with a reset's observation, or ""."""
        ...

    def act(self, random_: random.Random) -> Act:
        """Return the next action, and note that it is carried out."""
        ...

    def stepped(self, act: Act, outcome: StepResult | EnvhubError, output: str | None) -> str:
        """Return what is wrong with a step's outcome, or ""."""
        ...

    def is_cut_short(self, outcome: StepResult) -> bool:
        """Whether the observation itself says that the episode was cut short."""
        ...

    def lost(self) -> None:
        """Note that the process may be another one from now on."""
        ...


class Chain:
    """tests/protocol/envs/chain: every observation is a digest of all that was done."""

    environment = "chain"

    def __init__(self) -> None:
        self.digest = ""
        self.steps = 0

    def begin(self, seed: int) -> None:
        self.digest, self.steps = linked("", str(seed)), 0

    def began(self, result: StepResult) -> str:
        return self._differs(result)

    def act(self, random_: random.Random) -> Act:
        text = f"{random_.getrandbits(48):x}"
        takes_s = random_.choice((0.0, 0.0, 0.0, 0.01, 0.05, 0.3))
        self.digest, self.steps = linked(self.digest, text), self.steps + 1
        return Act({"text": text, "takes_s": takes_s}, "chain")

    def stepped(self, act: Act, outcome: StepResult | EnvhubError, output: str | None) -> str:
        return "" if isinstance(outcome, EnvhubError) else self._differs(outcome)

    def is_cut_short(self, outcome: StepResult) -> bool:
        return False

    def lost(self) -> None:
        pass

    def _differs(self, result: StepResult) -> str:
        seen = result.observation
        expected = (self.digest, self.steps, float(self.steps))
        found = (seen.get("digest"), seen.get("steps"), result.reward)
        return "" if found == expected else f"chain: expected {expected}, got {found}"


def linked(digest: str, text: str) -> str:
    """Return what the chain's environment makes of one more link."""
    return hashlib.sha256(f"{digest}/{text}".encode()).hexdigest()[:16]


class Coding:
    """envs/coding: a number that each step changes, in a sandbox of the agent's."""

    environment = "coding"

    def __init__(self) -> None:
        self._number: int | None = None

    def begin(self, seed: int) -> None:
        self._number = None

    def began(self, result: StepResult) -> str:
        return "" if result.observation.get("stdout") == "" else f"coding: {result}"

    def act(self, random_: random.Random) -> Act:
        add = random_.randrange(_MODULUS)
        before = "number = 1; " if self._number is None else ""
        self._number = ((self._number or 1) * 31 + add) % _MODULUS
        code = f"{before}number = (number * 31 + {add}) % {_MODULUS}; print(number)"
        return Act({"code": code, "timeout_s": 5}, "coding")

    def stepped(self, act: Act, outcome: StepResult | EnvhubError, output: str | None) -> str:
        if isinstance(outcome, EnvhubError) or self.is_cut_short(outcome):
            return ""
        seen = outcome.observation
        if (seen.get("stdout"), seen.get("exit_code")) == (f"{self._number}\n", 0):
            return ""
        return f"coding: {act.action['code']!r} gave {dict(seen)}"

    def is_cut_short(self, outcome: StepResult) -> bool:
        seen = outcome.observation
        return bool(seen.get("cut") or seen.get("ended"))

    def lost(self) -> None:
        pass


_FAIL = "raise ValueError({mark!r})"
_SAY = "count = globals().get('count', 0) + 1; print({mark!r}); result = dict(said={mark!r})"
_FORK = """
import os, time
try:
    child = os.fork()
except OSError:  # as many as it may have
    child = -1
if not child:
    time.sleep(10_000)
result = dict(said={mark!r})
"""
_FILL = """
import os
number = 0
try:
    with open('/tmp/filling', 'wb') as file:
        while True:
            file.write(bytes(1 << 20))
            file.flush()
except OSError as error:
    number = error.errno
os.unlink('/tmp/filling')
result = dict(said={mark!r}, errno=number)
"""
_OPEN = """
import os
number, held = 0, []
try:
    while True:
        held.append(os.dup(0))
except OSError as error:
    number = error.errno
for one in held:
    os.close(one)
result = dict(said={mark!r}, errno=number)
"""
_EAT = """
import time
held = []
while True:
    held.append(bytearray(b'x') * (4 << 20))
    time.sleep(0.02)
"""
_EXIT = "import os; os._exit(3)"
_SPIN = "while True: pass"
_ENOSPC, _EMFILE, _EFBIG = 28, 24, 27

# what, code, weight, errors that it is meant to raise, errno that it must meet
_DEEDS: tuple[tuple[str, str, int, tuple[str, ...], tuple[int, ...]], ...] = (
    ("say", _SAY, 60, (), ()),
    ("fail", _FAIL, 14, ("EnvironmentFailed",), ()),
    ("fork", _FORK, 8, (), ()),
    ("fill its disk", _FILL, 4, (), (_ENOSPC, _EFBIG)),
    ("open without end", _OPEN, 6, (), (_EMFILE,)),
    ("eat memory", _EAT, 2, ("LimitExceeded", "EnvironmentFailed"), ()),
    ("exit", _EXIT, 5, ("WorkerLost",), ()),
    ("spin", _SPIN, 1, ("LimitExceeded", "DeadlineExceeded"), ()),
)


class Probe:
    """tests/hub/envs/probe: says, fails, forks, fills, eats, ends as it is told."""

    environment = "probe"

    def __init__(self) -> None:
        self._resets = 0
        self._is_known = False  # how many resets its process has seen
        self._errnos: tuple[int, ...] = ()
        self._mark = ""
        self._seed = 0

    def begin(self, seed: int) -> None:
        self._seed = seed
        self._resets += 1

    def began(self, result: StepResult) -> str:
        seen = result.observation
        is_odd = self._is_known and seen.get("resets") not in (1, self._resets)
        if seen.get("seed") != self._seed or is_odd:
            return f"probe: reset {self._resets} with {self._seed} gave {dict(seen)}"
        self._resets = seen["resets"]  # 1: another process, which is between episodes no news
        self._is_known = True
        return ""

    def act(self, random_: random.Random) -> Act:
        weights = [weight for _, _, weight, _, _ in _DEEDS]
        what, code, _, failures, self._errnos = random_.choices(_DEEDS, weights)[0]
        self._mark = f"mark {random_.getrandbits(48):x}"
        return Act({"code": code.format(mark=self._mark)}, what, failures)

    def stepped(self, act: Act, outcome: StepResult | EnvhubError, output: str | None) -> str:
        if isinstance(outcome, EnvhubError):
            told = isinstance(outcome, EnvironmentFailed) and act.what == "fail"
            return f"probe: {outcome}" if told and self._mark not in str(outcome) else ""
        if act.failures:
            return f"probe: {act.what!r} ended well: {outcome}"
        seen = outcome.observation
        if seen.get("said") != self._mark:
            return f"probe: {act.what!r}, {self._mark}: {dict(seen)}"
        if self._errnos and seen.get("errno") not in self._errnos:
            return f"probe: {act.what!r} met errno {seen.get('errno')}"
        if output is not None and act.what == "say" and output != f"{self._mark}\n":
            return f"probe: said {self._mark!r}, and its output was {output!r}"
        return ""

    def is_cut_short(self, outcome: StepResult) -> bool:
        return False

    def lost(self) -> None:
        self._is_known = False


MODELS: dict[str, type[Chain] | type[Coding] | type[Probe]] = {
    "chain": Chain,
    "coding": Coding,
    "probe": Probe,
}
