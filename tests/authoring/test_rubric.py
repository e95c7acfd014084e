from __future__ import annotations

from typing import Any

import pytest

from envhub import (
    CompositeTransform,
    Environment,
    Gate,
    NullTransform,
    Observation,
    Rubric,
    Sequential,
    Transform,
    WeightedSum,
)


class Says(Rubric):
    """A score that is known."""

    def __init__(self, score: float) -> None:
        super().__init__()
        self.score = score

    def forward(self, action: Any, observation: Any) -> float:
        return self.score


class Grade(Rubric):
    def __init__(self) -> None:
        super().__init__()
        self.quick = Says(1.0)
        self.deep = WeightedSum([Says(0.5), Says(1.0)], [0.2, 0.8])

    def forward(self, action: Any, observation: Any) -> float:
        return self.quick(action, observation) * self.deep(action, observation)


class Doubled(Transform):
    def __call__(self, observation: Observation) -> Observation:
        observation.reward = 2 * (observation.reward or 0)
        return observation


def test_each_part_has_a_score_that_a_reset_forgets() -> None:
    grade = Grade()

    assert grade({}, {}) == pytest.approx(0.9)
    assert grade.scores() == {
        "quick": 1.0, "deep": pytest.approx(0.9), "deep.rubrics.0": 0.5, "deep.rubrics.1": 1.0,
    }  # fmt: skip
    grade.reset()
    assert set(grade.scores().values()) == {None}


def test_sequential_stops_at_the_first_that_gives_nothing() -> None:
    never = Says(1.0)

    assert Sequential(Says(0.5), Says(0.7))({}, {}) == 0.7
    assert Sequential(Says(0.0), never)({}, {}) == 0.0
    assert never.last_score is None


@pytest.mark.parametrize(("score", "passes"), [(0.4, 0.0), (0.5, 0.5), (0.9, 0.9)])
def test_a_gate_opens_at_its_threshold(score: float, passes: float) -> None:
    assert Gate(Says(score), threshold=0.5)({}, {}) == passes


@pytest.mark.parametrize("weights", [[1.0], [0.5, 0.4]])
def test_weights_are_one_for_each_and_add_up(weights: list[float]) -> None:
    with pytest.raises(ValueError, match=r"weights|add up"):
        WeightedSum([Says(1), Says(1)], weights)


def test_an_environment_asks_its_rubric_and_its_transform() -> None:
    graded = Environment(
        transform=CompositeTransform([Doubled(), NullTransform(), Doubled()]), rubric=Says(0.5)
    )
    observation = Observation(reward=graded._apply_rubric(Any, Observation()))  # type: ignore[arg-type]

    assert graded._apply_transform(observation).reward == 2.0
    assert graded.rubric is not None
    assert graded.rubric.last_score == 0.5
    graded._reset_rubric()
    assert graded.rubric.last_score is None


def test_without_them_there_is_no_reward_and_no_change() -> None:
    class Plain(Environment):
        def __init__(self) -> None:
            """As authors write it who know nothing of either."""

    plain, observation = Plain(), Observation(reward=1)
    plain._reset_rubric()

    assert plain._apply_rubric(Any, observation) is None  # type: ignore[arg-type]
    assert plain._apply_transform(observation) is observation
