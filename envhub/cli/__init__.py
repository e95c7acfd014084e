"""The command `envhub`. Each subcommand lives in a module that is imported when it runs."""

from __future__ import annotations

import difflib
import sys
from importlib import import_module

import click

import envhub

# command → (module, one line of help): so that `--help` imports none of them
_COMMANDS = {
    "demo": (
        "envhub.cli.demo",
        "Solve and grade 164 real problems in sandboxes, here and now.",
    ),
    "init": ("envhub.cli.init", "Make an environment to begin with, tested at once."),
    "check": ("envhub.cli.check", "Try whether an environment keeps what every one must keep."),
    "run": ("envhub.cli.run", "Play an environment in the terminal, or from a script."),
    "serve": ("envhub.cli.serve", "Serve environments to OpenEnv clients over WebSocket."),
    "top": ("envhub.cli.top", "Watch a running server: its environments and busiest sessions."),
    "build": ("envhub.cli.build", "Install what an OpenEnv folder needs, ahead of its use."),
    "schema": ("envhub.cli.schema", "Print an environment's schema, or what has changed."),
    "push": ("envhub.cli.push", "Copy a checked environment to where others find it."),
    "list": ("envhub.cli.listing", "List the environments on the search path."),
    "doctor": ("envhub.cli.doctor", "Try what this machine can isolate, and how to fix it."),
}
_EPILOG = """\b
Examples:
  envhub demo                          the five-minute tour
  envhub init guess                    an environment of your own, to begin with
  envhub check ./guess                 does it keep what every environment must keep?
  envhub serve --envs ./envs           then connect OpenEnv's client to the printed address
  envhub serve ./my_openenv_env        a folder written for OpenEnv, as it is
  envhub doctor                        why strict isolation does or does not work here
"""


class _Lazy(click.Group):
    """A group whose commands are imported on use: `serve` must not pay for `demo`."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            near = difflib.get_close_matches(name, _COMMANDS, n=1)
            raise click.UsageError(
                f"no command `{name}`" + (f"; did you mean `{near[0]}`?" if near else ""),
                context,
            )
        module, _ = _COMMANDS[name]
        command: click.Command = getattr(import_module(module), name.replace("list", "list_"))
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.group(
    cls=_Lazy, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(envhub.__version__, prog_name="envhub")
def cli() -> None:
    """Environments for agents and reinforcement learning, each session in its own sandbox.

    No Docker, no root. Sessions are processes forked in milliseconds from a warm zygote, with
    namespaces, a system call filter and limits of their own.
    """


def main() -> None:
    """Run the command line; a mistake of the user's is one line and a hint, no traceback."""
    from envhub.cli.failure import exit_code, say

    try:
        cli(standalone_mode=False)
    except click.exceptions.Exit as leaving:
        sys.exit(leaving.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(2)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        sys.exit(130)
    except Exception as error:
        code = exit_code(error)
        if code is None:
            raise  # a bug of ours: the traceback is what a report needs
        say(error)
        sys.exit(code)
