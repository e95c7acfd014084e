"""What people meet in containers and on locked-down machines, met here.

Each context is first proven to take away what it says; then envhub is tried in it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from envhub_sandbox import landlock
from tests.conftest import ENVS
from tests.contexts.contexts import CONTEXTS, FIXED, Context
from tests.contexts.making import FAILED, NOT_FOUND, NOT_RUN

ROOT = Path(__file__).parents[2]
DEADLINE_S = 100.0
UNAVAILABLE = 69  # of sysexits(3)
REFUSING = [name for name, context in CONTEXTS.items() if context.missing]


def words(name: str, *command: str) -> list[str]:
    return [sys.executable, "-m", "tests.contexts", name, "--", *command]


def start(name: str, *command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        words(name, *command), cwd=ROOT, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def within(name: str, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a context; skip where this machine or user cannot have it."""
    process = start(name, *command)
    try:
        output, errors = process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
        process.communicate()
    if process.returncode == FAILED and os.geteuid() != 0:
        pytest.skip(errors.strip())
    assert process.returncode != FAILED, errors
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def python(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return within(name, sys.executable, *arguments)


def expected(context: Context) -> dict[str, object]:
    """Return the row's controls, for whoever runs this."""
    controls = dict(context.controls)
    if os.geteuid() != 0 and context.uid:
        controls["uid"] = os.geteuid()
    return controls


# ---------------------------------------------------------------- the contexts themselves


@pytest.mark.parametrize("name", CONTEXTS)
def test_a_context_takes_away_what_it_says(name: str) -> None:
    done = python(name, "-m", "tests.contexts.probes")
    seen = json.loads(done.stdout)
    controls = expected(CONTEXTS[name])

    assert {control: seen.get(control) for control in controls} == controls


@pytest.mark.parametrize("name", CONTEXTS)
def test_a_context_returns_what_its_command_returned(name: str) -> None:
    assert within(name, "/bin/sh", "-c", "exit 7").returncode == 7
    assert within(name, "/bin/sh", "-c", "kill -9 $$; exit 8").returncode in (137, 8)


@pytest.mark.parametrize("name", [name for name in CONTEXTS if name != "no-fork"])
def test_no_process_of_a_context_outlives_its_command(name: str) -> None:
    """What it left holds the pipe that is read here to its end."""
    left = "(setsid sleep 1000 & setsid sh -c 'trap : TERM HUP; sleep 1000' &) ; echo done"
    done = within(name, "/bin/sh", "-c", left)

    assert (done.returncode, done.stdout) == (0, "done\n")


@pytest.mark.parametrize("name", ["no-userns-user", "netns", "masked-proc-user", "docker-user"])
def test_whoever_kills_a_context_kills_all_of_it(name: str) -> None:
    """Where it has process numbers of its own; else the kernel kills the command alone."""
    left = "setsid sleep 1000 & echo begun; exec sleep 1000"
    process = start(name, "/bin/sh", "-c", left)
    assert process.stdout is not None
    begun = process.stdout.readline()
    process.kill()
    output, errors = process.communicate(timeout=DEADLINE_S)
    if not begun and os.geteuid() != 0:
        pytest.skip(errors.strip())

    assert begun == "begun\n"
    assert output == ""


def test_a_context_leaves_no_mount_and_no_file() -> None:
    def state() -> tuple[object, ...]:
        mounts = Path("/proc/self/mountinfo").read_text()
        limits = [path.read_text() for path in sorted(Path("/proc/sys/user").iterdir())]
        return mounts, limits, os.uname().nodename, *map(set, map(os.listdir, ("/", "/run")))

    before = state()
    for name in ("no-userns-user", "no-netns", "docker-user", "kubernetes"):
        within(name, "/bin/true")

    assert state() == before


def test_what_cannot_be_run_is_told_from_what_failed() -> None:
    assert within("netns", "/no/such/program").returncode == NOT_FOUND
    assert within("netns", "/etc/hostname").returncode == NOT_RUN
    wrong = subprocess.run(words("nowhere", "true"), cwd=ROOT, capture_output=True, text=True)
    assert (wrong.returncode, "no context `nowhere`" in wrong.stderr) == (FAILED, True)


def test_the_list_has_a_line_for_each() -> None:
    line = [sys.executable, "-m", "tests.contexts"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True)

    assert [text.split()[0] for text in done.stdout.splitlines()] == list(CONTEXTS)


# ---------------------------------------------------------------- envhub in them


@cache
def examined(name: str) -> tuple[int, dict[str, Any]]:
    """What doctor returned in a context, and what it said."""
    done = python(name, "-m", "envhub", "doctor", "--json")
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize("name", CONTEXTS)
def test_doctor_names_the_first_layer_that_is_missing(name: str) -> None:
    code, found = examined(name)
    missing, first = found["missing"], CONTEXTS[name].missing

    assert bool(missing) is bool(first)
    assert not first or missing[0].startswith(first)
    assert found["strict"] is (not first)
    assert (found["best"] or "") == CONTEXTS[name].best
    assert code == (UNAVAILABLE if first else 0)


FIXES = {
    "no-userns-root": "sysctl -w user.max_user_namespaces",
    "no-userns-user": "sysctl -w user.max_user_namespaces",
    "no-netns": "sysctl -w user.max_net_namespaces",
    "no-fork": "ulimit -u",
    "private-home": "chmod o+rX",
    "masked-proc-root": "unmask=ALL",
    "masked-proc-user": "unmask=ALL",
    "docker": "seccomp=unconfined",
    "docker-nnp": "seccomp=unconfined",
    "docker-user": "seccomp=unconfined",
    "kubernetes": "hostUsers: false",
    "no-seccomp": "CONFIG_SECCOMP_FILTER",
}


def test_every_refusing_context_has_its_fix() -> None:
    assert FIXES.keys() == {*REFUSING} == {name.removesuffix("-fixed") for name in FIXED}


@pytest.mark.parametrize("name", FIXES)
def test_the_fix_is_one_for_the_place(name: str) -> None:
    """An option of Docker's is of no use to Podman, nor is uncovering /proc to a sysctl."""
    _, found = examined(name)
    fixes = [f["fix"] for f in found["findings"] if f["needed"] and not f["ok"]]
    built_in = [trial for trial in found["trials"] if trial["launcher"] == "built-in"]
    fixes += [trial["hint"] for trial in built_in if trial["hint"]]

    assert FIXES[name] in fixes[0]


@pytest.mark.parametrize("name", FIXED)
def test_with_its_fix_a_place_isolates_strictly(name: str) -> None:
    """As far as an imitation can tell: what the fix says is all that is changed."""
    said = json.loads(python(name, "-m", "tests.contexts.embedding").stdout)

    assert said.get("tier") == "strict", said


@pytest.mark.parametrize("name", ["docker-user", "private-home"])
def test_what_people_read_has_the_layer_and_its_fix_one_below_the_other(name: str) -> None:
    done = python(name, "-m", "envhub", "doctor")
    lines = done.stdout.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("✗"))

    assert CONTEXTS[name].missing in lines[at]
    assert "fix:" in lines[at + 1]
    assert FIXES[name] in lines[at + 1]
    assert "strict isolation does not work here" in done.stdout
    assert f"`--isolation {CONTEXTS[name].best}`" in done.stdout


