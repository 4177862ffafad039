"""A ledger as families of the client library: sums over the workers, or each worker by the label `worker`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client.core import Metric

from percore.web.app_metrics.ledger import Ledger, Sums
from percore.web.app_metrics.page import Family, Series, bounds

Labels = dict[str, str]


def merged(app: str, ledger: Ledger, *, per_worker: bool) -> list[Metric]:
    """Gauges always have the label `worker`: what they mean in sum is for who asks to say. Quantiles have no sum."""
    made = {name: _metric(family) for name, family in ledger.families.items()}
    if per_worker:
        for slot, sums in sorted(ledger.by_slot().items()):
            _add_sums(made, ledger, sums, {"app": app, "worker": str(slot)})
    else:
        _add_sums(made, ledger, ledger.total(), {"app": app})
    for slot, found in sorted(ledger.gauges().items()):
        for series, value in found.items():
            family = ledger.families.get(ledger.owners.get(series.name, ""))
            if family and (per_worker or family.type != "summary"):
                made[family.name].add_sample(series.name, labelled(series, {"app": app, "worker": str(slot)}), value)
    return [metric for metric in made.values() if metric.samples]


def _metric(family: Family) -> Metric:
    """A counter whose name has not the ending that the library writes is `unknown`, and keeps its name."""
    kind = "unknown" if family.type == "plain" else family.type
    unit = family.unit if family.name.endswith(f"_{family.unit}") else ""
    return Metric(family.name, family.help, kind, unit)


def _add_sums(made: dict[str, Metric], ledger: Ledger, sums: Sums, more: Labels) -> None:
    rest = dict(sums.counters)
    for series, found in sums.buckets.items():
        owner = ledger.owners.get(series.name, "")
        if owner not in made:
            continue
        labels = labelled(series, more)
        for le in bounds(found):
            made[owner].add_sample(series.name, {**labels, "le": le}, found[le])
        for name in (f"{owner}_count", f"{owner}_sum"):  # they stand beside their buckets
            value = rest.pop(Series(name, series.labels), None)
            if value is not None:
                made[owner].add_sample(name, labels, value)
    for series, value in rest.items():
        owner = ledger.owners.get(series.name, "")
        if owner in made:
            made[owner].add_sample(series.name, labelled(series, more), value)


def labelled(series: Series, more: Labels) -> Labels:
    """A label of the program that is called like one of ours is `exported_...`, as Prometheus does it."""
    own = {f"exported_{name}" if name in more else name: value for name, value in series.labels}
    return {**own, **more}


def one_of_each(families: Iterable[Metric]) -> Iterator[Metric]:
    """The same family of several apps once; one that has another type there is left out."""
    found: dict[str, Metric] = {}
    for family in families:
        known = found.setdefault(family.name, family)
        if known is not family and known.type == family.type:
            known.samples.extend(family.samples)
    yield from found.values()
