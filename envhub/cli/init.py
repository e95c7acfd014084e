"""`envhub init`: an environment to begin with."""

from __future__ import annotations

import os
import re
import shutil
from importlib import resources
from pathlib import Path

import click

from envhub.errors import UsageError

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_FILES = ("env.toml", "env.py", "test_env.py", "README.md")


@click.command()
@click.argument("name")
@click.option("--from-openenv", "folder", metavar="FOLDER",
              type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="Copy a folder for OpenEnv, without its container.")  # fmt: skip
def init(name: str, folder: Path | None) -> None:
    """Make an environment to begin with, in a new folder ./NAME.

    It is small and complete, and passes its own tests and `envhub check` at once: env.toml
    says what it is, env.py is the environment, test_env.py plays it in a sandbox.

    With --from-openenv it is a copy of a folder that was written for OpenEnv, and remains one
    that OpenEnv's server and envhub serve alike. Variables that its Dockerfile sets are kept,
    in openenv.yaml.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"`{name}` is no name of an environment",
            hint="lower case letters, digits, `-` and `_`, such as `my_env`",
        )
    made = Path(name)
    if made.is_symlink() or (made.exists() and (not made.is_dir() or any(made.iterdir()))):
        raise UsageError(
            f"`{made}` is there already, and not empty", hint="choose another name"
        )
    if made.exists():
        made.rmdir()
    tests = name
    if folder is None:
        _scaffold(name, made)
    else:
        from envhub.cli import adopting

        try:
            for said in adopting.adopt(folder, made, name):
                click.echo(said)
            tests = str(next(made.glob("tests*/test_env.py")).parent)
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise
    files = sorted(p.name for p in made.iterdir())
    click.echo(f"made ./{name}: {', '.join(files)}\n")
    click.echo("next:")
    click.echo(f"  python -m pytest {tests:<14} its own tests, in a sandbox")
    click.echo(f"  envhub check {name:<18} does it keep what every environment must keep?")
    click.echo(f"  envhub serve {name:<18} then connect OpenEnv's client")


def class_name(name: str) -> str:
    """Return the name of an environment's class: `my-env` is MyEnv."""
    joined = "".join(word[:1].upper() + word[1:] for word in re.split(r"[-_]+", name))
    return joined if joined[:1].isalpha() else f"Env{joined}"


def _scaffold(name: str, made: Path) -> None:
    """Write the files, in which the example's names become the new one's."""
    made.mkdir()
    source = resources.files("envhub.cli.scaffold")
    for file in _FILES:
        text = (source / file).read_text(encoding="utf-8")
        text = text.replace("Guess", class_name(name))
        # where it is the name, and not a word: "your guess" stays
        for around in ('"{}"', "# {}", "pytest {}", "check {}", "serve {}", "Plays {}"):
            text = text.replace(around.format("guess"), around.format(name))
        (made / file).write_text(text, encoding="utf-8")
    if os.geteuid() == 0:  # sandboxes then run as another user, who must be able to read it
        for path in (made, *made.iterdir()):
            path.chmod(0o755 if path.is_dir() else 0o644)
