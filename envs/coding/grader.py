"""The grader: a task's hidden test against the agent's function, which is elsewhere.

This process holds the hidden tests, so it never executes, evaluates, parses or unpickles
anything of the agent's. The agent's program runs in a fresh sandbox that holds nothing else.
What the test gets as `candidate` is a proxy: it sends plain literals there, and what comes
back are plain literals, built anew on this side (None, bool, numbers, str, bytes, and lists,
tuples, dicts and sets of them). No value of the agent's own type, hence no `__eq__` that
lies, ever meets an `assert`.

What follows from that, in the order in which somebody would try it:

* Arguments go by value. What the function does to them in place, the test does not see.
  (No test of HumanEval looks.)
* The first failed call settles the grade. The proxy remembers it, so that a test with an
  `except` around the call cannot take it for an answer, and calls nothing after it.
* A value may still be hostile by its size or kind: NaN, a huge integer, a deep nest. Whatever
  such a value makes the test raise is a wrong answer, as a failed `assert` is.
* The agent learns one word of `Outcome`, no message: its function has seen the test's
  arguments and could write them into one.

`assert` is what tests are made of, so this module refuses to run under `python -O`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, Protocol

from tasks import Task

from envhub.authoring.agent import AgentRaised, AgentStopped, NotPlain
from envhub.errors import AgentSandboxFailed, EnvhubError
from envhub.wire import plain

if not __debug__:
    raise RuntimeError("grading needs `assert`; do not run Python with -O or PYTHONOPTIMIZE")

GRADING_S = 20.0  # one grading, all calls; the slowest of HumanEval takes 0.1 s in-process
MAX_CALLS = 10_000  # HumanEval's most is 105

Outcome = Literal[
    "passed",  # the test is content
    "failed",  # the test raised: a wrong value
    "raised",  # the agent's function raised, or there is none of that name
    "stopped",  # the agent's process ended, or flooded us
    "not_plain",  # the function returned something that is not a plain literal
    "program",  # the agent's program itself did not run to its end
    "too_slow",  # the time for all calls was over
    "too_many",  # the test made more calls than `MAX_CALLS`
    "broken",  # the machinery or the task failed: no reward
]


class Ran(Protocol):
    """What came of running a program."""

    @property
    def exit_code(self) -> int | None: ...
    @property
    def cut(self) -> str | None: ...
    @property
    def alive(self) -> bool: ...


class Agent(Protocol):
    """A sandbox for agent code: `envhub.authoring.agent.AgentSandbox` has this shape."""

    def run(self, code: str, *, stdin: str = "", timeout_s: float) -> Ran: ...
    def call(self, function: str, *args: Any, timeout_s: float, **kwargs: Any) -> Any: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Grade:
    """What a step was worth.

    Args:
        reward: 1.0 or 0.0; None when nothing can be said, and `code` and `message` say why.
        outcome: how it came to that.
        code: of an EnvhubError, or "task_broken"; "" when there is a reward.
        message: for a person; "" when there is a reward.
    """

    reward: float | None
    outcome: Outcome
    code: str = ""
    message: str = ""


class _Settled(BaseException):
    """Leaves the test early. Not an Exception: a test's `except Exception` must not see it."""