@pytest.mark.parametrize("name", CONTEXTS)
def test_a_hub_is_strict_or_refuses_and_names_the_layer(name: str) -> None:
    done = python(name, "-m", "tests.contexts.embedding")
    said = json.loads(done.stdout)
    context = CONTEXTS[name]

    if not context.missing:
        assert said["tier"] == "strict"
    else:
        assert said["refused"] in ("LayerFailed", "LaunchFailed")
        assert said["layer"] in context.layers
        assert said["layer"] in said["said"]


@pytest.mark.parametrize("name", CONTEXTS)
def test_the_best_tier_of_a_place_is_taken_and_works(name: str) -> None:
    """An agent's code runs in it, kills what it can, and finds its files again."""
    done = python(name, "-m", "tests.contexts.embedding", "best")
    said = json.loads(done.stdout)
    best = CONTEXTS[name].best

    assert said.get("tier", "") == best, said
    if best:
        assert said["printed"] == ["42\n", "", "!\n"]


@pytest.mark.parametrize("name", REFUSING)
def test_serve_refuses_before_it_listens(name: str) -> None:
    arguments = ("serve", "--envs", str(ENVS), "--env", "echo", "--port", "0")
    done = python(name, "-m", "envhub", *arguments)

    assert done.returncode == UNAVAILABLE, done.stderr
    assert "listening" not in done.stdout
    assert "Traceback" not in done.stderr
    assert any(f"layer `{layer}` failed" in done.stderr for layer in CONTEXTS[name].layers)


@pytest.mark.parametrize("name", ["landlock-absent", "landlock-off"])
def test_without_landlock_the_receipt_does_not_name_it(name: str) -> None:
    """It is defence in depth: strict without it, and not silently."""
    said = json.loads(python(name, "-m", "tests.contexts.embedding").stdout)

    assert (said["tier"], said["landlock"]) == ("strict", False)


@pytest.mark.skipif(not landlock.version(), reason="this kernel has no Landlock")
def test_with_landlock_the_receipt_names_it() -> None:
    """The control of the one above."""
    said = json.loads(python("bare-user", "-m", "tests.contexts.embedding").stdout)

    assert (said["tier"], said["landlock"]) == ("strict", True)
