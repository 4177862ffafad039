"""From samples to the table and the plot of a fleet's costs over its hosts. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

_COLOURS = ("#0a6", "#36c", "#c50", "#a3a", "#777")
_LEFT, _TOP, _RIGHT, _BOTTOM = 70, 40, 470, 280


class Sample(NamedTuple):
    """One command. CPU is that of the control machine: the command and all that it started."""

    wall_seconds: float
    cpu_seconds: float
    megabytes: float


class FleetCurve(NamedTuple):
    """One command of one tool, by number of hosts."""

    tool: str
    verb: str
    hosts: str  # simulated, or lab
    samples: Mapping[int, Sequence[Sample]]

    @property
    def title(self) -> str:
        return f"{self.tool} {self.verb}"

    def median(self, count: int, field: str) -> float:
        return float(statistics.median(getattr(sample, field) for sample in self.samples[count]))

    def slope(self) -> float:
        """Milliseconds of CPU for each further host, between the fewest and the most."""
        fewest, most = min(self.samples), max(self.samples)
        more = self.median(most, "cpu_seconds") - self.median(fewest, "cpu_seconds")
        return 1000 * more / max(1, most - fewest)


def render(curves: Sequence[FleetCurve]) -> str:
    """A table of Markdown, a row for each command and number of hosts."""
    lines = [
        "| command | on | hosts | wall | CPU | CPU for each host | memory | CPU for each further host |",
        "| --- |" + " --- |" * 7,
    ]
    for curve in curves:
        for count in sorted(curve.samples):
            wall, cpu = curve.median(count, "wall_seconds"), curve.median(count, "cpu_seconds")
            slope = f"{curve.slope():.1f} ms" if count == max(curve.samples) and len(curve.samples) > 1 else ""
            lines.append(
                f"| {curve.title} | {curve.hosts} | {count} | {wall:.2f} s | {cpu:.2f} s | {1000 * cpu / count:.1f} ms "
                f"| {curve.median(count, 'megabytes'):.0f} MB | {slope} |"
            )
    return "\n".join(lines)


def draw(curves: Sequence[FleetCurve]) -> str:
    """Two panels over the number of hosts: seconds of CPU, and of the clock."""
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1340 330" font-family="sans-serif" font-size="13">',
        '<rect width="1340" height="330" fill="white"/>',
    ]
    for number, (field, title) in enumerate((("cpu_seconds", "CPU of the control machine"), ("wall_seconds", "time"))):
        panel = _panel(curves, field, title)
        parts += [f'<g transform="translate({670 * number} 0)">', *panel, "</g>"]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(curves: Sequence[FleetCurve], field: str, title: str) -> list[str]:
    counts = sorted({count for curve in curves for count in curve.samples})
    most = max(curve.median(count, field) for curve in curves for count in curve.samples)

    def place(count: int, value: float) -> str:
        x = _LEFT + (_RIGHT - _LEFT) * count / counts[-1]
        return f"{x:.1f} {_BOTTOM - (_BOTTOM - _TOP) * value / most:.1f}"

    parts = [
        f'<text x="{_LEFT}" y="22" font-weight="bold">{title}: seconds over hosts</text>',
        f'<path d="M{_LEFT} {_TOP}V{_BOTTOM}H{_RIGHT}" fill="none" stroke="#888"/>',
        f'<text x="{_LEFT - 6}" y="{_TOP + 5}" text-anchor="end">{most:.1f}</text>',
    ]
    parts += [
        f'<text x="{place(count, 0).split()[0]}" y="{_BOTTOM + 18}" text-anchor="middle">{count}</text>'
        for count in counts
    ]
    for row, curve in enumerate(curves):
        colour = _COLOURS[row % len(_COLOURS)]
        points = "L".join(place(count, curve.median(count, field)) for count in sorted(curve.samples))
        parts.append(f'<path d="M{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(
            f'<text x="{_RIGHT + 10}" y="{_TOP + 20 + 20 * row}" fill="{colour}">{curve.title} ({curve.hosts})</text>'
        )
    return parts
