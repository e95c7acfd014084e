"""What `envhub top` shows. Every word of the server's is made harmless before it is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from envhub.cli.terminal import shown
from envhub.hub.accounts.facts import SessionFacts, Usage

if TYPE_CHECKING:
    from envhub.cli.top import Look, Rates

_AROUND = 9  # lines that are no row of a table
_STYLES = {"calling": "green", "lost": "red", "opening": "yellow"}


def picture(
    url: str, look: Look, rates: Rates, height: int, trouble: str = ""
) -> RenderableType:
    """Return one picture of a server.

    Args:
        url: where it is.
        look: what it has said last.
        rates: what happened before that.
        height: in lines, of all of it.
        trouble: why it has not answered since.
    """
    environments = _environments(look.summary.environments, rates)
    broken = [
        Text(f"{_line(row.name)} is broken: {_line(row.broken)}", "red", no_wrap=True)
        for row in look.summary.environments
        if row.broken
    ]
    room = max(3, height - _AROUND - environments.row_count - len(broken))
    head = _head(url, look, rates, trouble)
    return Group(*head, environments, *broken, _sessions(look, rates, room))


def _head(url: str, look: Look, rates: Rates, trouble: str) -> list[Text]:
    hub, process = look.summary.hub, look.summary.process
    first = Text.assemble(
        ("envhub ", "bold blue"), (_line(hub.version), "bold blue"), f" · {_line(url)}",
        f" · isolation {_line(hub.tier)}",
    )  # fmt: skip
    cpu = "-" if rates.cpu is None else f"{rates.cpu:.0%}"
    resident = process.get("process_resident_memory_bytes", 0.0)
    second = Text(
        f"places {hub.taken}/{hub.places} · queue {hub.waiting}"
        f" · memory {_size(hub.memory_available_bytes)} free,"
        f" {_size(hub.memory_floor_bytes)} kept · hub {cpu} CPU, {_size(resident)}"
    )
    lines = [first, second]
    if refused := look.summary.refused:
        said = ", ".join(f"{times} {_line(why)}" for why, times in sorted(refused.items()))
        lines.append(Text(f"refused so far: {said}", style="dim"))
    lines += [
        Text(f"not ready: {_line(why)}: {_line(detail)}", style="bold red")
        for why, detail in look.summary.not_ready.items()
    ]
    if trouble:
        lines.append(Text(f"no answer: {_line(trouble)}", style="bold red"))
    return lines


def _environments(rows: list[Usage], rates: Rates) -> Table:
    table = _table("environment", "sessions", "calling", "steps/s", "errors/s", "ms/step",
                   "episodes", "steps", "errors", "")  # fmt: skip
    for row in sorted(rows, key=lambda row: (-rates.steps.get(row.name, 0), row.name)):
        mean = f"{row.step_s / row.steps * 1e3:.2f}" if row.steps else "-"
        state = Text("broken" if row.broken else "", style="red")
        numbers = (row.sessions, row.calling, _rate(rates.steps.get(row.name)),
                   _rate(rates.errors.get(row.name)), mean, row.episodes, row.steps,
                   row.errors)  # fmt: skip
        table.add_row(Text(_line(row.name)), *map(str, numbers), state)
    return table


def _sessions(look: Look, rates: Rates, room: int) -> RenderableType:
    if look.sessions is None:
        return Text("its sessions are shown to its own machine alone", style="dim")

    def busy(session: SessionFacts) -> tuple[float, float]:
        return -rates.session_steps.get(session.id, 0), -session.steps

    table = _table("session", "steps/s", "steps", "episode", "errors", "age", "pid",
                   "environment", "client", "state", "")  # fmt: skip
    for session in sorted(look.sessions, key=busy)[:room]:
        state = Text(session.state, style=_STYLES.get(session.state, ""))
        numbers = (_rate(rates.session_steps.get(session.id)), session.steps, session.episode,
                   session.errors, _age(session.age_s), session.pid or "-")  # fmt: skip
        words = (session.environment, session.client)
        doing = f"{_line(session.stage)} {_age(session.stage_s)}"
        table.add_row(Text(_line(session.id)), *map(str, numbers),
                      *(Text(_line(word)) for word in words), state, Text(doing))  # fmt: skip
    left = len(look.sessions) - room
    return Group(table, Text(f"and {left} more", style="dim")) if left > 0 else table


def _table(first: str, *others: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, header_style="bold")
    table.add_column(first, no_wrap=True, overflow="ellipsis")
    for heading in others:
        words = heading in ("", "environment", "client", "state")
        justify = "left" if words else "right"
        table.add_column(heading, no_wrap=True, justify=justify, overflow="ellipsis")  # type: ignore[arg-type]
    return table


def _line(text: str) -> str:
    """Return text as one line that cannot steer the terminal."""
    return " ".join(shown(text[:500]).split())


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _size(number: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.0f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"


def _age(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{seconds:02d}s"
