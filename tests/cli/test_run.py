"""`envhub run`: a person at a terminal, and a script."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from envhub.cli.fields import Field, fields
from envhub.cli.run import parse
from envhub.cli.terminal import shown
from envhub.errors import UsageError
from tests.conftest import ENVS

RUN = [sys.executable, "-m", "envhub", "run"]
ECHO = str(ENVS / "echo")
_PATIENCE_S = 60


def script(lines: str, *words: str) -> tuple[int, list[dict[str, Any]], str]:
    """Play from standard input; return exit code, what was answered, and standard error."""
    done = subprocess.run(
        [*RUN, *words], input=lines, capture_output=True, text=True, timeout=100
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, *words: str) -> None:
        self._hub, inner = pty.openpty()
        # setsid: what controls the process, so that its keys are signals
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *RUN, *words],
            stdin=inner,
            stdout=inner,
            stderr=inner,
            env={**os.environ, "TERM": "dumb"},
        )
        os.close(inner)
        self.seen = ""

    def until(self, words: str) -> str:
        """Read until `words` have come; return what came with them."""
        begun, deadline = len(self.seen), time.monotonic() + _PATIENCE_S
        while words not in self.seen[begun:]:
            left = deadline - time.monotonic()
            assert select.select([self._hub], [], [], max(left, 0))[0], self.seen
            try:
                self.seen += os.read(self._hub, 4096).decode()
            except OSError:
                raise AssertionError(f"it ended: {self.seen}") from None
        return self.seen[begun:]

    def type(self, text: str) -> None:
        os.write(self._hub, text.encode())

    def end(self, key: str = "") -> int:
        """Wait for its end, and return the exit code.

        Args:
            key: typed again each second, as a person would: Python notices a Ctrl-C that comes
                between the prompt and the wait for a key with the next key only.
        """
        deadline = time.monotonic() + _PATIENCE_S
        try:
            while time.monotonic() < deadline:
                if select.select([self._hub], [], [], 1)[0]:
                    self.seen += os.read(self._hub, 4096).decode()
                elif key:
                    self.type(key)
        except OSError:
            pass  # nobody holds the other side any more
        os.close(self._hub)
        return self.process.wait(_PATIENCE_S)


def test_a_script_gets_a_line_of_json_for_each_of_its_own() -> None:
    lines = '{"message": "hello"}\n:state\n\n:reset seed=9\n{"message": "bye"}\n:quit\nnever'
    code, answers, _ = script(lines, "echo", "--seed", "7")

    assert code == 0
    assert [a["call"] for a in answers] == ["reset", "step", "state", "reset", "step"]
    assert [a["observation"]["message"] for a in answers if "observation" in a] == [
        "seed 7", "hello", "seed 9", "bye"
    ]  # fmt: skip
    assert answers[1]["reward"] == 5.0
    assert answers[2]["state"]["last"] == "hello"
    assert answers[-1]["done"] is True


def test_a_script_s_mistakes_are_lines_too_and_an_exit_code() -> None:
    code, answers, errors = script('nonsense\n{"massage": 1}\n:jump\n{"message": "x"}\n', ECHO)

    assert code == 1
    assert [a["error"]["code"] for a in answers[1:4]] == ["usage", "invalid_action", "usage"]
    assert answers[4]["observation"]["message"] == "x"
    assert "Traceback" not in errors


def test_an_unknown_option_is_told_with_the_known_ones() -> None:
    code, answers, _ = script("", ECHO, "--option", "level=3")

    assert code == 1
    assert "unknown reset option `level`" in answers[0]["error"]["message"]


def test_a_person_plays_an_episode_to_its_end() -> None:
    terminal = Terminal(ECHO, "--seed", "3")
    assert "message: seed 3" in terminal.until("message (string): ")
    terminal.type(":help\n")
    assert ":state" in terminal.until("message (string): ")
    terminal.type("hello\n")
    assert "reward 5" in terminal.until("message (string): ")
    terminal.type(":state\n")
    assert "last: hello" in terminal.until("message (string): ")
    terminal.type(":reset seed=4\n")
    assert "message: seed 4" in terminal.until("message (string): ")
    terminal.type("bye\n")
    assert "episode over (done): 1 steps, 3 in all" in terminal.until("to leave")
    terminal.type("\n")
    terminal.until("message (string): ")
    terminal.type(":quit\n")

    assert terminal.end() == 0


@pytest.mark.parametrize(("key", "code"), [("\x04", 0), ("\x03", 130)])
def test_the_keys_that_leave_close_cleanly(key: str, code: int) -> None:
    terminal = Terminal(ECHO)
    terminal.until("message (string): ")
    terminal.type(key)

    assert terminal.end(key) == code
    assert "Traceback" not in terminal.seen


# ---------------------------------------------------------------- questions


def field(schema: Any, *, required: bool = True) -> Field:
    (found,) = fields(
        {"properties": {"x": schema}, "required": ["x"] if required else [],
         "$defs": {"Side": {"enum": ["left", "right"], "type": "string"}}}
    ) or []  # fmt: skip
    return found


@pytest.mark.parametrize(
    ("schema", "prompt", "typed", "value"),
    [
        ({"type": "integer", "minimum": 1, "maximum": 9}, "x (integer, 1 to 9): ", "3", 3),
        ({"type": "number", "exclusiveMinimum": 0}, "x (number, more than 0): ", "0.5", 0.5),
        ({"type": "boolean"}, "x (boolean): ", "yes", True),
        ({"$ref": "#/$defs/Side"}, "x (left | right): ", "left", "left"),
        ({"enum": [1, 2, None]}, "x (1 | 2 | null): ", "2", 2),
        ({"type": "string"}, "x (string): ", "a b", "a b"),
        ({"type": "string"}, "x (string): ", '"a\\nb"', "a\nb"),
        ({"type": "array", "items": {"type": "integer"}}, "x (array, as JSON): ", "[1]", [1]),
        ({"type": "object"}, "x (object, as JSON): ", '{"a": 1}', {"a": 1}),
        ({}, "x (JSON): ", "null", None),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "x (integer or null): ", "4", 4),
        (
            {"anyOf": [{"type": "integer"}, {"type": "null"}]},
            "x (integer or null): ",
            "null",
            None,
        ),
    ],
)
def test_a_field_is_asked_for_by_its_type(
    schema: Any, prompt: str, typed: str, value: Any
) -> None:
    asked = field(schema)

    assert asked.prompt() == prompt
    assert asked.read(typed) == value


@pytest.mark.parametrize(
    ("schema", "typed", "expected"),
    [
        ({"type": "integer", "maximum": 9}, "10", "expected at most 9, got 10"),
        ({"type": "integer"}, "three", "expected a whole number"),
        ({"type": "boolean"}, "perhaps", "expected yes or no"),
        ({"enum": ["a", "b"]}, "c", r"expected one of `\['a', 'b'\]`, got `'c'`"),
        ({"type": "array"}, "[", "expected JSON"),
        ({"type": "string", "maxLength": 2}, "abc", "expected at most 2 characters, got 3"),
    ],
)
def test_an_answer_that_does_not_fit_is_told_what_does(
    schema: Any, typed: str, expected: str
) -> None:
    with pytest.raises(ValueError, match=expected):
        field(schema).read(typed)


def test_a_default_is_shown_and_metadata_is_not_asked_for() -> None:
    schema = {"type": "integer", "default": 7}

    assert field(schema, required=False).prompt() == "x (integer) [7]: "
    assert fields({"properties": {"metadata": {"type": "object"}}}) == []
    assert fields({"anyOf": [{"type": "object"}]}) is None


def test_options_are_json_or_text() -> None:
    assert parse(["a=1", "b=two", 'c={"d": []}']) == {"a": 1, "b": "two", "c": {"d": []}}
    with pytest.raises(UsageError, match=re.escape("expected NAME=JSON, got `a`")):
        parse(["a"])


def test_text_of_an_environment_s_cannot_steer_the_terminal() -> None:
    assert shown("a\x1b[2J\rb\x9b\u202ec\n\td") == r"a\x1b[2J\rb\x9b\u202ec" + "\n\td"


def test_a_folder_of_several_and_a_folder_of_none_are_told_apart(tmp_path: Path) -> None:
    _, _, several = script("", str(ENVS))
    _, _, none = script("", str(tmp_path))

    assert "holds several environments: coding, echo" in several
    assert "no environment in" in none
