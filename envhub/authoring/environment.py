"""The class that authors extend."""

from __future__ import annotations

from typing import Generic

from typing_extensions import TypeVar

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
    may be `async def`; then a loop runs between the calls, too.
    """

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
