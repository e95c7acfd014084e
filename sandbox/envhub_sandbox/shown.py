"""Which parts of the host a Python program needs to see: the system's, and the interpreter's.

Listed one by one: `/usr/share` and `/usr/local` may hold anybody's data, an environment's
hidden tests among them, so they are never shown whole.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from .policy import Bind, View

_ALIASES = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_PARTS = (
    "/usr/bin",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/libexec",
    "/usr/include",
    "/usr/share/zoneinfo",
    "/usr/share/terminfo",
    "/usr/share/git-core",
    "/usr/share/perl",
    "/usr/share/perl5",
    "/etc/alternatives",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/ssl/openssl.cnf",
)
_VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
_OF_NETWORKS = (
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/pki/tls/certs",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl/certs",
)
_PASSWD = Path(__file__).parent / "etc"


def system() -> View:
    """Return a view of the system's programs and libraries."""
    binds = [_bind(path) for path in _PARTS if os.path.exists(path)]
    links = []
    for alias in _ALIASES:
        if os.path.islink(alias):
            links.append((os.readlink(alias), alias))
        elif os.path.isdir(alias):
            binds.append(Bind(alias))
    binds += [Bind(str(_PASSWD / name), f"/etc/{name}") for name in ("passwd", "group")]
    return View(tuple(binds), tuple(links))


def network() -> View:
    """Return a view of what programs read before they reach a host by its name."""
    return View(tuple(_bind(path) for path in _OF_NETWORKS if os.path.exists(path)))


@dataclass(frozen=True, slots=True)
class Python:
    """An interpreter, and where its parts are.

    Args:
        executable: its program.
        prefix: of its virtual environment, or the same as `base_prefix`.
        base_prefix: where its standard library is.
        version: such as "python3.11".
        packages: folders of packages that lie outside of both.
    """

    executable: str
    prefix: str
    base_prefix: str
    version: str
    packages: tuple[str, ...] = ()


def running() -> Python:
    """Return the interpreter that runs this."""
    named = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    on_path = {p for p in sys.path if Path(p).name in ("site-packages", "dist-packages")}
    return Python(
        sys.executable,
        sys.prefix,
        sys.base_prefix,
        _VERSION,
        tuple(sorted(path for path in named | on_path if os.path.isdir(path))),
    )


def virtual(folder: str) -> Python:
    """Return the interpreter of a virtual environment, without running it (PEP 405).

    Raises:
        ValueError: there is none in that folder.
    """
    try:
        with open(f"{folder}/pyvenv.cfg", encoding="utf-8") as file:
            pairs = (line.partition("=") for line in file)
            said = {key.strip().lower(): value.strip() for key, _, value in pairs}
        home, version = said["home"], said.get("version_info") or said["version"]
        major, minor = version.split(".")[:2]
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(f"no virtual environment in `{folder}`: {error!r}") from None
    return Python(
        f"{folder}/bin/python", folder, os.path.dirname(home), f"python{major}.{minor}"
    )


def interpreter(*, packages: bool, python: Python | None = None) -> View:
    """Return a view of a Python: its program and its standard library.

    Args:
        packages: also show everything installed for it, in its virtual environment too.
            Without them site-packages looks empty.
        python: which; None is the one that runs this.
    """
    python = python or running()
    base = Path(python.base_prefix).resolve()
    binds = [_bind(str(base / part)) for part in ("bin", "lib") if (base / part).exists()]
    if python.base_prefix != str(base):
        binds += [Bind(b.source, f"{python.base_prefix}/{Path(b.source).name}") for b in binds]
    if packages:
        if python.prefix != python.base_prefix:
            binds.append(_bind(python.prefix))
        binds += [_bind(path) for path in python.packages]
        return View(tuple(binds), _links_to_the_program(python.executable, binds))
    hidden = {
        Path(library) / folder / name
        for library in (base / "lib", f"{python.base_prefix}/lib", "/usr/lib", "/usr/lib64")
        for folder in (python.version, "python3")
        for name in ("site-packages", "dist-packages")
    }
    return View(tuple(binds), masks=tuple(sorted(str(p) for p in hidden if p.is_dir())))


def program() -> str:
    """Return the path of the base interpreter, outside any virtual environment."""
    base = Path(sys.base_prefix).resolve()
    return str(base / "bin" / _VERSION)


def _links_to_the_program(executable: str, binds: list[Bind]) -> tuple[tuple[str, str], ...]:
    """Return the links that lead from an executable to a program that a bind shows.

    A virtual environment's python may be a link to a link in a folder of anybody's, such as
    ~/.local/bin.
    """
    links = []
    path = executable
    while os.path.islink(path):
        target = os.readlink(path)
        if not any(Path(path).is_relative_to(bind.inside) for bind in binds):
            links.append((target, path))
        path = os.path.normpath(os.path.join(os.path.dirname(path), target))
    return tuple(links)


def _bind(path: str) -> Bind:
    """Show a path where it is, also if it is a link on the host."""
    return Bind(os.path.realpath(path), path)
