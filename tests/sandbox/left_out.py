"""Ways to leave one layer out, for controls: code that runs before the layer would be built.

A test that still passes without the layer it is about could never have failed. The session
does not know of it, and claims to have every layer.
"""

from __future__ import annotations

# in the zygote, by tests/sandbox/inside.py: from its plan, or from the clone and its own filter
_INSIDE = """
from envhub_sandbox.plan import Plan
missing = set({layers!r})
really_run, really_fork = Plan.run, syscalls.fork
dropped = 0
if "network namespace" in missing: dropped |= syscalls.CLONE_NEWNET
if "ipc namespace" in missing: dropped |= syscalls.CLONE_NEWIPC

def is_missing(call):
    return call.layer in missing or call.layer.partition(" ")[0] in missing

Plan.run = lambda self: really_run(
    Plan([call for call in self.calls if not is_missing(call)])
)
syscalls.fork = lambda namespaces=0: really_fork(namespaces & ~dropped)
"""
# in the process that becomes the launcher, by envhub_sandbox.stage
_OUTSIDE = {
    "read-only root": """
from envhub_sandbox import builtin, bwrap, syscalls
really, mount = bwrap.arguments, syscalls.mount
bwrap.arguments = lambda *rest: really(*rest)[:-2]
syscalls.mount = lambda source, target, *rest: target == "/" and rest[0] is None and \
    rest[1] & syscalls.MS_REMOUNT or mount(source, target, *rest)
""",
    "die with parent": """
from envhub_sandbox import builtin, bwrap
builtin.die_with_parent = lambda: None
bwrap.ISOLATION = tuple(flag for flag in bwrap.ISOLATION if flag != "--die-with-parent")
""",
}


def inside(layers: tuple[str, ...]) -> str:
    """Return the code that leaves them out in the zygote; Landlock without its version."""
    return _INSIDE.format(layers=layers) if layers else ""


def outside(layers: tuple[str, ...]) -> str:
    """Return the code that leaves them out around it."""
    return "\n".join(_OUTSIDE[layer] for layer in layers if layer in _OUTSIDE)
