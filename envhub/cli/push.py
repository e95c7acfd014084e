"""`envhub push`: an environment's folder to where others find it, whole or not at all."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from envhub.cli import copying, granting, target
from envhub.cli.granting import grant_options
from envhub.cli.isolation import isolation_options
from envhub.errors import UsageError

if TYPE_CHECKING:
    from envhub.hub.environments.manifest import Manifest

_EXCHANGE = 2  # RENAME_EXCHANGE, renameat2(2)
_HERE = -100  # AT_FDCWD
_MAKING = ".envhub-push-"  # what is copied stands two levels deep, where no catalog looks


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("directory", required=False, metavar="[DIR]",
                type=click.Path(file_okay=False, path_type=Path))  # fmt: skip
@click.option("--force", is_flag=True, help="Replace the version that is there.")
@click.option("--no-check", is_flag=True, help="Copy it without checking it first.")
@grant_options
@isolation_options
def push(
    folder: Path, directory: Path | None, force: bool, no_check: bool, **given: Any
) -> None:
    """Check an environment, and copy it into a folder on somebody's search path.

    DIR is by default the first folder of $ENVHUB_PATH, else share/envhub/envs beside this
    Python. Caches, version control, virtual environments and editors' files stay behind. Who
    looks meanwhile sees all of it or nothing: the copy is made aside, and then renamed.
    """
    from envhub.check.subject import Plan
    from envhub.cli.check import checked

    if not target.is_environment(folder):
        raise UsageError(
            f"`{folder}` is no environment", hint="one has an `env.toml` or an `openenv.yaml`"
        )
    found = target.find(str(folder.resolve()))
    place = (directory or default_place()).resolve()
    pushed = place / (
        folder.resolve().name if found.manifest.format == "openenv" else found.name
    )
    if pushed == folder.resolve() or pushed.resolve().is_relative_to(folder.resolve()):
        raise UsageError(f"`{pushed}` is the folder itself, or within it")
    _check_free(pushed, force)
    if not no_check:
        granted = granting.one(given)
        target.build(granted.applied(found.manifest), click.echo)
        if not checked(found, Plan(), grants={found.name: granted}, **given).ok:
            raise UsageError(
                "not pushed: it does not keep what every environment must keep",
                hint="mend it, or push it all the same with `--no-check`",
            )
    count = _place(folder, pushed, force)
    click.echo(f"pushed {found.name} {found.manifest.version} to {pushed} ({count} files)")
    _say_how_it_is_found(found.manifest, pushed)


def default_place() -> Path:
    """Return the first folder of $ENVHUB_PATH, else that of this Python."""
    for path in os.environ.get("ENVHUB_PATH", "").split(os.pathsep):
        if path:
            return Path(path)
    return Path(sysconfig.get_path("data")) / "share" / "envhub" / "envs"


def _place(folder: Path, pushed: Path, force: bool) -> int:
    try:
        pushed.parent.mkdir(parents=True, exist_ok=True)
        with _aside(pushed.parent) as making:
            made = making / pushed.name
            count = copying.copy(folder, made)
            target.held(made)  # what was left out was not its manifest
            if os.path.lexists(pushed) and force:
                exchange(made, pushed)
            else:
                os.rename(made, pushed)
    except OSError as error:
        if os.path.lexists(pushed) and not force:
            _check_free(pushed, force)
        raise UsageError(f"cannot write to `{pushed.parent}`: {error.strerror}") from error
    return count


@contextmanager
def _aside(place: Path) -> Iterator[Path]:
    """Hold a folder beside the others, on the same file system, that nobody looks into."""
    making = Path(tempfile.mkdtemp(prefix=_MAKING, dir=place))
    try:
        yield making
    finally:
        shutil.rmtree(making, ignore_errors=True)


def exchange(one: Path, other: Path) -> None:
    """Swap two folders, in one step where the file system can.

    Raises:
        OSError: they could not be; both are where they were.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    renameat2 = getattr(libc, "renameat2", None)
    if renameat2 is not None and not renameat2(
        _HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE
    ):
        return
    aside = one.with_name(f"{one.name}.old")
    other.rename(aside)
    try:
        one.rename(other)
    except OSError:
        aside.rename(other)
        raise


def _check_free(pushed: Path, force: bool) -> None:
    if not os.path.lexists(pushed) or force:
        return
    version = ""
    if target.is_environment(pushed):
        version = f" ({target.held(pushed)[0].version})"
    raise UsageError(f"`{pushed}`{version} is there already", hint="`--force` replaces it")


def _say_how_it_is_found(manifest: Manifest, pushed: Path) -> None:
    from envhub.hub.environments.catalog import Catalog, search_path

    path = search_path()
    if pushed.parent not in path:
        click.echo(f"found after: export ENVHUB_PATH={pushed.parent}")
        return
    found = Catalog(path)
    say = partial(click.secho, fg="yellow")
    if manifest.name in found and found[manifest.name].folder != str(pushed):
        say(f"`{found[manifest.name].folder}` goes before it, for it is earlier on the path")
    else:
        click.echo(
            f"found as `{manifest.name}`: {Path(sys.argv[0]).name} serve --env {manifest.name}"
        )
