"""The class that authors extend."""

from __future__ import annotations

from typing import Any, Generic

from typing_extensions import TypeVar

from .rubric import Rubric
from .transform import Transform
from .types import Action, Observation, State

ActionT = TypeVar("ActionT", default=Action)
ObservationT = TypeVar("ObservationT", default=Observation)
StateT = TypeVar("StateT", default=State)


class Environment(Generic[ActionT, ObservationT, StateT]):
    """A task that an agent acts on, in episodes.

    One instance serves one session, in a process of its own: plain attributes are enough,
    and no lock is ever needed. It is constructed without arguments. The types of `step`'s
    action, of its result and of `state` are read from the annotations; pydantic models,
    dataclasses and msgspec Structs all serve.

    Extending it is a convenience: any class with these methods is an environment. Methods
    may be `async def`; then a loop runs between the calls, too. One that defines `cancel` is
    asked to leave a call that its client wants to stop; any other is killed.

    Args:
        transform: what `_apply_transform` does with an observation.
        rubric: what `_apply_rubric` asks for a reward.
    """

    transform: Transform[Any] | None = None  # also for those who do not call our __init__
    rubric: Rubric | None = None

    def __init__(
        self, transform: Transform[Any] | None = None, rubric: Rubric | None = None
    ) -> None:
        self.transform = transform
        self.rubric = rubric

    def reset(self, seed: int | None = None, episode_id: str | None = None) -> ObservationT:
        """Begin an episode and return the first observation.

        Add options of your own as keyword arguments with defaults; clients that name any
        other are told which ones there are. With `**options` you take what comes.

        Args:
            seed: the only source of randomness the environment may use; None for any.
            episode_id: the client's name for the episode.
        """
        raise NotImplementedError

    def step(self, action: ActionT) -> ObservationT:
        """Take one action and return what the agent sees then."""
        raise NotImplementedError

    @property
    def state(self) -> StateT:
        """What there is to know about the episode, besides observations."""
        raise NotImplementedError

    def close(self) -> None:
        """Give back what the environment holds. Called once; a killed session skips it."""

    # ------------------------------------------------------ for `step` and `reset` to call

    def _apply_transform(self, observation: ObservationT) -> ObservationT:
        """Return the observation as the transform makes it; as it is, without one."""
        return observation if self.transform is None else self.transform(observation)

    def _apply_rubric(self, action: ActionT, observation: ObservationT) -> float | None:
        """Return the rubric's reward; None without one, for nobody has judged then."""
        return None if self.rubric is None else self.rubric(action, observation)

    def _reset_rubric(self) -> None:
        """Forget the scores of the episode before."""
        if self.rubric is not None:
            self.rubric.reset()
