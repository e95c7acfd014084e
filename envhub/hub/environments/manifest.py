"""`env.toml` to Manifest: what an environment is called, needs and may use."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from envhub.errors import ManifestError
from envhub.hub.environments import gym
from envhub.wire.framing import MAX_FRAME_BYTES
from envhub_sandbox import Limits
from envhub_sandbox.policy import OPTIONAL_LIMITS

FILE = "env.toml"
_WEEK_S = 7 * 24 * 3600
Seconds = Annotated[float, Meta(gt=0, le=_WEEK_S)]
OptionalSeconds = Annotated[float, Meta(ge=0, le=_WEEK_S)]
VARIABLE = r"[A-Za-z_][A-Za-z0-9_]{0,127}"
Variable = Annotated[str, Meta(pattern=f"^{VARIABLE}$")]
# an agent sandbox has no frames of its own, and its keeper bounds what it prints
NOT_OF_AGENTS = ("output_bytes", "frame_bytes")
_LEAST = {"frame_bytes": 4096, "niceness": 0, **dict.fromkeys(OPTIONAL_LIMITS, 0)}
_MOST = {"frame_bytes": MAX_FRAME_BYTES, "niceness": 19}
NOT_IN_THE_FILE = {
    "folder", "format", "python", "variable_defaults", "folders", "packages",
}  # fmt: skip
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_ENTRY = re.compile(r"[A-Za-z_]\w*:[A-Za-z_]\w*")


class Deadlines(Struct, frozen=True, forbid_unknown_fields=True):
    """Wall-clock limits, in seconds. Past one, the session's process is killed.

    The last two are for the session, and 0, the default, is no limit: how long an episode
    may take, and whether its client may think for an hour, only its author knows.

    Args:
        start_s: for importing the environment, and for isolating one session.
        reset_s: for one reset, the constructor included the first time.
        step_s: for one step.
        state_s: for reading the state.
        close_s: for closing; after it the process is killed without a word.
        cancel_s: for leaving a call that was cancelled, where the environment has a `cancel`.
        episode_s: from the answer of a reset to the end of the episode. Past it the step
            under way is cut, and only a reset is answered.
        idle_s: between two calls. Past it the session is closed, and its place is free.
    """

    start_s: Seconds = 60.0
    reset_s: Seconds = 60.0
    step_s: Seconds = 60.0
    state_s: Seconds = 10.0
    close_s: Seconds = 2.0
    cancel_s: Seconds = 5.0
    episode_s: OptionalSeconds = 0.0
    idle_s: OptionalSeconds = 0.0


class Runner(Struct, frozen=True, forbid_unknown_fields=True):
    """What agent code finds in its sandbox.

    Args:
        packages: installed distributions that it may import, by name.
        imports: modules to hold warm.
        limits: of each agent sandbox.
    """

    packages: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    limits: Limits = msgspec.field(default_factory=lambda: Limits(niceness=5))


class Manifest(Struct, frozen=True, forbid_unknown_fields=True):
    """One environment.

    Args:
        name: by which clients ask for it: lower case, digits, `-` and `_`.
        entry: module and class, such as "env:Echo", or an id such as "gym:CartPole-v1".
        description: one sentence for people.
        version: of the environment.
        reset: "reuse" calls the environment's own reset in the same process; "pristine"
            gives each episode a fresh process.
        variables: environment variables that it would like to have, by name. It gets those
            that the operator allows, and no others.
        agent_code: it may open sandboxes for agent code.
        network: "public" would like to reach the host's network, and does where the operator
            agrees, by name; "none" is what everybody has.
        deadlines: see Deadlines.
        limits: of each session process, see `envhub_sandbox.Limits`.
        runner: see Runner.
        gym: keyword arguments for `gymnasium.make`, where `entry` is an id.
        folder: where it is, "" if it is nothing but an id; not a key of the file, nor is what
            follows.
        format: whose it is; of OpenEnv's folders `entry` names the app, of Gymnasium's
            environments it is the id.
        python: folder of the virtual environment that it runs in; "" is the hub's own Python.
        variable_defaults: variables that its author has set, for where the operator does not.
        folders: that the operator shows it, where they are.
        packages: that the operator adds, where it has a Python of its own.
    """

    name: str
    entry: str
    description: str = ""
    version: Annotated[str, Meta(max_length=255)] = "0.1.0"
    reset: Literal["reuse", "pristine"] = "reuse"
    variables: tuple[Variable, ...] = ()
    agent_code: bool = False
    network: Literal["none", "public"] = "none"
    deadlines: Deadlines = Deadlines()
    limits: Limits = Limits()
    runner: Runner = Runner()
    gym: dict[str, Any] = {}
    folder: str = ""
    format: Literal["envhub", "openenv", "gym"] = "envhub"
    python: str = ""
    variable_defaults: dict[str, str] = {}
    folders: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Name and version, for messages."""
        return f"`{self.name}` {self.version}"

    @property
    def builds(self) -> bool:
        """Whether it runs in a Python of its own, which is built for it."""
        return self.format != "envhub"


