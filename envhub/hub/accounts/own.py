"""What the machine says of this process, the hub's own."""

from __future__ import annotations

import os
import resource

import psutil

_process = psutil.Process()


def usage() -> dict[str, float]:
    """Return it by the names that Prometheus' clients give it."""
    global _process
    if _process.pid != os.getpid():  # a fork's is another
        _process = psutil.Process()
    with _process.oneshot():
        cpu = _process.cpu_times()
        return {
            "process_cpu_seconds_total": cpu.user + cpu.system,
            "process_resident_memory_bytes": _process.memory_info().rss,
            "process_open_fds": _process.num_fds(),
            "process_max_fds": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            "process_start_time_seconds": _process.create_time(),
        }
