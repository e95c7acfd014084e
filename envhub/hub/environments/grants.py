"""What an operator gives to one environment, by its name, beyond what all of them have."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from envhub.errors import UsageError
from envhub.hub.environments.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Grant:
    """Nothing, unless it is said.

    Args:
        network: it may use this machine's network, if its manifest asks: its own servers,
            other machines near it, the internet. Its sessions are isolated as in `standard`,
            at best; agent code stays without.
        variables: names of environment variables of this process that it gets; its manifest
            need not name them.
        folders: that it may read, where they are.
        packages: to be installed beside those that it names, in the form of PEP 508; for
            folders for OpenEnv and ids of Gymnasium's, which have a Python of their own.
    """

    network: bool = False
    variables: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()

    def applied(self, manifest: Manifest) -> Manifest:
        """Return the manifest with what is given, and without what is asked for in vain.

        Raises:
            UsageError: a folder is none, a variable is not set, or there is no place for a
                package.
        """
        for folder in self.folders:
            if not Path(folder).is_dir():
                raise UsageError(f"no folder `{folder}` to show to `{manifest.name}`")
        for variable in self.variables:
            if variable not in os.environ:
                raise UsageError(f"the variable `{variable}` for `{manifest.name}` is not set")
        if self.packages and not manifest.builds:
            raise UsageError(
                f"`{manifest.name}` runs on envhub's own Python",
                hint=f"pip install {' '.join(self.packages)}",
            )
        return replace(
            manifest,
            network=manifest.network if self.network else "none",
            variables=tuple(dict.fromkeys((*manifest.variables, *self.variables))),
            folders=tuple(str(Path(folder).resolve()) for folder in self.folders),
            packages=self.packages,
        )

    def handed(self, manifest: Manifest, to_all: frozenset[str]) -> Mapping[str, str]:
        """Return the variables that it gets, with their values.

        Args:
            manifest: as `applied` returned it.
            to_all: names that go to whoever names them.
        """
        named = {name for name in manifest.variables if name in to_all}
        return {v: os.environ[v] for v in (*named, *self.variables) if v in os.environ}


NOTHING = Grant()