class Candidate:
    """The agent's function as the test sees it.

    Args:
        agent: the sandbox in which the agent's program has run.
        task: names the function.
        ends: the moment, by `clock`, after which no call is made.
        clock: seconds, monotonic.
    """

    def __init__(
        self, agent: Agent, task: Task, *, ends: float, clock: Callable[[], float]
    ) -> None:
        self.calls = 0
        self.settled: Grade | None = None  # the first failure; nothing a test does undoes it
        self._agent = agent
        self._task = task
        self._ends = ends
        self._clock = clock

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the agent's function returns for these arguments."""
        if self.settled is not None:
            raise _Settled
        self.calls += 1
        left_s = self._ends - self._clock()
        if left_s <= 0:
            self._settle("too_slow")
        if self.calls > MAX_CALLS:
            self._settle("too_many")
        try:
            plain.to_json([args, kwargs])
        except NotPlain as error:
            why = f"its test passes what is not a plain literal: {error}"
            self.settled = _task_broken(self._task, why)
            raise _Settled from error
        try:
            name = self._task.entry_point
            return self._agent.call(name, *args, timeout_s=left_s, **kwargs)
        except AgentRaised:
            self._settle("raised")
        except AgentStopped:
            self._settle("too_slow" if self._clock() >= self._ends else "stopped")
        except NotPlain:
            self._settle("not_plain")
        except AgentSandboxFailed as error:
            self.settled = _sandbox_failed(error)
            raise _Settled from error
        except (MemoryError, RecursionError):
            self._settle("not_plain")  # plain, but more than this process can hold
        except Exception as error:
            # Ours, not the agent's: say so, and let no test take it for an answer.
            self.settled = Grade(None, "broken", EnvhubError.code, _line(error))
            raise _Settled from error

    def _settle(self, outcome: Outcome) -> NoReturn:
        self.settled = Grade(0.0, outcome)
        raise _Settled


def grade(
    task: Task,
    code: str,
    *,
    stdin: str = "",
    timeout_s: float = GRADING_S,
    open_agent: Callable[[], Agent],
    clock: Callable[[], float] = time.monotonic,
) -> Grade:
    """Return what `code` is worth as a solution of `task`.

    Args:
        task: trusted; its prompt and its test run in this process.
        code: the agent's program. Only handed on.
        stdin: what the program reads.
        timeout_s: wall clock for the program; that of the calls is bounded by GRADING_S.
        open_agent: opens a sandbox in which nothing has run yet.
        clock: seconds, monotonic.
    """
    ends = clock() + GRADING_S
    # The task's source, never the agent's: task sets are trusted.
    namespace: dict[str, Any] = {"__name__": f"test of {task.task_id}"}
    try:
        exec(compile(task.prompt, f"<prompt of {task.task_id}>", "exec"), namespace)
        exec(compile(task.test, f"<test of {task.task_id}>", "exec"), namespace)
        check = namespace["check"]
    except Exception as error:
        return _task_broken(task, f"its test cannot be built: {_line(error)}")
    try:
        agent = open_agent()
    except AgentSandboxFailed as error:
        return _sandbox_failed(error)
    try:
        left_s = max(0.001, ends - clock())
        ran = agent.run(code, stdin=stdin, timeout_s=min(timeout_s, left_s))
        if ran.cut is not None or not ran.alive or ran.exit_code != 0:
            return Grade(0.0, "program")
        candidate = Candidate(agent, task, ends=ends, clock=clock)
        # A test may name the function itself, as HumanEval/33 does.
        namespace[task.entry_point] = candidate
        return _judge(task, check, candidate)
    except AgentSandboxFailed as error:
        return _sandbox_failed(error)
    finally:
        agent.close()


def _judge(task: Task, check: Callable[[Candidate], object], candidate: Candidate) -> Grade:
    error: Exception | None = None
    # Some tests draw their arguments; from the task's own seed, a grading can be repeated.
    before = random.getstate()
    random.seed(task.task_id)
    try:
        check(candidate)
    except _Settled:
        pass
    except Exception as raised:
        error = raised
    finally:
        random.setstate(before)
    if candidate.settled is not None:
        return candidate.settled
    if candidate.calls == 0:
        why = f"it raised {_line(error)}" if error else "it passed"
        return _task_broken(task, f"its test never called the function: {why}")
    return Grade(0.0, "failed") if error else Grade(1.0, "passed")


def _task_broken(task: Task, why: str) -> Grade:
    return Grade(None, "broken", "task_broken", f"task {task.task_id!r} is broken: {why}")


def _sandbox_failed(error: AgentSandboxFailed) -> Grade:
    return Grade(None, "broken", error.code, str(error))


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]
