"""A receipt says what is live, and is refused when the kernel shows otherwise."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import envhub_sandbox
from envhub_sandbox import LayerFailed, Receipt, confirm, landlock
from tests.sandbox.alone import DEADLINE_S, Zygote, launchers
from tests.sandbox.left_out import inside

ROOT = str(Path(__file__).parents[2])
PACKAGE = str(Path(envhub_sandbox.__path__[0]).parent)

LAYERS = (
    "ipc namespace",
    "network namespace",
    "pid namespace",
    "user namespace",
    "mount namespace",
    "private tmpfs",
    "/proc of its own",
    "uts namespace",
    "no further namespaces",
    "unprivileged user",
    "no terminal",
    "rlimits",
    "no capabilities",
    "parent death signal",
    "no new privileges",
    "landlock",
    "seccomp",
)
# /proc does not show these of another process; the attacks do
UNSEEN = {
    "private tmpfs", "/proc of its own", "no further namespaces", "unprivileged user",
    "no terminal", "rlimits", "parent death signal", "landlock",
}  # fmt: skip


def named(layers: tuple[str, ...]) -> tuple[str, ...]:
    """The layers without the version of Landlock."""
    return tuple("landlock" if layer.startswith("landlock") else layer for layer in layers)


def test_a_session_is_behind_every_layer_and_most_are_seen_from_outside(
    zygote: Zygote,
) -> None:
    with zygote.session("hear()") as session:
        receipt = confirm(Receipt("strict", "", session.layers), session.pid)

    expected = tuple(n for n in LAYERS if n != "landlock" or landlock.version())
    assert named(receipt.layers) == expected
    assert receipt.seen == tuple(layer for layer in expected if layer not in UNSEEN)


def test_a_receipt_names_the_user_on_the_host(zygote: Zygote) -> None:
    """Never root: limits on processes do not bind root."""
    with zygote.session("hear()") as session:
        receipt = confirm(Receipt("strict", "", session.layers), session.pid)

    assert receipt.uid != 0
    assert receipt.uid in (os.getuid(), zygote.launched.uid)


@pytest.mark.parametrize("claimed", [LAYERS, ()], ids=["claimed", "not even claimed"])
def test_layers_that_the_kernel_does_not_show_are_refused(claimed: tuple[str, ...]) -> None:
    """An ordinary child of ours has none of them, whatever it says."""
    sleeper = [sys.executable, "-I", "-S", "-c", "input()"]
    with subprocess.Popen(sleeper, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        with pytest.raises(LayerFailed) as caught:
            confirm(Receipt("strict", "", claimed), child.pid)

    # whoever runs the tests as an ordinary user has no capabilities either
    for layer in {*LAYERS} - UNSEEN - {"no capabilities"}:
        assert layer in caught.value.what


def test_what_a_process_is_called_says_nothing_about_it() -> None:
    """The name stands first in what is read, and may have any bytes."""
    called = "open('/proc/self/comm', 'wb').write(b'\\xff\\nSeccomp:\\t2'); print(); input()"
    sleeper = [sys.executable, "-I", "-S", "-u", "-c", called]
    pipe = subprocess.PIPE
    with subprocess.Popen(sleeper, stdin=pipe, stdout=pipe, stderr=pipe) as child:
        assert child.stdout is not None
        child.stdout.readline()
        with pytest.raises(LayerFailed) as caught:
            confirm(Receipt("strict", "", LAYERS), child.pid)

    assert "seccomp" in caught.value.what


@pytest.mark.parametrize(
    ("left_out", "layer"),
    [
        ("seccomp", "seccomp"),
        ("no capabilities", "no capabilities"),
        # the zygote itself is in other namespaces than we are; that is not the session's merit
        ("network namespace", "network namespace"),
        ("ipc namespace", "ipc namespace"),
    ],
)
def test_a_layer_that_was_left_out_in_secret_is_found_out(left_out: str, layer: str) -> None:
    with Zygote(launchers()[0], left_out=(left_out,)) as zygote:
        with zygote.session("hear()") as session:
            assert layer in session.layers
            with pytest.raises(LayerFailed) as caught:
                confirm(Receipt("strict", "", session.layers), session.pid)

    assert caught.value.layer == layer


def test_the_zygotes_own_filter_does_not_pass_for_the_sessions() -> None:
    no_more = inside(("seccomp",))
    with Zygote(launchers()[0], prepare=no_more) as zygote:
        with zygote.session("hear()") as session:
            with pytest.raises(LayerFailed) as caught:
                confirm(Receipt("strict", "", session.layers), session.pid)

    assert caught.value.layer == "seccomp"


def test_there_is_no_receipt_for_a_process_that_has_ended(zygote: Zygote) -> None:
    with zygote.session() as session:
        session.wait()
        with pytest.raises(ProcessLookupError):
            confirm(Receipt("strict", "", session.layers), session.pid)


LOOK = f"""
import sys
sys.path[:0] = [{ROOT!r}, {PACKAGE!r}]
from envhub_sandbox import LayerFailed, Receipt, confirm
from tests.sandbox.alone import Zygote, launchers
with Zygote(launchers()[-1]) as zygote, zygote.session("hear()") as session:
    try:
        print(confirm(Receipt("strict", "", session.layers), session.pid).seen)
    except LayerFailed as error:
        print(error.layer)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="whoever started a session may look at it")
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is not installed")
@pytest.mark.parametrize(("dropped", "sees_all"), [("-sys_ptrace", False), ("-sys_time", True)])
def test_an_owner_who_may_not_look_confirms_what_it_sees(dropped: str, sees_all: bool) -> None:
    """Root in a container, for one. The control: it is not for lack of any capability."""
    line = ["setpriv", "--bounding-set", dropped, sys.executable, "-c", LOOK]
    seen = subprocess.check_output(line, text=True, cwd=ROOT, timeout=DEADLINE_S)

    assert "'pid namespace'" in seen
    assert "'seccomp'" in seen
    assert ("'mount namespace'" in seen) is sees_all
