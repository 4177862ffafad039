"""One worker's page, read: what may be added up, and what may not."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

MOST_SERIES = 20_000
_PLAIN_COUNTER = re.compile(r"^#\s*TYPE\s+(\S+)\s+counter\s*$", re.MULTILINE)
_ADDED_UP = {"counter": ("_total",), "histogram": ("_sum", "_count"), "summary": ("_sum", "_count")}


class Series(NamedTuple):
    """`labels` are in order."""

    name: str
    labels: tuple[tuple[str, str], ...] = ()


class Family(NamedTuple):
    name: str
    type: str
    help: str
    unit: str = ""


class MetricsPage(NamedTuple):
    """Each value belongs to the family of its index."""

    families: dict[str, Family]  # by name
    owners: dict[str, str]  # the family of each name of series
    counters: dict[Series, float]
    buckets: dict[Series, dict[str, float]]  # of a histogram, without the label le: by le, each with all below it
    others: dict[Series, float]  # gauges and the like


class PageError(ValueError):
    """It is no page of metrics, or too large a one."""


def read_page(text: str, content_type: str = "") -> MetricsPage:
    """Raises PageError."""
    is_open = content_type.startswith("application/openmetrics-text")
    reader = openmetrics.text_string_to_metric_families if is_open else read_text
    # The reader gives each counter the ending `_total`; a program that is without it keeps its names.
    plain = set() if is_open else {name for name in _PLAIN_COUNTER.findall(text) if not name.endswith("_total")}
    page = MetricsPage({}, {}, {}, {}, {})
    try:
        for found in reader(text):
            _take(page, found, is_plain=found.name in plain)
    except PageError:
        raise
    except Exception as error:  # whatever a program writes must not reach anybody as a traceback
        raise PageError(f"the page cannot be read: {str(error)[:200]}") from None
    _drop_created(page)
    return page


def _take(page: MetricsPage, found: Any, *, is_plain: bool) -> None:
    kind = "counter" if is_plain else str(found.type)
    page.families.setdefault(
        found.name, Family(found.name, "plain" if is_plain else kind, found.documentation, found.unit)
    )
    endings = ("_total",) if is_plain else _ADDED_UP.get(kind, ())
    for sample in found.samples:
        name = found.name if is_plain and sample.name == f"{found.name}_total" else sample.name
        page.owners[name] = found.name
        _put(page, Series(name, tuple(sorted(sample.labels.items()))), sample, kind, endings)
        if len(page.counters) + len(page.others) + sum(map(len, page.buckets.values())) > MOST_SERIES:
            raise PageError(f"the page has more than {MOST_SERIES} series")


def _put(page: MetricsPage, series: Series, sample: Any, kind: str, endings: Iterable[str]) -> None:
    value = float(sample.value)
    if math.isnan(value) and kind in _ADDED_UP:
        return  # nothing can be added to it
    if kind == "histogram" and sample.name.endswith("_bucket") and "le" in sample.labels:
        rest = tuple(pair for pair in series.labels if pair[0] != "le")
        page.buckets.setdefault(Series(series.name, rest), {})[sample.labels["le"]] = value
    elif any(sample.name.endswith(ending) for ending in endings):
        page.counters[series] = value
    elif not (sample.name.endswith("_created") and kind in _ADDED_UP):
        page.others[series] = value


def _drop_created(page: MetricsPage) -> None:
    """When a counter began is no gauge, though the text format has no other word for it."""
    for name in list(page.families):
        base = name[: -len("_created")]
        family = page.families.get(base) if name.endswith("_created") else None
        if family and (family.type in _ADDED_UP or family.type == "plain"):
            del page.families[name]
            for series in [series for series in page.others if page.owners[series.name] == name]:
                del page.others[series]


def bounds(buckets: Iterable[str]) -> list[str]:
    return sorted(buckets, key=_bound)


def _bound(le: str) -> float:
    try:
        return float(le)
    except ValueError:
        return float("inf")


def add_buckets(one: dict[str, float], other: dict[str, float]) -> dict[str, float]:
    """With the bounds of both. Where one lacks a bound, what is below it counts: so each keeps growing with the bounds."""
    if one.keys() == other.keys():
        return {le: value + other[le] for le, value in one.items()}
    return dict(_added(one, other))


def _added(one: dict[str, float], other: dict[str, float]) -> Iterator[tuple[str, float]]:
    below_one = below_other = 0.0
    for le in bounds(one.keys() | other.keys()):
        below_one, below_other = one.get(le, below_one), other.get(le, below_other)
        yield le, below_one + below_other
