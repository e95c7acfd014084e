"""Who starts a sandbox, as which user, and what it says when it cannot."""

from __future__ import annotations

import errno
import json
import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import envhub_sandbox
from envhub_sandbox import Bind, Launcher, LaunchFailed, LayerFailed
from envhub_sandbox.launcher import spare_uid
from tests.sandbox.alone import DEADLINE_S, Zygote, launchers

ROOT = str(Path(__file__).parents[2])
PACKAGE = str(Path(envhub_sandbox.__path__[0]).parent)
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root has other users to become")


def test_the_spare_user_is_nobody_elses() -> None:
    uid = spare_uid()

    assert 60578 <= uid <= 61183
    with pytest.raises(KeyError):
        pwd.getpwuid(uid)


def test_owners_have_spare_users_of_their_own() -> None:
    """The kernel keeps quotas for each user, and one owner must not use up another's."""
    code = f"""
import sys
sys.path.insert(0, {PACKAGE!r})
from envhub_sandbox.launcher import spare_uid
print(spare_uid())
"""
    line = [sys.executable, "-I", "-S", "-c", code]
    first = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)
    second = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)
    said = [child.communicate(timeout=DEADLINE_S)[0].strip() for child in (first, second)]

    assert (first.pid - second.pid) % 606
    assert said[0] != said[1]


def test_a_session_is_root_neither_inside_nor_outside(zygote: Zygote) -> None:
    """1000 inside; outside the spare user, or whoever started it; root in no namespace."""
    code = "import os\nsay([os.getuid(), os.geteuid(), os.getgid(), os.getresuid()[2]])\nhear()"
    with zygote.session(code) as session:
        inside = session.hear()
        status = Path(f"/proc/{session.pid}/status").read_text()
    outside = {int(word) for word in status.split("Uid:")[1].split("\n")[0].split()}

    assert inside == [1000, 1000, 1000, 1000]
    assert outside == {zygote.launched.uid if os.getuid() == 0 else os.getuid()}
    assert 0 not in outside


def test_bubblewrap_that_is_not_installed_is_an_error_with_a_hint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(LaunchFailed) as caught:
        envhub_sandbox.launch(envhub_sandbox.View(), ["/bin/true"], "bubblewrap")

    assert "bwrap" in str(caught.value)
    assert "bubblewrap" in caught.value.hint


def test_a_command_that_is_not_there_is_the_end_and_says_so(launcher: Launcher) -> None:
    launched = envhub_sandbox.launch(
        envhub_sandbox.system(), ["/no/such/program", "{control}"], launcher
    )
    try:
        launched.control.settimeout(DEADLINE_S)
        packet = launched.control.recv(65536)
        code = launched.process.wait(DEADLINE_S)
        said = (packet + os.read(launched.output, 65536)).decode()
    finally:
        launched.kill()

    assert code != 0
    assert "such" in said


def test_killing_twice_is_killing_once(launcher: Launcher) -> None:
    with Zygote(launcher) as zygote:
        zygote.launched.kill()
        zygote.launched.kill()

        assert zygote.launched.process.returncode is not None


# ---------------------------------------------------------------- an owner that is root


@needs_root
def test_a_roots_private_folder_can_be_shown(launcher: Launcher, tmp_path: Path) -> None:
    """An interpreter under /root, mode 0700, is a common case of it."""
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    inner = private / "inner"
    inner.mkdir(mode=0o755)
    (inner / "file").write_text("shown")
    with Zygote(launcher, extra=(Bind(str(inner), "/opt/inner"),)) as zygote:
        ended = zygote.run("print(open('/opt/inner/file').read())")

    assert ended.printed == "shown\n"
    assert os.stat(private).st_mode & 0o777 == 0o700


