"""A layer that cannot be built ends what needed it; nothing runs behind fewer walls.

Each case makes one layer really fail: the kernel refuses the call it needs, by a filter, by a
namespace without room, or by a covered /proc, as containers have them.
"""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import envhub_sandbox
from envhub_sandbox import Launcher, LayerFailed, landlock
from tests.sandbox.alone import DEADLINE_S, SMALL, RefusedError, Zygote, launchers

ROOT = str(Path(__file__).parents[2])
PACKAGE = str(Path(envhub_sandbox.__path__[0]).parent)
# an errno that these calls never fail with by themselves
ODD = errno.EDOTDOT
NUMBERS = {
    "clone": 56, "mount": 165, "sethostname": 170, "unshare": 272, "setrlimit": 160,
    "capset": 126, "prctl": 157, "landlock_restrict_self": 446, "seccomp": 317, "write": 1,
}  # fmt: skip


def denied(name: str, *, argument: int = 0, equals: int | None = None) -> str:
    """Code for a zygote that has the kernel refuse one call from here on."""
    answer = f"bpf.refuse({ODD})"
    leaf = f"bpf.answer({answer})"
    if equals is not None:
        leaf = f"bpf.if_among({argument}, ({equals},), {answer})"
    return f"""
from envhub_sandbox import bpf
syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
program = bpf.assemble({{{NUMBERS[name]}: {leaf}}}, newest=10_000, above=bpf.ALLOW)
syscalls.Filter(program).install()
"""


# in the order in which they are built: layer, what is made to fail
LAYERS = {
    "user namespace": denied("write", argument=2, equals=len("deny")),
    "private tmpfs": denied("mount", argument=3, equals=6),  # nosuid, nodev
    "/proc of its own": denied("mount", argument=3, equals=14),  # proc: and noexec
    "uts namespace": denied("sethostname"),
    "no further namespaces": denied("write", argument=2, equals=1),  # "0", "1"
    "unprivileged user": denied("unshare"),
    "rlimits": denied("setrlimit"),
    "no capabilities": denied("capset"),
    "parent death signal": denied("prctl", equals=1),
    "no new privileges": denied("prctl", equals=38),
    f"landlock {landlock.version()}": denied("landlock_restrict_self"),
    "seccomp": denied("seccomp"),
}


@pytest.mark.parametrize("named", LAYERS)
def test_a_zygote_that_cannot_build_a_layer_says_which_and_ends(named: str) -> None:
    """Before it has imported anything: the self-test isolates a child."""
    layer = named.partition(",")[0]
    with Zygote(launchers()[-1], first=LAYERS[named], wait_ready=False) as zygote:
        with pytest.raises(LayerFailed) as caught:
            zygote.packet()
        code = zygote.launched.process.wait(DEADLINE_S)

    assert (caught.value.layer, caught.value.number) == (layer, ODD)
    assert code == 1


# a zygote writes single bytes of its own, to wake itself up
@pytest.mark.parametrize("named", [name for name in LAYERS if name != "no further namespaces"])
def test_a_session_that_cannot_build_a_layer_runs_nothing_and_ends(named: str) -> None:
    """A zygote that could at first, and later cannot."""
    layer = named.partition(",")[0]
    with Zygote(launchers()[-1], prepare=LAYERS[named]) as zygote:
        with zygote.session("say('running')") as session:
            failed, word = session.failed, session.hear()
            verdict = session.wait().verdict

    assert (failed[0], failed[2]) == (layer, ODD)
    assert word == ""
    assert (verdict.cause, verdict.detail) == ("exited", 1)


def test_a_clone_that_is_refused_is_a_missing_user_namespace() -> None:
    """The errno of the very first call, not a traceback about somebody's import."""
    with Zygote(launchers()[-1], first=denied("clone"), wait_ready=False) as zygote:
        with pytest.raises(LayerFailed) as caught:
            zygote.packet()

    assert (caught.value.layer, caught.value.number) == ("user namespace", ODD)


def test_a_fork_that_is_refused_later_is_refused_in_words() -> None:
    with Zygote(launchers()[-1], prepare=denied("clone")) as zygote:
        with pytest.raises(RefusedError, match="clone"):
            zygote.session("")


# ---------------------------------------------------------------- machines that refuse


