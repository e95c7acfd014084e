"""`envhub run`: play an environment."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from envhub.cli import granting, target
from envhub.cli.granting import grant_options
from envhub.cli.isolation import isolation_options
from envhub.cli.terminal import shown
from envhub.errors import EnvhubError, UsageError, WorkerStartFailed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from envhub.cli.fields import Field
    from envhub.hub.embedded import EmbeddedSession
    from envhub.results import StepResult

_HELP = """\
An answer is checked as it is typed; an empty one takes what stands in [brackets].
A text that begins with a quotation mark is read as JSON: "two\\nlines".
A line that begins with { is a whole action, as JSON.
  :reset [NAME=JSON ...]   begin another episode, perhaps with other options
  :state                   show the environment's state
  :quit                    leave; so do Ctrl-D and Ctrl-C
"""


@click.command()
@click.argument("env")
@click.option("--envs", multiple=True, metavar="DIR", help="A folder to look in first.")
@click.option("--seed", type=click.IntRange(0), help="Of the first episode.")
@click.option("--option", "options", multiple=True, metavar="NAME=JSON",
              help="An option of the reset; what is no JSON is a text.")  # fmt: skip
@grant_options
@isolation_options
def run(
    env: str,
    envs: tuple[str, ...],
    seed: int | None,
    options: tuple[str, ...],
    **given: Any,
) -> None:
    r"""Play an environment in the terminal, in a real sandbox.

    ENV is a name on the search path, a folder, ours or one written for OpenEnv, or an id of
    Gymnasium's such as gym:CartPole-v1. Each field of an action is asked for, as its type
    says. `:help` lists the commands.

    When standard input is no terminal it is read as a script: each line an action as JSON, or
    a command; each answer is one line of JSON. Exit code 1 if one of them was an error.

    \b
      envhub run echo --seed 7
      printf '{"message": "hello"}\n:state\n' | envhub run echo
    """
    from envhub.hub.background import BackgroundHub
    from envhub.hub.embedded import EmbeddedSession
    from envhub.hub.hub import Hub

    first = parse(options)
    if seed is not None:
        first["seed"] = seed
    found = target.find(env, envs)
    granted = granting.one(given)
    target.build(granted.applied(found.manifest), partial(click.echo, err=True))
    hub = Hub(found.envs, grants={found.name: granted}, **given)
    background = BackgroundHub(hub)
    try:
        with EmbeddedSession(background, found.name) as session:
            described = session.describe()
            if described.is_application:
                raise UsageError(
                    f"`{found.name}` builds a server of its own, and is played by its clients",
                    hint=f"`envhub serve {env}`",
                )
            if sys.stdin.isatty():
                with suppress(ImportError):
                    import readline  # noqa: F401  (lines can be edited, and come again)
                _Player(session, json.loads(described.action)).play(first)
            elif not _script(session, first, sys.stdin):
                sys.exit(1)
    finally:
        background.close()


def parse(options: Iterable[str]) -> dict[str, Any]:
    """Return options that are written as NAME=JSON.

    Raises:
        UsageError: one is not.
    """
    found: dict[str, Any] = {}
    for option in options:
        name, equals, text = option.partition("=")
        if not equals or not name:
            raise UsageError(f"expected NAME=JSON, got `{option}`")
        try:
            found[name] = json.loads(text)
        except ValueError:
            found[name] = text
    return found


# ---------------------------------------------------------------- for programs


def _script(session: EmbeddedSession, options: dict[str, Any], lines: Iterable[str]) -> bool:
    """Answer each line with a line of JSON; return whether all went well."""
    ok = _say(lambda: _as_json("reset", session.reset(**options)))
    for line in map(str.strip, lines):
        if line == ":quit":
            break
        if line:
            ok = _say(lambda line=line: _answer(session, line)) and ok
    return ok


def _answer(session: EmbeddedSession, line: str) -> dict[str, Any]:
    words = line.split()
    if words[0] == ":reset":
        return _as_json("reset", session.reset(**parse(words[1:])))
    if words[0] == ":state":
        return {"call": "state", "state": session.state}
    if line.startswith(":"):
        raise UsageError(f"no command `{words[0]}`", hint="there is :reset, :state, :quit")
    try:
        action = json.loads(line)
    except ValueError as error:
        raise UsageError(f"not JSON: {error}") from None
    return _as_json("step", session.step(action))


def _as_json(call: str, result: StepResult) -> dict[str, Any]:
    return {
        "call": call,
        "observation": result.observation,
        "reward": result.reward,
        "done": result.done,
        "truncated": result.truncated,
        "metadata": result.metadata,
    }


def _say(ask: Any) -> bool:
    from envhub.check.plain import plain

    ok = True
    try:
        answer = plain(ask())
    except WorkerStartFailed:
        raise
    except EnvhubError as error:
        ok = False
        answer = {"error": {"code": error.code, "message": str(error), "hint": error.hint}}
    click.echo(json.dumps(answer, ensure_ascii=True))
    sys.stdout.flush()
    return ok


# ---------------------------------------------------------------- for people


class _Reset(Exception):
    """The player wants another episode."""

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__()
        self.options = options


class _Player:
    """A person at a terminal.

    Args:
        session: to play.
        schema: of its actions.
    """

    def __init__(self, session: EmbeddedSession, schema: Any) -> None:
        from envhub.cli.fields import fields

        self._session = session
        self._fields = fields(schema)

    def play(self, options: dict[str, Any]) -> None:
        """Play episodes until the player leaves."""
        click.secho(":help lists the commands, :quit leaves", dim=True)
        while True:
            try:
                self._episode(options)
            except _Reset as wish:
                options = wish.options
            except EOFError:
                click.echo()
                return

    def _episode(self, options: dict[str, Any]) -> None:
        result = self._told(lambda: self._session.reset(**options))
        if result is None:
            self._command(input("no episode; :reset NAME=JSON with other options, or :quit  "))
            return
        self._show("reset", result)
        steps, total = 0, 0.0
        while not result.done:
            action = self._action()
            taken = self._told(lambda action=action: self._session.step(action))
            if taken is None:
                if not self._session.pid:
                    click.echo("the episode is lost")
                    break
                continue
            result, steps = taken, steps + 1
            total += result.reward or 0.0
            self._show(f"step {steps}", result)
        else:
            how = "truncated" if result.truncated and not result.terminated else "done"
            click.secho(f"episode over ({how}): {steps} steps, {total:g} in all", bold=True)
        while True:
            self._command(
                input("Enter or :reset for another episode, :quit to leave  ") or ":reset"
            )

    def _action(self) -> Any:
        """Ask for an action, field by field."""
        if not self._fields:
            return self._whole("action (JSON): ") if self._fields is None else {}
        action: dict[str, Any] = {}
        for field in self._fields:
            if len(field.choices) == 1 and field.required:
                action[field.name] = field.choices[0]
                continue
            text = self._ask(field)
            if isinstance(text, dict):
                return text
            if text is not None:
                action[field.name] = text[0]
        return action

    def _ask(self, field: Field) -> tuple[Any] | dict[str, Any] | None:
        """Return a value in a tuple, a whole action, or None for what is left out."""
        description = (
            field.schema.get("description") if isinstance(field.schema, dict) else None
        )
        if description:
            click.secho(f"  {shown(str(description))}", dim=True)
        while True:
            text = input(shown(field.prompt()))
            if self._command(text):
                continue
            if not text and not field.required:
                return None
            try:
                if text.startswith("{") and field.kind != "JSON":
                    whole = json.loads(text)
                    if isinstance(whole, dict):
                        return whole
            except ValueError:
                pass  # a text that begins so
            try:
                return (field.read(text),)
            except ValueError as error:
                click.secho(f"  {shown(str(error))}", fg="yellow")

    def _whole(self, prompt: str) -> Any:
        while True:
            text = input(prompt)
            if self._command(text):
                continue
            try:
                return json.loads(text)
            except ValueError as error:
                click.secho(f"  not JSON: {error}", fg="yellow")

    def _command(self, text: str) -> bool:
        """Do what a line that begins with `:` says; False for any other line."""
        words = text.split()
        match words:
            case [":quit" | ":q", *_]:
                raise EOFError
            case [":reset", *options]:
                try:
                    raise _Reset(parse(options))
                except UsageError as error:
                    click.secho(f"  {error}", fg="yellow")
            case [":state", *_]:
                state = self._told(lambda: self._session.state)
                if state is not None:
                    _mapping(state)
            case [":help", *_]:
                click.echo(_HELP, nl=False)
            case [word, *_] if word.startswith(":"):
                click.secho(f"  no command `{shown(word)}`; :help lists them", fg="yellow")
            case _:
                return False
        return True

    def _told(self, ask: Any) -> Any:
        """Return what was asked for; None after an error, which is shown."""
        try:
            return ask()
        except WorkerStartFailed:
            raise
        except EnvhubError as error:
            from envhub.cli.failure import say

            say(error)
            if trace := getattr(error, "traceback", ""):
                click.secho(shown(trace.rstrip()), dim=True, err=True)
            return None

    def _show(self, title: str, result: StepResult) -> None:
        if output := self._session.output:
            click.secho(f"it printed:\n{shown(output.rstrip())}", dim=True)
        reward = "" if result.reward is None else f"   reward {result.reward:g}"
        click.secho(f"{title}{reward}", fg="cyan")
        _mapping(result.observation)
        if result.metadata:
            click.secho(f"  metadata: {shown(_compact(result.metadata))}", dim=True)


def _mapping(value: Any) -> None:
    for name, item in value.items() if isinstance(value, dict) else [("value", value)]:
        for line in _lines(str(name), item):
            click.echo(f"  {shown(line)}")


def _lines(name: str, item: Any) -> Iterator[str]:
    text = item if isinstance(item, str) else _compact(item)
    if "\n" in text:
        yield f"{name}:"
        yield from (f"  {line}" for line in text.splitlines())
    else:
        yield f"{name}: {text}"


def _compact(value: Any) -> str:
    from envhub.check.plain import plain

    return json.dumps(plain(value), ensure_ascii=False)
