"""Try attacks in a sandbox that is without some of its protections."""

from __future__ import annotations

import ctypes
import os
import re
import secrets
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import envhub_sandbox
from envhub_sandbox import Bind, LaunchFailed, LayerFailed
from tests.sabotage.attacks import MORE
from tests.sabotage.worlds import LIMITS, World
from tests.sandbox import outside
from tests.sandbox.alone import RefusedError, Zygote
from tests.sandbox.attack import PRELUDE, Attack
from tests.sandbox.table import ATTACKS

AT_IMPORT = "at import: "
BY_NAME = {attack.name: attack for attack in (*ATTACKS, *MORE)}
NOT_BUILT = (LayerFailed, LaunchFailed, RefusedError)
_libc = ctypes.CDLL(None, use_errno=True)
_SEMGET, _SEMCTL, _CREATE, _REMOVE = 64, 66, 0o1000, 0
# each in a child of the zygote, so that none of them is in the way of the next
_AT_IMPORT = """
import os
given, prelude = {given!r}, {prelude!r}
kept = []
try:
    import socket
    kept.append(socket.socket(socket.AF_UNIX))
    kept[0].bind(given['zygotes'])
    kept[0].listen()
except OSError: pass
import ctypes
ctypes.CDLL(None).syscall(64, given['key'], 1, 0o1666)
for name, code in {attacks!r}.items():
    child = os.fork()
    if not child:
        try: exec(prelude + code, {{'given': given}})
        except BaseException: os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        os.write(1, f'WORKED {{name}}\\n'.encode())
    os.write(1, f'TRIED {{name}}\\n'.encode())
"""


@contextmanager
def targets() -> Iterator[dict[str, Any]]:
    """Hold what attacks are after, and yield how to find it."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.chmod(0o755)
        given = stack.enter_context(outside.targets(folder))
        shown = Path(given["shown"])
        for name, mode in {"private": 0o600, "of-the-group": 0o040, "mine": 0o644}.items():
            (shown / name).write_text("secret")
            (shown / name).chmod(mode)
        stack.enter_context(_variable("TOKEN", given["token"]))
        given["inheritable"] = stack.enter_context(_inheritable(Path(given["secret"])))
        given["owners_key"], given["semaphore"] = stack.enter_context(_semaphore())
        given["key"] = secrets.randbelow(2**30) + 1
        given["nice"] = os.getpriority(os.PRIO_PROCESS, 0)
        groups = set(Path("/proc/self/cgroup").read_text().split())
        given["groups"] = {group for group in groups if not group.endswith(":/")}
        masks = envhub_sandbox.interpreter(packages=False).masks
        given["masked"] = masks[0] if masks else "/nowhere"
        given["victim"] = 0
        yield given


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]


@contextmanager
def _inheritable(path: Path) -> Iterator[int]:
    """Hold a descriptor that somebody forgot to close on exec, at a number of its own."""
    opened = os.open(path, os.O_RDONLY)
    number = os.dup2(opened, 60, inheritable=True)
    os.close(opened)
    try:
        yield number
    finally:
        os.close(number)


@contextmanager
def _semaphore() -> Iterator[tuple[int, int]]:
    """Hold a semaphore of System V that anybody may use; yield its key and its number."""
    key = secrets.randbelow(2**30) + 1
    number = _libc.syscall(_SEMGET, key, 1, _CREATE | 0o666)
    assert number >= 0, os.strerror(ctypes.get_errno())
    try:
        yield key, number
    finally:
        _libc.syscall(_SEMCTL, number, 0, _REMOVE, 0)


# done to the machine itself, so only where there is nobody else: see `apart.py`
_HARMFUL = re.compile(
    "(stage|fence): (unshare mount namespace|mount (private /|tmpfs.*))|inside/executioner: .*"
    "|(fence|executioner).*(handles signals|landlock_restrict_self)|executioner: .*"
)


def is_harmful(world: World, left_out: Iterable[str]) -> bool:
    """Whether an executioner could reach everybody, or mounts be made for everybody."""
    whole = {"landlock", "landlock scope"} if world.grade.fenced else set()
    return any(name in whole or _HARMFUL.fullmatch(name) for name in left_out)


def given_in(world: World, targets: dict[str, Any]) -> dict[str, Any]:
    """Return where an attack finds things in a sandbox of this world."""
    own = {"scratch": "/workspace", "tmp": "/tmp", "shm": "/dev/shm", "shown": "/opt/shown"}
    if not world.grade.namespaces:
        own = {"scratch": ".", "tmp": ".", "shm": "/dev/shm", "shown": targets["shown"]}
    return {**targets, **own, "groups": sorted(targets["groups"]), "first_uid": 0}


def working(
    world: World, left_out: Iterable[str], names: Iterable[str], targets: dict[str, Any]
) -> set[str]:
    """Return which of these attacks work in a sandbox without what is left out.

    Raises:
        LayerFailed, LaunchFailed, RefusedError: no sandbox can be built without it.
    """
    left_out, wanted = tuple(left_out), list(names)
    assert not is_harmful(world, left_out), left_out
    given = given_in(world, targets)
    # a new one each time: in the host's network the last one may not be gone yet
    given["zygotes"] = f"\0envhub-{secrets.token_hex(8)}"
    imported = {
        name: BY_NAME[name.removeprefix(AT_IMPORT)].code
        for name in wanted
        if name.startswith(AT_IMPORT)
    }
    with outside.victim(targets["token"]) as given["victim"]:
        prepare = _AT_IMPORT.format(given=_plain(given), prelude=PRELUDE, attacks=imported)
        with Zygote(
            world.launcher,
            grade=world.grade,
            limits=LIMITS,
            extra=(Bind(targets["shown"], "/opt/shown"),),
            prepare=prepare,
            left_out=left_out,
        ) as zygote:
            said = zygote.output()
            found = set(re.findall("^WORKED (.*)$", said, re.MULTILINE))
            tried = set(re.findall("^TRIED (.*)$", said, re.MULTILINE))
            if tried != set(imported):
                raise LaunchFailed(f"not tried: {set(imported) - tried}", stderr=said)
            for name in wanted:
                if name not in imported and _works(zygote, BY_NAME[name], given):
                    found.add(name)
    with suppress(FileNotFoundError):  # one user's would be in another's way
        os.unlink(f"{targets['shown']}/left")
    return found


def is_possible(name: str, targets: dict[str, Any]) -> bool:
    """Whether an attack works where nothing stops it; asked only of those that may not."""
    attack = BY_NAME[name.removeprefix(AT_IMPORT)]
    with tempfile.TemporaryDirectory() as scratch:
        given = {**_plain(targets), "scratch": scratch, "tmp": scratch, "shm": scratch}
        return outside.freely(attack.code, given, owner=False).returncode == 0


def _works(zygote: Zygote, attack: Attack, given: dict[str, Any]) -> bool:
    with zygote.session(PRELUDE + attack.code, **_plain(given)) as session:
        if session.failed:
            layer, what, number = session.failed
            raise LayerFailed(layer, what, number)
        return session.wait().worked


def _plain(given: dict[str, Any]) -> dict[str, Any]:
    """Return it without what JSON cannot carry."""
    return {k: sorted(v) if isinstance(v, set) else v for k, v in given.items()}