def of_id(name: str) -> Manifest:
    """Return the manifest of an environment of Gymnasium's, from its id alone.

    Args:
        name: an id, with its prefix.
    """
    return Manifest(
        name=name,
        entry=name,
        description=f"Gymnasium's {name.removeprefix(gym.PREFIX)}",
        version=gym.version(name),
        format="gym",
    )


def read(folder: Path) -> Manifest:
    """Return the manifest of the environment in `folder`.

    Raises:
        ManifestError: the file is not valid; the message names file and key.
    """
    path = folder / FILE
    try:
        data: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ManifestError(f"`{path}` cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ManifestError(f"`{path}` is not TOML: {error}") from error
    for key in NOT_IN_THE_FILE & data.keys():
        raise ManifestError(f"`{path}`: unknown key `{key}`")
    found = {"folder": str(folder.resolve()), "format": _format(path, data)}
    try:
        manifest = msgspec.convert({**data, **found}, Manifest)
    except msgspec.ValidationError as error:
        raise ManifestError(f"`{path}`: {error}") from error
    _check_limits(path, data)
    if not _NAME.fullmatch(manifest.name):
        raise ManifestError(
            f"`{path}`: expected lower case letters, digits, `-` and `_`, got"
            f" `{manifest.name}` - at `$.name`"
        )
    if manifest.format == "envhub" and not _ENTRY.fullmatch(manifest.entry):
        raise ManifestError(
            f"`{path}`: expected `module:Class`, got `{manifest.entry}` - at `$.entry`"
        )
    return manifest


def _format(path: Path, data: dict[str, Any]) -> str:
    """Return whose environment it is; an id of Gymnasium's is no module and class of ours."""
    if gym.is_id(str(data.get("entry", ""))):
        try:
            json.dumps(data.get("gym", {}), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ManifestError(f"`{path}`: {error} - at `$.gym`") from None
        return "gym"
    if "gym" in data:
        raise ManifestError(f"`{path}`: `$.entry` is no id of Gymnasium's - at `$.gym`")
    return "envhub"


def _check_limits(path: Path, data: dict[str, Any]) -> None:
    """`Limits` is a plain dataclass of another package, so its keys are checked here."""
    known = list(Limits().as_dict())
    tables = {
        "$.limits": (data.get("limits", {}), known),
        "$.runner.limits": (
            data.get("runner", {}).get("limits", {}),
            [name for name in known if name not in NOT_OF_AGENTS],
        ),
    }
    for where, (table, names) in tables.items():
        for key, value in table.items():
            if key not in names:
                raise ManifestError(
                    f"`{path}`: unknown key `{key}` - at `{where}`",
                    hint=f"the limits are {', '.join(names)}",
                )
            least, most = _LEAST.get(key, 1), _MOST.get(key)
            if value < least:
                raise ManifestError(
                    f"`{path}`: expected {least} or more, got {value} - at `{where}.{key}`"
                )
            if most is not None and value > most:
                raise ManifestError(
                    f"`{path}`: expected {most} or less, got {value} - at `{where}.{key}`"
                )
