"""Rewards that are made of parts, each with a name and a score that can be looked at.

    class Grade(Rubric):
        def __init__(self):
            super().__init__()
            self.compiles = Compiles()
            self.passes = Passes()

        def forward(self, action, observation):
            return 0.2 * self.compiles(action, observation) + 0.8 * self.passes(...)

A rubric that is an attribute of another is a part of it. A grader that cannot judge raises:
that is an error with a cause, and never a reward of 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any


class Rubric:
    """Scores what an action has led to. Extend it by `forward`.

    Attributes:
        last_score: of the last call in this episode; None before the first.
    """

    def __init__(self) -> None:
        self.last_score: float | None = None

    def forward(self, action: Any, observation: Any) -> float:
        """Return the score of a step, usually from 0 to 1."""
        raise NotImplementedError

    def __call__(self, action: Any, observation: Any) -> float:
        """Return the score, and remember it."""
        self.last_score = self.forward(action, observation)
        return self.last_score

    def named_children(self) -> Iterator[tuple[str, Rubric]]:
        """Yield the parts, each with its name."""
        for name, value in vars(self).items():
            if isinstance(value, Rubric):
                yield name, value
            elif isinstance(value, list | tuple):
                parts = enumerate(value)
                yield from ((f"{name}.{n}", p) for n, p in parts if isinstance(p, Rubric))

    def named_rubrics(self, prefix: str = "") -> Iterator[tuple[str, Rubric]]:
        """Yield the parts of the parts, too, each with its path, such as "passes.quick"."""
        for name, child in self.named_children():
            yield prefix + name, child
            yield from child.named_rubrics(f"{prefix}{name}.")

    def scores(self) -> dict[str, float | None]:
        """Return the last score of every part, by its path."""
        return {path: rubric.last_score for path, rubric in self.named_rubrics()}

    def reset(self) -> None:
        """Begin an episode: forget the scores, of the parts as well."""
        self.last_score = None
        for _, child in self.named_children():
            child.reset()


class Sequential(Rubric):
    """Asks one after the other and stops at the first 0; the score is the last one's.

    Args:
        rubrics: cheap ones first.
    """

    def __init__(self, *rubrics: Rubric) -> None:
        super().__init__()
        self.rubrics = rubrics

    def forward(self, action: Any, observation: Any) -> float:
        """Return 0 if one has none, else the last one's score; 1 if there are none."""
        score = 1.0
        for rubric in self.rubrics:
            score = rubric(action, observation)
            if score == 0:
                break
        return score


class Gate(Rubric):
    """Lets a score through from a threshold on, and gives 0 below it.

    Args:
        rubric: whose.
        threshold: least score that counts.
    """

    def __init__(self, rubric: Rubric, threshold: float = 1.0) -> None:
        super().__init__()
        self.rubric = rubric
        self.threshold = threshold

    def forward(self, action: Any, observation: Any) -> float:
        """Return the score, or 0."""
        score = self.rubric(action, observation)
        return score if score >= self.threshold else 0.0


class WeightedSum(Rubric):
    """Adds scores by their weights.

    Args:
        rubrics: the parts.
        weights: one for each; they add up to 1.

    Raises:
        ValueError: they do not, or there are too few.
    """

    def __init__(self, rubrics: Sequence[Rubric], weights: Sequence[float]) -> None:
        super().__init__()
        if len(rubrics) != len(weights):
            raise ValueError(f"{len(rubrics)} rubrics have {len(weights)} weights")
        if abs(sum(weights) - 1) > 1e-6:
            raise ValueError(f"expected weights that add up to 1, got {sum(weights)}")
        self.rubrics = tuple(rubrics)
        self.weights = tuple(weights)

    def forward(self, action: Any, observation: Any) -> float:
        """Return the weighted sum."""
        pairs = zip(self.weights, self.rubrics, strict=True)
        return sum(weight * rubric(action, observation) for weight, rubric in pairs)
