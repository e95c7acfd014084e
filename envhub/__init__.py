"""OpenEnv's API, Gymnasium's speed, a real sandbox per session, on any Linux box.

The public names are the ones listed here, and nothing else is public. They load on first
use: a worker in its sandbox imports `envhub.worker`, which runs this file first, and must
not pay for the hub or for Starlette.
"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from envhub.adapters.gymnasium import VectorEnv as VectorEnv
    from envhub.adapters.gymnasium import make_vec as make_vec
    from envhub.adapters.trainers import make_sb3_vec as make_sb3_vec
    from envhub.authoring.agent import AgentSandbox as AgentSandbox
    from envhub.authoring.environment import Environment as Environment
    from envhub.authoring.rubric import Gate as Gate
    from envhub.authoring.rubric import Rubric as Rubric
    from envhub.authoring.rubric import Sequential as Sequential
    from envhub.authoring.rubric import WeightedSum as WeightedSum
    from envhub.authoring.transform import CompositeTransform as CompositeTransform
    from envhub.authoring.transform import NullTransform as NullTransform
    from envhub.authoring.transform import Transform as Transform
    from envhub.authoring.types import Action as Action
    from envhub.authoring.types import Observation as Observation
    from envhub.authoring.types import State as State
    from envhub.batch import Batch as Batch
    from envhub.client.auto import AutoAction as AutoAction
    from envhub.client.auto import AutoEnv as AutoEnv
    from envhub.client.http import HTTPEnvClient as HTTPEnvClient
    from envhub.client.native.blocking import SyncRemoteHub as SyncRemoteHub
    from envhub.client.native.blocking import SyncRemoteSession as SyncRemoteSession
    from envhub.client.native.hub import RemoteHub as RemoteHub
    from envhub.client.native.hub import connect as connect
    from envhub.client.native.session import RemoteSession as RemoteSession
    from envhub.client.provider import EnvHubProvider as EnvHubProvider
    from envhub.client.websocket import EnvClient as EnvClient
    from envhub.door.hosting import HTTPEnvServer as HTTPEnvServer
    from envhub.door.hosting import create_app as create_app
    from envhub.errors import EnvhubError as EnvhubError
    from envhub.hub.embedded import EmbeddedSession as EmbeddedSession
    from envhub.hub.environments.grants import Grant as Grant
    from envhub.hub.hub import Hub as Hub
    from envhub.hub.make import make as make
    from envhub.hub.session import Session as Session
    from envhub.results import Bill as Bill
    from envhub.results import Record as Record
    from envhub.results import StepResult as StepResult
else:
    _HOME = {
        "Action": "envhub.authoring.types",
        "AgentSandbox": "envhub.authoring.agent",
        "EmbeddedSession": "envhub.hub.embedded",
        "Environment": "envhub.authoring.environment",
        "AutoAction": "envhub.client.auto",
        "AutoEnv": "envhub.client.auto",
        "Bill": "envhub.results",
        "EnvClient": "envhub.client.websocket",
        "EnvHubProvider": "envhub.client.provider",
        "HTTPEnvClient": "envhub.client.http",
        "EnvhubError": "envhub.errors",
        "Grant": "envhub.hub.environments.grants",
        "Hub": "envhub.hub.hub",
        "Observation": "envhub.authoring.types",
        "Record": "envhub.results",
        "Session": "envhub.hub.session",
        "State": "envhub.authoring.types",
        "StepResult": "envhub.results",
        "HTTPEnvServer": "envhub.door.hosting",
        "create_app": "envhub.door.hosting",
        "CompositeTransform": "envhub.authoring.transform",
        "Gate": "envhub.authoring.rubric",
        "NullTransform": "envhub.authoring.transform",
        "Rubric": "envhub.authoring.rubric",
        "Sequential": "envhub.authoring.rubric",
        "Transform": "envhub.authoring.transform",
        "WeightedSum": "envhub.authoring.rubric",
        "make": "envhub.hub.make",
        "make_sb3_vec": "envhub.adapters.trainers",
        "make_vec": "envhub.adapters.gymnasium",
        "VectorEnv": "envhub.adapters.gymnasium",
        "Batch": "envhub.batch",
        "RemoteHub": "envhub.client.native.hub",
        "RemoteSession": "envhub.client.native.session",
        "SyncRemoteHub": "envhub.client.native.blocking",
        "SyncRemoteSession": "envhub.client.native.blocking",
        "connect": "envhub.client.native.hub",
    }
    __all__ = sorted(_HOME)

    def __getattr__(name):
        """Load a public name from the module that defines it (PEP 562)."""
        from importlib import import_module

        try:
            return getattr(import_module(_HOME[name]), name)
        except KeyError:
            raise AttributeError(f"module 'envhub' has no attribute {name!r}") from None

    def __dir__():
        """List the public names, so that a REPL completes them."""
        return __all__
