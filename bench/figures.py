"""Figures: named samples with a unit, their summary, and the promise they are held to."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One measured quantity.

    Args:
        name: what was measured.
        unit: of the samples, such as "ms".
        samples: every one that was taken; none is left out.
        target: what the median is promised to stay at or below; None for no promise.
        note: how to read it.
        keep: also write the samples themselves to the JSON, for the plots.
        at_least: the promise is to stay at or above the target.
    """

    name: str
    unit: str
    samples: Sequence[float]
    target: float | None = None
    note: str = ""
    keep: bool = False
    at_least: bool = False

    @property
    def met(self) -> bool | None:
        """Whether the median keeps the promise; None without one."""
        if self.target is None:
            return None
        return self.median >= self.target if self.at_least else self.median <= self.target

    @property
    def median(self) -> float:
        """The middle sample."""
        return statistics.median(self.samples)

    def as_dict(self) -> dict[str, Any]:
        """Return the summary, as it stands in the JSON."""
        summary = {
            "name": self.name,
            "unit": self.unit,
            "n": len(self.samples),
            "median": self.median,
            "min": min(self.samples),
            "max": max(self.samples),
            "p10": percentile(self.samples, 10),
            "p90": percentile(self.samples, 90),
            "p99": percentile(self.samples, 99),
            "target": self.target,
            "at_least": self.at_least,
            "met": self.met,
            "note": self.note,
        }
        if self.keep:
            summary["samples"] = [round(sample, 6) for sample in self.samples]
        return summary


@dataclass
class Group:
    """What one benchmark found.

    Args:
        figures: in the order of the table.
        series: curves for the plots, as (x, y) by name.
        absent: what could not be measured, and why.
    """

    figures: list[Figure] = field(default_factory=list)
    series: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def add(
        self,
        name: str,
        unit: str,
        samples: Sequence[float],
        target: float | None = None,
        note: str = "",
        *,
        keep: bool = False,
        at_least: bool = False,
    ) -> None:
        """Add a figure; arguments are those of Figure."""
        if not samples:
            raise ValueError(f"no sample of `{name}` was taken")
        self.figures.append(Figure(name, unit, samples, target, note, keep, at_least))

    def add_ratio(
        self,
        name: str,
        over: Sequence[float],
        under: Sequence[float],
        note: str = "",
        target: float | None = None,
        *,
        at_least: bool = True,
    ) -> None:
        """Add `over / under`, taken pair by pair: a pair shares its moment on the machine."""
        pairs = zip(over, under, strict=True)
        ratios = [a / b for a, b in pairs]
        self.add(name, "ratio", ratios, target, note, at_least=target is not None and at_least)


def percentile(samples: Sequence[float], percent: float) -> float:
    """Return the nearest-rank percentile: a sample that was really taken."""
    ordered = sorted(samples)
    return ordered[max(0, -(-len(ordered) * int(percent) // 100) - 1)]
