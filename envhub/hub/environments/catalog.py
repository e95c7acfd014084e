"""The catalog: all environments on the search path, by name.

Searched in this order, first match wins, as Jupyter finds its kernels: the folders given
(`--envs`), `$ENVHUB_PATH`, `./envs`, and `share/envhub/envs` beside the interpreter. A folder
on the path is an environment itself, or holds environments: ours have an `env.toml`, OpenEnv's
an `openenv.yaml`. Ids of Gymnasium's are names, too, and need no folder.
"""

from __future__ import annotations

import difflib
import os
import sysconfig
from collections.abc import Iterable
from pathlib import Path

from envhub.errors import ManifestError, UnknownEnvironment
from envhub.hub.environments import gym, manifest, openenv
from envhub.hub.environments.manifest import Manifest


def search_path(given: Iterable[str | Path] = ()) -> list[Path]:
    """Return the folders to look in. Folders that were given must exist.

    Raises:
        UnknownEnvironment: a given folder does not exist.
    """
    path = [Path(folder) for folder in given]
    for folder in path:
        if not folder.is_dir():
            raise UnknownEnvironment(f"no folder `{folder}`")
    path += [Path(p) for p in os.environ.get("ENVHUB_PATH", "").split(os.pathsep) if p]
    path += [Path("envs"), Path(sysconfig.get_path("data")) / "share" / "envhub" / "envs"]
    return [folder.resolve() for folder in path if folder.is_dir()]


class Catalog:
    """Manifests by name, read once.

    Args:
        path: folders to look in, in order.
    """

    def __init__(self, path: Iterable[Path]) -> None:
        self.path = list(path)
        self._found: dict[str, Manifest] = {}
        self._is_closed = False
        self.broken: dict[str, ManifestError] = {}
        for folder in self.path:
            for candidate in _environments(folder):
                self._add(candidate)

    def names(self) -> list[str]:
        """Return every name, sorted."""
        return sorted(self._found)

    def __getitem__(self, name: str) -> Manifest:
        """Return the manifest of that name. An id has one as soon as somebody names it.

        Raises:
            ManifestError: there is one, and it is not valid.
            UnknownEnvironment: there is none.
        """
        if name in self._found:
            return self._found[name]
        if gym.is_meant(name) and not self._is_closed:
            if not gym.is_id(name):
                raise UnknownEnvironment(f"`{name}` is no id of Gymnasium's", hint=gym.FORM)
            self._found[name] = manifest.of_id(name)
            return self._found[name]
        if name in self.broken:
            raise self.broken[name].with_traceback(None)  # or that grows each time
        near = difflib.get_close_matches(name, self._found, n=1)
        if near:
            hint = f"did you mean `{near[0]}`?"
        elif not self._is_closed and (meant := gym.meant_by(name)):
            hint = f"Gymnasium's is `{meant}`"
        elif self._found:
            hint = f"there is {', '.join(self.names())}"
        else:
            hint = "name a folder of environments with --envs, or in $ENVHUB_PATH"
        raise UnknownEnvironment(f"no environment `{name}`", hint=hint)

    def __contains__(self, name: str) -> bool:
        return name in self._found

    def close(self) -> None:
        """Take no more names for ids of Gymnasium's: from now on they may be a stranger's.

        What an id names is installed, and run.
        """
        self._is_closed = True

    def keep(self, names: Iterable[str]) -> None:
        """Forget every environment but these.

        Raises:
            UnknownEnvironment: one of them is not here.
        """
        self._found = {name: self[name] for name in names}
        self.broken = {}

    def only(self, manifest: Manifest) -> None:
        """Forget every environment, and know the one that was found in another way."""
        self._found = {manifest.name: manifest}
        self.broken = {}
        self.close()

    def default(self, name: str | None = None) -> str | None:
        """Return what stands at the root: `name`, else the alphabetically first, if any.

        Raises:
            UnknownEnvironment: there is no environment `name`.
        """
        if name is not None:
            return self[name].name
        return next(iter(self.names()), None)

    def _add(self, folder: Path) -> None:
        try:
            ours = (folder / manifest.FILE).is_file()
            found = manifest.read(folder) if ours else openenv.read(folder)
        except ManifestError as error:
            self.broken.setdefault(folder.name, error)
            return
        self._found.setdefault(found.name, found)


def _environments(folder: Path) -> list[Path]:
    files = (manifest.FILE, openenv.FILE)
    if any((folder / file).is_file() for file in files):
        return [folder]
    return sorted({child.parent for file in files for child in folder.glob(f"*/{file}")})
