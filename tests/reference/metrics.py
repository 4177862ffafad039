"""percore's own metrics, as `percore metrics --list` prints them."""

from __future__ import annotations

from collections.abc import Iterator

from percore.web.own_metrics import table


def all_metrics() -> Iterator[str]:
    yield from table()
