"""The command line as a user meets it: real processes, their output and exit codes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ENVS

PROBES = Path(__file__).parent.parent / "hub" / "envs"


def envhub(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "envhub", *words],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "COLUMNS": "100", **environment},
    )


def test_help_teaches_and_imports_no_command() -> None:
    done = envhub("--help")

    assert done.returncode == 0
    for word in ("demo", "serve", "list", "doctor", "Examples:"):
        assert word in done.stdout


def test_no_command_shows_the_help_and_is_a_usage_error() -> None:
    done = envhub()

    assert done.returncode == 2
    assert "Commands:" in done.stdout + done.stderr


def test_a_mistyped_command_is_told_the_nearest() -> None:
    done = envhub("srve")

    assert done.returncode == 2
    assert "did you mean `serve`?" in done.stderr


def test_list_shows_environments_and_broken_manifests(tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "env.toml").write_text("name = 1")
    done = envhub("list", "--envs", str(ENVS), "--envs", str(tmp_path))
    machine = json.loads(envhub("list", "--json", "--envs", str(ENVS)).stdout)

    assert done.returncode == 0
    assert "coding" in done.stdout
    assert "broken:" in done.stdout
    assert "echo" in [e["name"] for e in machine["environments"]]


def test_list_in_json_says_what_was_found_where_and_what_is_broken(tmp_path: Path) -> None:
    counter = Path(__file__).parents[1] / "openenv" / "envs" / "counter_env"
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "env.toml").write_text("name = 1")
    given = (str(ENVS), str(counter), str(tmp_path))
    done = envhub("list", "--json", *(word for folder in given for word in ("--envs", folder)))
    said = json.loads(done.stdout)
    found = {row["name"]: row for row in said["environments"]}
    (broken,) = said["broken"]

    assert (found["echo"]["format"], found["counter_env"]["format"]) == ("envhub", "openenv")
    assert found["echo"]["found_in"] == str(ENVS)
    assert found["counter_env"]["found_in"] == found["counter_env"]["folder"] == str(counter)
    assert found["counter_env"]["variables"] == ["COUNTER_FROM", "COUNTER_STEP"]
    assert (found["coding"]["reset"], found["coding"]["agent_code"]) == ("pristine", True)
    assert broken["name"] == "bad"
    assert str(tmp_path / "bad" / "env.toml") in broken["error"]
    assert said["looked_in"][:3] == list(given)


def test_what_a_manifest_says_cannot_steer_the_terminal(tmp_path: Path) -> None:
    manifest = 'name = "odd"\nentry = "env:Odd"\ndescription = "[bold]a\\u001b[2Jb"\n'
    (tmp_path / "env.toml").write_text(manifest)
    done = envhub("list", "--envs", str(tmp_path))

    assert r"[bold]a\x1b[2Jb" in done.stdout


def test_doctor_finds_strict_isolation_here() -> None:
    done = envhub("doctor")
    machine = envhub("doctor", "--json")

    assert done.returncode == 0, done.stdout
    assert "strict isolation works" in done.stdout
    assert json.loads(machine.stdout)["strict"] is True


def test_doctor_names_the_layer_and_the_fix_where_namespaces_are_exhausted() -> None:
    """In a user namespace of our own that allows no further ones."""
    script = (
        f"echo 0 > /proc/sys/user/max_user_namespaces && exec {sys.executable} -m envhub doctor"
    )
    done = subprocess.run(
        ["unshare", "-Ur", "sh", "-c", script], capture_output=True, text=True, timeout=100
    )

    assert done.returncode == 69, done.stdout + done.stderr
    assert "strict isolation does not work here" in done.stdout
    assert "sysctl -w user.max_user_namespaces" in done.stdout


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("serve", "--default", "ecko"), 2, "did you mean `echo`?"),
        (("serve", "--envs", "/nowhere"), 2, "no folder `/nowhere`"),
        (("serve", "--envs", str(PROBES), "--env", "broken"), 1, "a_module_that_nobody_has"),
        (("serve", "--isolation", "vm"), 2, "'vm' is not one of"),
        (("serve", "--isolation", "best", "--exactly"), 2, "`best` is no tier"),
        (("serve", "--cap", "hope=1"), 2, "no limit `hope`"),
        (("serve", "--cap", "step_s"), 2, "memory_bytes=512M"),
        (("serve", "--memory-floor", "much"), 2, "such as 512M"),
        (("serve", "--cgroup", "/no/such/group"), 2, "/no/such/group"),
        (
            ("serve", "--envs", str(ENVS), "--env", "coding", "--isolation", "none"),
            2,
            "runs agent code",
        ),
    ],
)
def test_a_mistake_is_one_line_and_a_hint_without_our_traceback(
    words: tuple[str, ...], code: int, said: str
) -> None:
    done = envhub(*words, "--port", "0")

    assert done.returncode == code
    assert said in done.stderr
    assert "envhub/cli" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_says_where_it_listens_and_stops_at_a_signal(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "envhub", "serve", "--port", "0", "--envs", str(ENVS)],
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        lines = []
        for line in server.stdout:
            lines.append(line)
            if "listening on http://127.0.0.1:" in line:
                break
        server.send_signal(number)
        code = server.wait(20)

    assert "isolation strict" in lines[0]
    assert any("/envs/echo" in line for line in lines)
    assert code == 0


def test_a_port_that_is_taken_is_a_usage_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = envhub("serve", "--envs", str(ENVS), "--port", str(port))

    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr
    assert "--port 0" in done.stderr


def test_a_schema_is_printed_and_compared(tmp_path: Path) -> None:
    printed = envhub("schema", "echo", "--envs", str(ENVS))
    digest = envhub("schema", str(ENVS / "echo"), "--digest")
    pinned = tmp_path / "echo.json"
    pinned.write_text(printed.stdout)
    same = envhub("schema", "echo", "--envs", str(ENVS), "--against", str(pinned))
    pinned.write_text(printed.stdout.replace('"message"', '"massage"'))
    other = envhub("schema", "echo", "--envs", str(ENVS), "--against", str(pinned))

    assert set(json.loads(printed.stdout)) >= {"action", "observation", "state"}
    assert digest.stdout.startswith("sha256:")
    assert (same.returncode, same.stdout) == (0, "nothing has changed\n")
    assert other.returncode == 1
    assert "action.properties.massage: removed" in other.stderr
