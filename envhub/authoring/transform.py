"""What becomes of an observation between the environment and its agent."""

from __future__ import annotations

from typing import Generic

from typing_extensions import TypeVar

from .types import Observation

ObservationT = TypeVar("ObservationT", bound=Observation, default=Observation)


class Transform(Generic[ObservationT]):
    """Changes an observation: adds a reward, cuts a text, counts. A class with `__call__`."""

    def __call__(self, observation: ObservationT) -> ObservationT:
        """Return the observation, changed."""
        raise NotImplementedError


class CompositeTransform(Transform[ObservationT]):
    """Several, one after the other.

    Args:
        transforms: each gets what the one before has returned.
    """

    def __init__(self, transforms: list[Transform[ObservationT]]) -> None:
        self.transforms = transforms

    def __call__(self, observation: ObservationT) -> ObservationT:
        """Return what the last has returned."""
        for transform in self.transforms:
            observation = transform(observation)
        return observation


class NullTransform(Transform[ObservationT]):
    """Changes nothing."""

    def __call__(self, observation: ObservationT) -> ObservationT:
        """Return the observation as it is."""
        return observation
