"""From samples to the table and the plot of req/s over workers. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

SIDES = ("percore", "pm2", "nginx")
TITLES = {"percore": "percore", "pm2": "PM2", "nginx": "processes behind NGINX"}
_COLOURS = {"percore": "#0a6", "pm2": "#c50", "nginx": "#36c"}
_LEFT, _TOP, _RIGHT, _BOTTOM = 70, 40, 470, 280


class Curve(NamedTuple):
    """One program. `samples`: by side and number of workers, requests a second."""

    program: str
    what: str
    samples: Mapping[str, Mapping[int, Sequence[float]]]

    def median(self, side: str, workers: int) -> float:
        return statistics.median(self.samples[side][workers])

    @property
    def counts(self) -> list[int]:
        return sorted(self.samples[SIDES[0]])

    def times_one(self, side: str, workers: int) -> float:
        return self.median(side, workers) / self.median(side, self.counts[0])

    def to_record(self) -> dict[str, Any]:
        return {"program": self.program, "what": self.what, "requests_per_second": self.samples}


def render(curve: Curve) -> str:
    """A table of Markdown: req/s, and how many times that of one worker."""
    sides = [side for side in SIDES if side in curve.samples]
    lines = [
        f"| {curve.what}: workers | {' | '.join(TITLES[side] for side in sides)} |",
        "| --- |" + " --- |" * len(sides),
    ]
    for count in curve.counts:
        cells = [f"{curve.median(side, count):,.0f} ({curve.times_one(side, count):.2f} x)" for side in sides]
        lines.append(f"| {count} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(curves: Sequence[Curve], cores: int) -> str:
    """A panel for each program, its dashed line what would be linear up to the cores."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {620 * len(curves)} 330" font-family="sans-serif" font-size="13">',
        f'<rect width="{620 * len(curves)}" height="330" fill="white"/>',
    ]
    for number, curve in enumerate(curves):
        parts += [f'<g transform="translate({620 * number} 0)">', *_panel(curve, cores), "</g>"]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(curve: Curve, cores: int) -> list[str]:
    one = curve.median(SIDES[0], curve.counts[0])
    linear = {count: one * min(count, cores) for count in curve.counts}
    most = max(*linear.values(), *(curve.median(side, count) for side in curve.samples for count in curve.counts))

    def place(count: int, value: float) -> str:
        width = max(1, curve.counts[-1] - curve.counts[0])
        x = _LEFT + (_RIGHT - _LEFT) * (count - curve.counts[0]) / width
        return f"{x:.1f} {_BOTTOM - (_BOTTOM - _TOP) * value / most:.1f}"

    def line(values: Mapping[int, float], more: str) -> str:
        return f'<path d="M{"L".join(place(*each) for each in values.items())}" fill="none" {more}/>'

    parts = [
        f'<text x="{_LEFT}" y="22" font-weight="bold">{curve.what}: requests a second</text>',
        f'<path d="M{_LEFT} {_TOP}V{_BOTTOM}H{_RIGHT}" fill="none" stroke="#888"/>',
        f'<text x="{_LEFT - 6}" y="{_TOP + 5}" text-anchor="end">{most:,.0f}</text>',
        f'<text x="{_RIGHT + 10}" y="{_BOTTOM + 18}">workers</text>',
        line(linear, 'stroke="#999" stroke-dasharray="5 4"'),
    ]
    parts += [
        f'<text x="{place(count, 0).split()[0]}" y="{_BOTTOM + 18}" text-anchor="middle">{count}</text>'
        for count in curve.counts
    ]
    for row, side in enumerate(side for side in SIDES if side in curve.samples):
        parts.append(
            line(
                {count: curve.median(side, count) for count in curve.counts},
                f'stroke="{_COLOURS[side]}" stroke-width="2"',
            )
        )
        parts.append(
            f'<text x="{_RIGHT + 10}" y="{_TOP + 20 + 20 * row}" fill="{_COLOURS[side]}">{TITLES[side]}</text>'
        )
    return [*parts, f'<text x="{_RIGHT + 10}" y="{_TOP + 20 + 20 * len(curve.samples)}" fill="#777">linear</text>']
