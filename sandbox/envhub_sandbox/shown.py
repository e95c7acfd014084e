"""Which parts of the host a Python program needs to see: the system's, and the interpreter's.

Listed one by one: `/usr/share` and `/usr/local` may hold anybody's data, an environment's
hidden tests among them, so they are never shown whole.
"""

from __future__ import annotations

import os
import sys
import sysconfig
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


def interpreter(*, packages: bool) -> View:
    """Return a view of the running Python: its program and its standard library.

    Args:
        packages: also show everything installed for it, in its virtual environment too.
            Without them site-packages looks empty.
    """
    base = Path(sys.base_prefix).resolve()
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    binds = [_bind(str(base / part)) for part in ("bin", "lib") if (base / part).exists()]
    if sys.base_prefix != str(base):
        binds += [Bind(b.source, f"{sys.base_prefix}/{Path(b.source).name}") for b in binds]
    if packages:
        if sys.prefix != sys.base_prefix:
            binds.append(_bind(sys.prefix))
        binds += [_bind(path) for path in _package_folders()]
        return View(tuple(binds), _links_to_the_program(binds))
    hidden = {
        Path(library) / folder / name
        for library in (base / "lib", f"{sys.base_prefix}/lib", "/usr/lib", "/usr/lib64")
        for folder in (version, "python3")
        for name in ("site-packages", "dist-packages")
    }
    return View(tuple(binds), masks=tuple(sorted(str(p) for p in hidden if p.is_dir())))


def program() -> str:
    """Return the path of the base interpreter, outside any virtual environment."""
    base = Path(sys.base_prefix).resolve()
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return str(base / "bin" / version)


def _package_folders() -> set[str]:
    """Return where packages are installed, as far as it lies outside the prefixes."""
    named = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    on_path = {p for p in sys.path if Path(p).name in ("site-packages", "dist-packages")}
    return {path for path in named | on_path if os.path.isdir(path)}


def _links_to_the_program(binds: list[Bind]) -> tuple[tuple[str, str], ...]:
    """Return the links that lead from `sys.executable` to a program that a bind shows.

    A virtual environment's python may be a link to a link in a folder of anybody's, such as
    ~/.local/bin.
    """
    links = []
    path = sys.executable
    while os.path.islink(path):
        target = os.readlink(path)
        if not any(Path(path).is_relative_to(bind.inside) for bind in binds):
            links.append((target, path))
        path = os.path.normpath(os.path.join(os.path.dirname(path), target))
    return tuple(links)


def _bind(path: str) -> Bind:
    """Show a path where it is, also if it is a link on the host."""
    return Bind(os.path.realpath(path), path)
