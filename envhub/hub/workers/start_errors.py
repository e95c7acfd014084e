"""Why a worker did not start, as an error: whose fault it is."""

from __future__ import annotations

from envhub.errors import WorkerStartFailed
from envhub.hub.workers.packets import FailedStart
from envhub_sandbox import LaunchFailed, LayerFailed


def told(name: str, failed: FailedStart, *, stood: bool) -> Exception:
    """Return the error for what a zygote has said.

    Args:
        name: of the environment.
        failed: its word.
        stood: the sandbox was there before.
    """
    if failed.layer and stood:  # this could be the import's word
        what = f"the zygote of `{name}`: {failed.layer}: {failed.what}"
        return WorkerStartFailed(what, hint=failed.hint)
    if failed.layer:
        return LayerFailed(failed.layer, failed.what, failed.errno or 0, hint=failed.hint)
    return WorkerStartFailed(
        f"environment `{name}` cannot be imported: {failed.message}",
        output=failed.traceback,
    )


def untold(name: str, output: str, *, stood: bool) -> Exception:
    """Return the error for a zygote that ended without a word before it was ready.

    Args:
        name: of the environment.
        output: what it had printed.
        stood: the sandbox was there before.
    """
    if stood:  # so it was the environment's import
        what = f"environment `{name}` ended its process while it was imported"
        return WorkerStartFailed(what, output=output)
    what = f"the sandbox of `{name}` ended before it was ready"
    return LaunchFailed(f"{what}: {output.strip()}", stderr=output)


def too_late(name: str, output: str, deadline_s: float) -> WorkerStartFailed:
    """Return the error for an import that took too long: the machine's fault, perhaps."""
    return WorkerStartFailed(
        f"environment `{name}` was not imported within {deadline_s:g} s",
        verdict="deadline",
        output=output,
        hint="raise `start_s` under [deadlines] in env.toml if it needs longer",
    )


def is_lasting(error: Exception) -> bool:
    """Whether the next start would fail the same way, until the environment's files change."""
    return isinstance(error, WorkerStartFailed) and error.verdict != "deadline"
