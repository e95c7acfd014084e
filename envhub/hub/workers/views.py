"""What the sandboxes of a worker and of a runner show, and the commands that run in them."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import envhub
import envhub_sandbox
from envhub.errors import ManifestError
from envhub.hub.environments import gym
from envhub.hub.environments.manifest import Manifest
from envhub_sandbox import Bind, Limits, View, shown

_CODE = "/opt/envhub"  # where envhub's own code stands in every sandbox
_IMAGES = "/app"
_IMAGE = "/app/env"  # where OpenEnv's images have an environment, and some look for it
_PACKAGES = "/opt/packages"  # what agent code may import
_BOOT = "import sys; sys.path[:0] = sys.argv.pop(1).split(':'); "
_WORKER = _BOOT + "from envhub.worker.__main__ import main; main()"
_RUNNER = _BOOT + "from envhub.runner.__main__ import main; main()"
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": envhub_sandbox.WORKSPACE,
    "TMPDIR": "/tmp",  # noqa: S108  (the session's own)
    "LANG": "C.UTF-8",
    # a zygote must stay single-threaded to be forked
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}


def worker_view(manifest: Manifest, variables: Mapping[str, str]) -> View:
    """Return what an environment sees: the system, a Python and its packages, itself."""
    python = shown.virtual(manifest.python) if manifest.python else None
    interpreter = envhub_sandbox.interpreter(packages=True, python=python)
    own = [Bind(_own_files(manifest))] if manifest.folder else []
    own += map(Bind, manifest.folders)
    if manifest.format == "openenv":
        own += [Bind(manifest.folder, path) for path in (_IMAGE, _package(manifest))]
    named = View(environment=tuple({**manifest.variable_defaults, **variables}.items()))
    view = _view(interpreter, (*_own_code(), *own))
    if manifest.network == "public":
        view = envhub_sandbox.joined(view, shown.network())
    return envhub_sandbox.joined(named, view)  # ours win


def _own_files(manifest: Manifest) -> str:
    """Return its folder; of a class in a package, that package and not what is beside it."""
    package, dot, _ = manifest.entry.partition(":")[0].partition(".")
    alone = dot and manifest.format == "envhub"
    return f"{manifest.folder}/{package}" if alone else manifest.folder


def worker_command(manifest: Manifest, isolated: bool) -> list[str]:
    """Return the command of an environment's zygote."""
    spec = {
        "format": manifest.format,
        "entry": gym.entry(manifest.entry) if manifest.format == "gym" else manifest.entry,
        "options": manifest.gym,
        "folders": _folders(manifest, isolated),
        "limits": manifest.limits.as_dict(),
        "variables": manifest.variables,
    }
    path = f"{{root}}{_CODE}" if isolated else ":".join(_own_path())
    flags = ["-I", "-B", "-u", "-c"]
    python = f"{manifest.python}/bin/python" if manifest.python else sys.executable
    return [python, *flags, _WORKER, path, json.dumps(spec), "{control}"]


def _folders(manifest: Manifest, isolated: bool) -> list[str]:
    """Return what is put on the environment's `sys.path`, its own folder last."""
    if manifest.format != "openenv":
        return [manifest.folder] if manifest.folder else []
    if not isolated:
        return [str(Path(manifest.folder).parent), manifest.folder]
    package = PurePosixPath(_package(manifest))
    return [f"{{root}}{path}" for path in (package.parents[1], package.parent, package)]


def _package(manifest: Manifest) -> str:
    """Where an OpenEnv folder can be imported by its name, also as a part of `envs`."""
    return f"{_IMAGES}/envs/{Path(manifest.folder).name}"


def runner_view(manifest: Manifest) -> View:
    """Return what agent code sees: the system, a bare Python, and the packages named."""
    binds = [*_own_code()]
    for name in manifest.runner.packages:
        binds += _distribution(name)
    return _view(envhub_sandbox.interpreter(packages=False), tuple(binds))


def runner_command(manifest: Manifest, isolated: bool) -> list[str]:
    """Return the command of the zygote that agent sandboxes are forked from."""
    limits: Limits = manifest.runner.limits
    spec = {
        "limits": limits.as_dict(),
        "imports": manifest.runner.imports,
    }
    inside = f"{{root}}{_CODE}:{{root}}{_PACKAGES}"
    path = inside if isolated else ":".join(_own_path())
    flags = ["-I", "-S", "-B", "-u", "-c"]
    return [envhub_sandbox.program(), *flags, _RUNNER, path, json.dumps(spec), "{control}"]


def _view(python: View, extra: tuple[Bind, ...]) -> View:
    environment = tuple(ENVIRONMENT.items())
    own = View(extra, environment=environment)
    return envhub_sandbox.joined(envhub_sandbox.system(), python, own)


def _own_code() -> tuple[Bind, ...]:
    packages = (envhub, envhub_sandbox)
    return tuple(Bind(p.__path__[0], f"{_CODE}/{p.__name__}") for p in packages)


def _own_path() -> list[str]:
    """Where the packages are importable from, for isolation `none`."""
    parents = [str(Path(p.__path__[0]).parent) for p in (envhub, envhub_sandbox)]
    return list(dict.fromkeys(parents))


def _distribution(name: str) -> list[Bind]:
    """Return binds for the top-level modules of one installed distribution.

    Raises:
        ManifestError: it is not installed.
    """
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        raise ManifestError(
            f"the package `{name}` of `$.runner.packages` is not installed",
            hint=f"{sys.executable} -m pip install {name}",
        ) from None
    tops = {
        PurePosixPath(str(file)).parts[0]
        for file in distribution.files or ()
        if not str(file).startswith("..")
    }
    root = Path(str(distribution.locate_file("")))
    tops = {top for top in tops if not top.startswith("__pycache__")}
    return [Bind(str(root / top), f"{_PACKAGES}/{top}") for top in sorted(tops)]
