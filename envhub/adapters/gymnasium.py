"""`envhub.make_vec`: many environments in sandboxed processes, as a Gymnasium VectorEnv."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.envs.registration import VectorizeMode
from gymnasium.vector import AutoresetMode
from gymnasium.vector import VectorEnv as _VectorEnv
from gymnasium.vector.utils import batch_space

from envhub.adapters import remote, spaces
from envhub.adapters.asking import decoded
from envhub.adapters.crew import Crew
from envhub.adapters.packing import Batch
from envhub.errors import InvalidOption, RemoteProtocolError, ResetNeeded, UsageError
from envhub.hub.make import background_hub
from envhub.hub.vectors.member import Member
from envhub.hub.vectors.reserving import reserve_all
from envhub.hub.vectors.waiting import wait
from envhub.wire import infos as wire

_MOST_SEED = 2**63
_OWN = ("strict", "auto")  # what `isolation` and `launcher` are if nothing is said of them
Stepped = tuple[Any, Any, Any, Any, dict[str, Any]]


def make_vec(
    name: str,
    num_envs: int,
    *,
    processes: int | None = None,
    vectorization_mode: str | VectorizeMode | None = None,
    autoreset_mode: str | AutoresetMode | None = None,
    copy: bool = True,
    hub: remote.Elsewhere | None = None,
    envs: str | Path | Iterable[str | Path] = (),
    isolation: str = "strict",
    launcher: str = "auto",
    exactly: bool = False,
    caps: Mapping[str, float] | None = None,
    variables: Iterable[str] = (),
    **options: Any,
) -> VectorEnv:
    """Return `num_envs` environments of `name`, in sandboxes on this machine or elsewhere.

        venv = envhub.make_vec("cartpole", 64)
        venv = envhub.make_vec("cartpole", 64, hub="http://127.0.0.1:8000")
        observations, infos = venv.reset(seed=7)

    Args:
        name: of the environment: one of Gymnasium's, or a class that makes such.
        num_envs: how many.
        processes: that share them; by default one for each processor, or, where `hub` is
            elsewhere, one.
        vectorization_mode: "vector_entry_point" takes the author's own vectorised class, in
            one process; None steps one environment after another in each process.
        autoreset_mode: when an episode follows the one before, "next_step" by default; see
            `AutoresetMode`. A vectorised class has its own.
        copy: False returns observations that the next step overwrites: with one process, or
            from `recv`, the very memory that the process wrote.
        hub: that has them, elsewhere: its address, or what `envhub.connect` returns, which may
            be connected or not. What follows but `options` is then that hub's to say.
        envs: folders to look in first; this and the rest as in `envhub.make`.
        isolation: the lowest tier that will do.
        launcher: "auto", "bubblewrap" or "built-in".
        exactly: take the tier of `isolation`, and no higher one.
        caps: the most that a manifest may ask for.
        variables: of ours that the environment gets if its manifest names them.
        options: keyword arguments for making each environment.

    Raises:
        UsageError: it cannot be vectorised, or an argument is wrong.
        EnvhubError: as `Hub.open`.
        ConnectionLost: nobody answers at `hub`.
    """
    if num_envs < 1 or (processes is not None and processes < 1):
        raise UsageError("`num_envs` and `processes` must be positive")
    whole = _is_whole(vectorization_mode)
    usable = 1 if whole or hub is not None else len(os.sched_getaffinity(0))
    count = min(processes or usable, num_envs)
    if whole and count > 1:
        raise UsageError("a vectorised class has one process for all environments")
    mode = None if autoreset_mode is None else _mode(autoreset_mode)
    given = wire.encode_info(options, "options")
    least, more = divmod(num_envs, count)
    sizes = [least + (at < more) for at in range(count)]
    with ExitStack() as stack:
        crew: Crew[Any]
        if hub is not None:
            if envs or caps or variables or exactly or (isolation, launcher) != _OWN:
                raise UsageError("how its environments are isolated a hub says by itself")
            crew = remote.crew(hub, name, sizes, given, stack, whole=whole, copy=copy)
        else:
            background = background_hub(
                envs=envs, isolation=isolation, launcher=launcher, exactly=exactly, caps=caps,
                variables=variables,
            )  # fmt: skip
            places = background.do(reserve_all(background.hub, name, count))
            members = [
                Member(background, place, size, given, whole=whole)
                for size, place in zip(sizes, places, strict=True)
            ]
            for member in members:
                stack.callback(member.close)
            crew = Crew(members, wait, copy=copy)
        return VectorEnv(crew, mode, stack)


class VectorEnv(_VectorEnv[Any, Any, Any]):
    """Made by `make_vec`. Steps as `gymnasium.vector.SyncVectorEnv` does.

    What ends a process, or raises in `step`, ends the episodes it was in: their `truncated` is
    True, their reward 0.0, their observation the last one, and `infos["envhub_error"]` has the
    typed cause, with `_envhub_error` as its mask. The next reset, their own or that of the
    autoreset mode, gets a fresh process. What fails to reset raises.

    Not for two threads at once.

    Args:
        crew: the processes, not started.
        mode: of autoreset; None for what there is.
        stack: what is to be closed at the end.
    """

    def __init__(self, crew: Crew[Any], mode: AutoresetMode | None, stack: ExitStack) -> None:
        self._crew = crew
        self._begun = False  # there was a reset
        self._sent: list[int] = []  # members whose steps are under way
        crew.follow(mode or AutoresetMode.NEXT_STEP)
        gathered = crew.start()
        metadata = decoded(gathered.metadata, dict)
        if crew.is_whole:
            mode = _chosen(mode, metadata)
            crew.follow(mode)
        self._mode = mode = mode or AutoresetMode.NEXT_STEP
        self.num_envs = crew.size
        self.single_action_space = spaces.build(gathered.action)
        self.single_observation_space = spaces.build(gathered.observation)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.render_mode = gathered.render_mode
        self.metadata = {**metadata, "autoreset_mode": mode}
        crew.space = self.single_observation_space
        self._take = spaces.taker(self.single_action_space, self.num_envs)
        self._ids = [list(range(rows.start, rows.stop)) for rows in crew.rows]
        self._first = {ids[0]: at for at, ids in enumerate(self._ids)}
        self._takes = {self.num_envs: self._take}  # by how many actions
        self._stack = stack.pop_all()

    @property
    def pids(self) -> tuple[int, ...]:
        """The numbers of the processes on this machine; 0 for one that was lost."""
        return tuple(member.pid for member in self._crew.members)

    @property
    def processes(self) -> tuple[tuple[int, ...], ...]:
        """Which environments share a process, by index."""
        return tuple(tuple(range(rows.start, rows.stop)) for rows in self._crew.rows)

    @property
    def np_random_seed(self) -> Any:
        """What each environment was seeded with, -1 where that is not known."""
        seeds = self.get_attr("np_random_seed")
        return seeds[0] if self._crew.is_whole else seeds

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode in each environment, or in those of `options["reset_mask"]`.

        Raises:
            EnvironmentFailed: an environment raised.
            WorkerError: a process ended, or was killed at a limit or at its deadline.
        """
        self._check_idle()
        seeds = self._seeds(seed)
        mask, encoded = self._reset_options(options)
        # a vectorised class makes of one seed what it wants
        whole = seeds if isinstance(seed, Sequence) else [seeds[0]]
        batch = self._crew.reset(mask, seeds, encoded, whole)
        self._begun = True
        return batch.seen(self.single_observation_space), batch.infos

    def step(self, actions: Any) -> Stepped:
        """Take one action in each environment.

        Raises:
            InvalidAction: the actions do not fit.
            ResetNeeded: an episode has ended, and autoreset is disabled.
            EnvironmentFailed: an environment raised as it was reset.
            WorkerError: a process ended as its environments were reset.
        """
        crew = self._crew
        self._check_idle()
        self._check_begun(crew.whom)
        crew.begin_steps(crew.everybody, self._take(actions))
        return self._stepped(crew.finish_steps(crew.whom))

    def send(self, actions: Any, env_ids: Sequence[int] | Any) -> None:
        """Begin steps of some environments: of all that share a process, see `processes`.

        Args:
            actions: one for each of them, in their order.
            env_ids: as `recv` gave them in `infos["env_id"]`, or of several such, joined.

        Raises: as `step`; UsageError if only some of those that share a process are there.
        """
        ids: list[int] = np.asarray(env_ids, np.int64).tolist()
        parts: dict[int, slice] = {}
        first = 0
        while first < len(ids):
            at = self._first.get(ids[first], 0)
            part = slice(first, first + len(self._ids[at]))
            if ids[part] != self._ids[at]:
                raise UsageError(
                    "`env_ids` must be all of those that share a process, in order",
                    hint="send to those that `recv` returned, or see `processes`",
                )
            if at in self._sent or at in parts:
                raise UsageError(f"a step of environment {ids[first]} is under way: recv first")
            parts[at], first = part, part.stop
        self._check_begun(parts)
        take = self._takes.get(len(ids))
        if take is None:
            take = spaces.taker(self.single_action_space, len(ids))
            self._takes[len(ids)] = take
        self._crew.begin_steps(parts, take(actions))
        self._sent += parts
        self._crew.hurry(parts)

    def recv(self, min_envs: int = 1) -> Stepped:
        """Return the steps of the first processes that are done with them.

        Args:
            min_envs: wait for at least so many environments, or for all that were sent to.

        Returns:
            As `step`, of those environments that `infos["env_id"]` names, in their order.
        """
        if not self._sent:
            raise UsageError("`recv` without a `send`")
        try:
            done = self._crew.wait_some(self._sent, min_envs)
        except BaseException:
            self._sent.clear()
            raise
        self._sent = [at for at in self._sent if at not in done]
        result = self._stepped(self._crew.finish_steps(done))
        result[4]["env_id"] = np.array([i for at in done for i in self._ids[at]])
        return result

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Call a method of each environment, or read an attribute. In plain data, both ways.

        A vectorised class is asked itself, and there is one value.
        """
        self._check_idle()
        given = [wire.encode_info((list(args), kwargs), name)] * len(self._crew.members)
        values: list[Any] = []
        for answer in self._crew.ask(name, given):
            values += decoded(answer, list)
        if len(values) != (1 if self._crew.is_whole else self.num_envs):
            raise RemoteProtocolError("not one value for each environment")
        return tuple(values)

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """Return an attribute of each environment."""
        return self.call(name)

    def set_attr(self, name: str, values: Any) -> None:
        """Set an attribute of each environment, to one value or to one for each."""
        self._check_idle()
        if self._crew.is_whole:
            self._crew.ask(name, [wire.encode_info(([values], {}), name)], assign=True)
            return
        if not isinstance(values, list | tuple):
            values = [values] * self.num_envs
        if len(values) != self.num_envs:
            raise ValueError(f"{len(values)} values for {self.num_envs} environments")
        given = [wire.encode_info((list(values[rows]), {}), name) for rows in self._crew.rows]
        self._crew.ask(name, given, assign=True)

    def render(self) -> tuple[Any, ...]:
        """Return what each environment renders."""
        rendered = self.call("render")
        return rendered[0] if self._crew.is_whole else rendered

    def close_extras(self, **kwargs: Any) -> None:
        """End the processes, and give their places back."""
        self._sent.clear()
        with self._stack:
            self._crew.close()

    def __del__(self) -> None:
        """Leave nothing behind."""
        if not self.closed and hasattr(self, "_stack"):
            self.close()

    # ------------------------------------------------------------ what was given

    def _stepped(self, batch: Batch) -> Stepped:
        seen = batch.seen(self.single_observation_space)
        return seen, batch.rewards, batch.terminated, batch.truncated, batch.infos

    def _check_idle(self) -> None:
        self._crew.check_usable()
        if self._sent:
            raise UsageError("steps are under way", hint="`recv` until all were received")

    def _check_begun(self, whom: Iterable[int]) -> None:
        if not self._begun:
            raise ResetNeeded("`step` before `reset`")
        if self._mode is AutoresetMode.DISABLED and self._crew.episodes.are_over(whom):
            raise ResetNeeded("an episode has ended: reset it with a `reset_mask`")

    def _seeds(self, seed: int | Sequence[int | None] | None) -> list[int | None]:
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, int | np.integer):
            seeds: list[int | None] = [int(seed) + i for i in range(self.num_envs)]
        else:
            seeds = [None if one is None else int(one) for one in seed]
        if len(seeds) != self.num_envs:
            raise ValueError(f"{len(seeds)} seeds for {self.num_envs} environments")
        if any(one is not None and abs(one) >= _MOST_SEED for one in seeds):
            raise InvalidOption("a seed must fit into 63 bits")
        return seeds

    def _reset_options(self, options: dict[str, Any] | None) -> tuple[Any, bytes]:
        if options is None:
            return np.ones(self.num_envs, np.bool_), b""
        if "reset_mask" in options:
            mask = options.pop("reset_mask")  # as SyncVectorEnv does
            if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
                raise TypeError("`options['reset_mask']` must be an array of bool")
            if mask.shape != (self.num_envs,) or not mask.any():
                raise ValueError(
                    f"`options['reset_mask']` must be of shape ({self.num_envs},), one True"
                )
        else:
            mask = np.ones(self.num_envs, np.bool_)
        return mask, wire.encode_info(options, "options")


def _is_whole(mode: str | VectorizeMode | None) -> bool:
    if mode is None:
        return False
    if mode in (VectorizeMode.VECTOR_ENTRY_POINT, VectorizeMode.VECTOR_ENTRY_POINT.value):
        return True
    raise UsageError(
        f"`vectorization_mode` {mode!r}: expected None or"
        f' "{VectorizeMode.VECTOR_ENTRY_POINT.value}"'
    )


def _chosen(asked: AutoresetMode | None, metadata: dict[str, Any]) -> AutoresetMode:
    """Return the mode of a vectorised class, which is its own."""
    mode = _mode(metadata.get("autoreset_mode"))
    if asked not in (None, mode):
        raise UsageError(f"the vectorised class has {mode}, and no other `autoreset_mode`")
    return mode


def _mode(mode: str | AutoresetMode | None) -> AutoresetMode:
    """Return the mode: Gymnasium's own, its value ("NextStep") or its name in lower case."""
    for known in AutoresetMode:
        if mode in (known, known.value, known.name.lower()):
            return known
    raise UsageError(f"`autoreset_mode` {mode!r} is none of Gymnasium's")