OWNER = f"""
import json, os, sys
sys.path[:0] = [{ROOT!r}, {PACKAGE!r}]
from envhub_sandbox import LaunchFailed, LayerFailed, bpf, isolate, syscalls
from tests.sandbox.alone import Zygote
given = json.loads(sys.argv[1])
exec(given["machine"])
try:
    with Zygote(given["launcher"]) as zygote:
        said = ["worked", str(zygote.run("print('ran')"))]
except LayerFailed as error:
    said = ["layer", error.layer, error.number]
except LaunchFailed as error:
    said = ["launch", error.stderr]
print(json.dumps(said))
"""
# root there is not root outside, and may use up what the namespace has
OWN_NAMESPACE = """
uid, gid = os.getuid(), os.getgid()
syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS)
isolate.map_user(1000, uid, gid)
"""
LESS_THAN = """
uid, gid = os.getuid(), os.getgid()
syscalls.unshare(syscalls.CLONE_NEWUSER)
isolate.map_user(0, uid, gid)
syscalls.write_file("/proc/sys/user/max_user_namespaces", "{number}")
syscalls.unshare(syscalls.CLONE_NEWUSER)
isolate.map_user(1000, 0, 0)
"""
COVERED_PROC = """
uid, gid = os.getuid(), os.getgid()
syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS)
isolate.map_user(0, uid, gid)
syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
syscalls.mount("tmpfs", "/proc/sys", "tmpfs", syscalls.MS_RDONLY)
syscalls.unshare(syscalls.CLONE_NEWUSER)
isolate.map_user(1000, 0, 0)
"""
# what moby's default profile does to a process without CAP_SYS_ADMIN
DOCKER = """
syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
eperm = bpf.answer(bpf.refuse(1))
rules = {272: eperm, 308: eperm, 165: eperm, 166: eperm, 155: eperm,
         56: bpf.if_bits(0, 0x7E020000, bpf.refuse(1)), 435: bpf.answer(bpf.refuse(38))}
syscalls.Filter(bpf.assemble(rules, newest=10_000, above=bpf.ALLOW)).install()
"""


def on_a_machine(machine: str, launcher: Launcher) -> list[Any]:
    """Start a zygote and a session where `machine` has changed things; say how it went.

    Root keeps its user there, as it is no root any more: the spare user cannot be had.
    """
    given = {"machine": machine, "launcher": launcher}
    ran = subprocess.run(
        [sys.executable, "-c", OWNER, json.dumps(given)],
        stdout=subprocess.PIPE,
        text=True,
        timeout=DEADLINE_S,
        check=True,
        cwd=ROOT,
    )
    said: list[Any] = json.loads(ran.stdout)
    return said


def test_in_an_ordinary_namespace_of_its_own_everything_works(launcher: Launcher) -> None:
    """The control for all that follow: it is not the namespace that fails."""
    assert on_a_machine(OWN_NAMESPACE, launcher)[0] == "worked"


@pytest.mark.parametrize(
    ("number", "layer"),
    # the owner has one already; then come the launcher's two, and a session's two
    [
        (1, "user namespace"),
        (2, "user namespace"),
        (3, "user namespace"),
        (4, "unprivileged user"),
    ],
)
def test_without_room_for_user_namespaces_nothing_runs(number: int, layer: str) -> None:
    said = on_a_machine(LESS_THAN.format(number=number), "built-in")

    assert said == ["layer", layer, errno.ENOSPC]


def test_with_room_for_just_the_namespaces_it_takes_it_works() -> None:
    """The control of the one above."""
    # two more than five: those of the self-test are given back in the kernel's own time
    assert on_a_machine(LESS_THAN.format(number=7), "built-in")[0] == "worked"


def test_behind_a_covered_proc_nothing_runs(launcher: Launcher) -> None:
    """As in a container with masked paths: no new /proc may show what the old one hides."""
    said = on_a_machine(COVERED_PROC, launcher)

    if launcher == "built-in":
        assert said == ["layer", "/proc of its own", errno.EPERM]
    else:
        assert said[0] == "launch"
        assert "proc" in said[1]


def test_behind_dockers_filter_nothing_runs(launcher: Launcher) -> None:
    said = on_a_machine(OWN_NAMESPACE + DOCKER, launcher)

    if launcher == "built-in":
        assert said == ["layer", "user namespace", errno.EPERM]
    else:
        assert said[0] == "launch"
        assert "ermi" in said[1]


def test_a_limit_that_the_owner_lacks_is_kept_at_the_owners() -> None:
    """A stricter limit outside is no failure, and is not widened."""
    machine = "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (48, 48))"
    given = {"machine": machine, "launcher": "built-in"}
    code = OWNER.replace(
        "print('ran')", "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, json.dumps(given)],
        stdout=subprocess.PIPE, text=True, timeout=DEADLINE_S, check=True, cwd=ROOT,
    )  # fmt: skip

    assert SMALL.open_files > 48
    assert "(48, 48)" in json.loads(ran.stdout)[1]
