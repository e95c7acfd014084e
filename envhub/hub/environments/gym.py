"""Ids of Gymnasium's environments: what they look like, and what has to be installed for them.

    gym:CartPole-v1
    gym:ALE/Pong-v5
    gym:my_package:MyEnv-v0

Nothing of Gymnasium is imported here: an id alone says what its worker needs.
"""

from __future__ import annotations

import re

PREFIX = "gym:"
_MODULE = r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*"
# no namespace ends like an id, or an id's own routes in a URL could be one
_NAMESPACE = r"(?![A-Za-z0-9_-]*-v[0-9]+/)[A-Za-z0-9_][A-Za-z0-9_-]*"
_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
# Gymnasium's form, in ASCII and with a version: without one an id means what is newest
PATTERN = rf"gym:(?:{_MODULE}:)?(?:{_NAMESPACE}/)?{_NAME}-v[0-9]{{1,6}}"
_ID = re.compile(PATTERN)
_LONGEST = 128
_VERSIONED = re.compile(r".*-v[0-9]{1,6}")

_GYMNASIUM = "gymnasium"
_RANGE = ">=1.1,<2"
_EXTRAS = {"ALE": "atari", "phys2d": "jax", "tabular": "jax"}  # by namespace
_BOX2D = ("LunarLander", "LunarLanderContinuous", "BipedalWalker", "BipedalWalkerHardcore",
          "CarRacing")  # fmt: skip
_MUJOCO = ("Ant", "HalfCheetah", "Hopper", "Humanoid", "HumanoidStandup",
           "InvertedDoublePendulum", "InvertedPendulum", "Pusher", "Reacher", "Swimmer",
           "Walker2d")  # fmt: skip
_EXTRAS_BY_NAME = {**dict.fromkeys(_BOX2D, "box2d"), **dict.fromkeys(_MUJOCO, "mujoco")}
_REGISTERED_BY = {"ALE": "ale_py"}  # modules that tell Gymnasium of a namespace
FORM = "ids are such as gym:CartPole-v1, gym:ALE/Pong-v5 or gym:my_package:MyEnv-v0"


def is_meant(name: str) -> bool:
    """Whether a name means an id of Gymnasium's, if perhaps a wrong one."""
    return name.startswith(PREFIX)


def is_id(name: str) -> bool:
    """Whether a name is an id of Gymnasium's, with its prefix. There may be no such thing."""
    return len(name) <= _LONGEST and _ID.fullmatch(name) is not None


def meant_by(name: str) -> str:
    """Return the id that a name without the prefix looks like; "" if it does not."""
    found = f"{PREFIX}{name}"
    return found if _VERSIONED.fullmatch(name) and is_id(found) else ""


def requirement(name: str) -> str:
    """Return what an id needs of Gymnasium, in the form of PEP 508."""
    module, namespace, short = _parts(name)
    extra = _EXTRAS.get(namespace, "")
    if not module and not namespace:
        extra = _EXTRAS_BY_NAME.get(short, "")
    return f"{_GYMNASIUM}[{extra}]{_RANGE}" if extra else f"{_GYMNASIUM}{_RANGE}"


def entry(name: str) -> str:
    """Return an id as Gymnasium takes it, with the module that registers it if there is one."""
    module, namespace, _ = _parts(name)
    plain = name.removeprefix(PREFIX)
    if not module and namespace in _REGISTERED_BY:
        return f"{_REGISTERED_BY[namespace]}:{plain}"
    return plain


def version(name: str) -> str:
    """Return the version that an id ends with."""
    return name.rpartition("-v")[2]


def cut(text: str) -> tuple[str, str]:
    """Return `ID:REST` in its two parts; two empty ones if it is not of that form.

    What follows may have colons of its own, as an id may.
    """
    found = re.match(rf"({PATTERN}):(.+)", text, re.DOTALL)
    return (found[1], found[2]) if found else ("", "")


def _parts(name: str) -> tuple[str, str, str]:
    """Return module, namespace and name without the version; "" for what there is not."""
    module, _, rest = name.removeprefix(PREFIX).rpartition(":")
    namespace, _, short = rest.rpartition("/")
    return module, namespace, short.rpartition("-v")[0]
