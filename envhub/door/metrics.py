"""GET /metrics: Prometheus' text format 0.0.4.

No label is ever a client's word: environments are the catalog's, codes and verdicts are closed
sets. See docs/decisions/0010 for why no library writes this.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import accumulate
from typing import TYPE_CHECKING

from envhub.hub.accounts import own
from envhub.hub.accounts.tally import BOUNDS_S, Totals

if TYPE_CHECKING:
    from envhub.hub.hub import Hub

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Labels = dict[str, str]
Sample = tuple[Labels, float]

# name → type and meaning; docs/operations.md has this table, and a test holds it to it
METRICS: dict[str, tuple[str, str]] = {
    "envhub_info": ("gauge", "1, with version, isolation asked for and tier that is live"),
    "envhub_ready": ("gauge", "1 if a session could be opened now, as /readyz says"),
    "envhub_places": ("gauge", "Sessions that may be open at once"),
    "envhub_places_taken": ("gauge", "Places that are not free"),
    "envhub_queue_length": ("gauge", "Requests that wait for a place"),
    "envhub_memory_available_bytes": ("gauge", "Memory of the machine that is available"),
    "envhub_memory_floor_bytes": ("gauge", "Memory of the machine that is kept free"),
    "envhub_sessions": ("gauge", "Sessions by environment and state"),
    "envhub_sessions_opened_total": ("counter", "Sessions that were opened"),
    "envhub_sessions_closed_total": ("counter", "Sessions that were closed, by why"),
    "envhub_clients_refused_total": ("counter", "Clients that were not served, by why"),
    "envhub_episodes_total": ("counter", "Resets that were answered"),
    "envhub_step_seconds": ("histogram", "Time of a step, from the call to its reply"),
    "envhub_errors_total": ("counter", "Calls without a reply, by code and verdict"),
    "envhub_workers": ("gauge", "Workers that live"),
    "envhub_ready_processes": ("gauge", "Session processes made ahead of demand"),
    "envhub_worker_starts_total": ("counter", "Workers that became ready"),
    "envhub_worker_deaths_total": ("counter", "Workers that ended by themselves"),
    "envhub_environment_broken": ("gauge", "1 if an environment cannot be started"),
    "process_cpu_seconds_total": ("counter", "CPU time of the hub's process"),
    "process_resident_memory_bytes": ("gauge", "Resident memory of the hub's process"),
    "process_open_fds": ("gauge", "Descriptors that the hub's process has open"),
    "process_max_fds": ("gauge", "Descriptors that it may have open"),
    "process_start_time_seconds": ("gauge", "When it was started, in seconds since 1970"),
}  # fmt: skip


def page(hub: Hub, default: str | None) -> str:
    """Return the metrics of a hub, and of the process that it is in.

    Args:
        hub: running.
        default: the environment at the root; None for none.
    """
    process: dict[str, list[Sample]] = {name: [({}, v)] for name, v in own.usage().items()}
    found = {**_of_hub(hub, default), **_of_environments(hub), **process}
    return "".join(_family(name, found.get(name, [])) for name in METRICS)


def _of_hub(hub: Hub, default: str | None) -> dict[str, list[Sample]]:
    facts, counters = hub.facts(), hub.counters
    info = {"version": facts.version, "isolation": facts.isolation, "tier": facts.tier}
    return {
        "envhub_info": [(info, 1)],
        "envhub_ready": [({}, not facts.why_not(default))],
        "envhub_places": [({}, facts.places)],
        "envhub_places_taken": [({}, facts.taken)],
        "envhub_queue_length": [({}, facts.waiting)],
        "envhub_memory_available_bytes": [({}, facts.memory_available_bytes)],
        "envhub_memory_floor_bytes": [({}, facts.memory_floor_bytes)],
        "envhub_clients_refused_total": _by("why", counters.refused),
        "envhub_workers": _by("environment", facts.workers),
        "envhub_ready_processes": _by("environment", facts.ready_processes),
        "envhub_worker_starts_total": _by("worker", counters.worker_starts),
        "envhub_worker_deaths_total": _by("worker", counters.worker_deaths),
        "envhub_environment_broken": [
            ({"environment": name}, name in facts.broken)
            for name in sorted({*hub.catalog.names(), *facts.broken})
        ],
    }


def _of_environments(hub: Hub) -> dict[str, list[Sample]]:
    totals = hub.counters.totals()
    live = Counter((session.environment, session.state) for session in hub.sessions())
    return {
        "envhub_sessions": [
            ({"environment": name, "state": state}, live[name, state])
            for name in totals
            for state in ("opening", "idle", "calling", "lost")
        ],
        "envhub_sessions_opened_total": _by(
            "environment", {name: sums.opened for name, sums in totals.items()}
        ),
        "envhub_sessions_closed_total": [
            ({"environment": name, "why": why}, times)
            for name, sums in totals.items()
            for why, times in sums.closed.items()
        ],
        "envhub_episodes_total": _by(
            "environment", {name: sums.episodes for name, sums in totals.items()}
        ),
        "envhub_step_seconds": [s for name, sums in totals.items() for s in _times(name, sums)],
        "envhub_errors_total": [
            ({"environment": name, "code": code, "cause": cause}, times)
            for name, sums in totals.items()
            for (code, cause), times in sums.errors.items()
        ],
    }


def _times(environment: str, sums: Totals) -> Iterable[Sample]:
    """Return a histogram's samples; "" of the label `_` stands for the end of their names."""
    bounds = [*(f"{bound:g}" for bound in BOUNDS_S), "+Inf"]
    labels = {"environment": environment}
    for bound, below in zip(bounds, accumulate(sums.buckets), strict=True):
        yield {"_": "_bucket", **labels, "le": bound}, below
    yield {"_": "_sum", **labels}, sums.step_s
    yield {"_": "_count", **labels}, sum(sums.buckets)


def _by(label: str, numbers: dict[str, int]) -> list[Sample]:
    return [({label: name}, number) for name, number in numbers.items()]


def _family(name: str, samples: list[Sample]) -> str:
    kind, meaning = METRICS[name]
    lines = [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"]
    for labels, value in samples:
        suffix = labels.get("_", "")
        pairs = ",".join(f'{k}="{_escaped(v)}"' for k, v in labels.items() if k != "_")
        lines.append(f"{name}{suffix}{{{pairs}}} {_number(value)}" if pairs else
                     f"{name}{suffix} {_number(value)}")  # fmt: skip
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