@needs_root
def test_what_a_private_folder_holds_beside_it_is_not_shown(
    launcher: Launcher, tmp_path: Path
) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    (private / "inner").mkdir(mode=0o755)
    (private / "key").write_text("secret")
    with Zygote(launcher, extra=(Bind(str(private / "inner")),)) as zygote:
        ended = zygote.run(f"import os\nprint(os.listdir({str(private)!r}))")

    assert ended.printed == "['inner']\n"


def without_mounting(owner: str, given: dict[str, Any]) -> list[Any]:
    """Run an owner that is root, and may not mount."""
    ran = subprocess.run(
        ["setpriv", "--bounding-set", "-sys_admin", sys.executable, "-c", owner,
         json.dumps(given)],
        stdout=subprocess.PIPE, text=True, timeout=DEADLINE_S, check=True, cwd=ROOT,
    )  # fmt: skip
    said: list[Any] = json.loads(ran.stdout)
    return said


OWNER = f"""
import json, sys
sys.path[:0] = [{ROOT!r}, {PACKAGE!r}]
from envhub_sandbox import Bind, LayerFailed, View, system, launch
given = json.loads(sys.argv[1])
shown = system()
view = View((*shown.binds, Bind(given["folder"])), shown.links)
command = ["/bin/ls", given["folder"]]
launched = launch(view, command, given["launcher"])
launched.control.settimeout(30)
packet = launched.control.recv(65536)
code = launched.process.wait(30)
print(json.dumps([json.loads(packet or "{{}}").get("failed"), code]))
"""


def is_public(path: str) -> bool:
    """Whether anybody may go there."""
    return all(os.stat(folder).st_mode & 0o001 for folder in Path(path).parents)


# without the privilege to mount, a checkout in root's own home is itself out of reach
needs_a_public_checkout = pytest.mark.skipif(
    not is_public(PACKAGE), reason="this checkout is in a private folder"
)


@needs_root
@needs_a_public_checkout
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is not installed")
def test_a_folder_that_cannot_be_reached_is_named_with_what_to_do(
    launcher: Launcher, tmp_path: Path
) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    (private / "inner").mkdir()
    given = {"folder": str(private / "inner"), "launcher": launcher}
    failed, code = without_mounting(OWNER, given)

    assert code == 1
    assert (failed["layer"], failed["errno"]) == ("spare user", errno.EACCES)
    assert str(private / "inner") in failed["what"]
    assert "chmod" in failed["hint"]


@needs_root
@needs_a_public_checkout
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is not installed")
def test_a_folder_that_anybody_can_reach_needs_no_mounting(
    launcher: Launcher, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The control of the one above: the same owner, without the private folder."""
    given = {"folder": "/usr/include", "launcher": launcher}
    failed, code = without_mounting(OWNER, given)

    assert (failed, code) == (None, 0)


@needs_root
@needs_a_public_checkout
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is not installed")
def test_a_root_that_cannot_become_another_user_is_refused() -> None:
    """Never "as far as possible": as root, limits on processes would not bind."""
    ran = subprocess.run(
        ["setpriv", "--bounding-set", "-setuid,-setgid", sys.executable, "-c", OWNER,
         json.dumps({"folder": "/usr/include", "launcher": launchers()[-1]})],
        stdout=subprocess.PIPE, text=True, timeout=DEADLINE_S, check=True, cwd=ROOT,
    )  # fmt: skip
    failed, code = json.loads(ran.stdout)

    assert code == 1
    assert (failed["layer"], failed["errno"]) == ("spare user", errno.EPERM)
    assert "CAP_SETUID" in failed["hint"]


def test_an_error_names_its_layer_its_step_and_its_errno() -> None:
    error = LayerFailed("seccomp", "seccomp: refused", errno.EACCES, hint="do this")

    assert str(error) == "isolation layer `seccomp` failed: seccomp: refused (EACCES)"
    assert (error.layer, error.number, error.hint) == ("seccomp", errno.EACCES, "do this")
    assert str(LayerFailed("a", "b")) == "isolation layer `a` failed: b"
