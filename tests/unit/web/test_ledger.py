"""Pages of metrics are read and added up: whatever becomes of workers, no counter falls and nothing is counted twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.core import Metric
from prometheus_client.openmetrics import parser as openmetrics

from percore.errors import PercoreError
from percore.supervisor.base.home import Home
from percore.web.app_metrics import store
from percore.web.app_metrics.ledger import Ledger, Sums, add, nothing
from percore.web.app_metrics.merge import merged, one_of_each
from percore.web.app_metrics.page import MOST_SERIES, PageError, Series, add_buckets, read_page
from percore.web.pages import encoded

REQUESTS = Series("requests_total", (("code", "200"),))


def page(count: float, **others: float) -> str:
    lines = ["# TYPE requests_total counter", f'requests_total{{code="200"}} {count}']
    return "\n".join([*lines, *(f"# TYPE {name} gauge\n{name} {value}" for name, value in others.items())]) + "\n"


def histogram(**buckets: int) -> str:
    lines = [f'took_bucket{{le="{le.replace("_", ".").replace("Inf", "+Inf")[1:]}"}} {n}' for le, n in buckets.items()]
    return "\n".join(["# TYPE took histogram", *lines, f"took_sum {max(buckets.values())}",
                      f"took_count {max(buckets.values())}"]) + "\n"  # fmt: skip


def values(metrics: list[Metric]) -> dict[str, float]:
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value for each in metrics for sample in each.samples
    }


def total(ledger: Ledger) -> float:
    return ledger.total().counters.get(REQUESTS, 0.0)


class Fleet:
    """Workers that count, and a reader that asks them; `counted` is what they counted before they were asked last."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.now = 0.0
        self.names = 0
        self.workers: dict[int, str] = {}
        self.own: dict[str, int] = {}
        self.asked: dict[str, int] = {}

    def start(self, slot: int) -> None:
        self.names += 1
        self.workers[slot] = f"{self.names}.0"
        self.own[self.workers[slot]] = 0

    def ask(self, slot: int) -> None:
        worker = self.workers[slot]
        self.ledger.take(worker, slot, read_page(page(self.own[worker])), at=self.now, holder=int(worker[:-2]))
        self.asked[worker] = self.own[worker]

    @property
    def counted(self) -> int:
        return sum(self.asked.values())


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["work", "work", "ask", "crash", "last words", "time", "restart of the reader"]),
        st.integers(0, 2),
        st.integers(1, 9),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_sums_are_what_was_counted_and_never_fall_whatever_ends_and_starts(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int]]
) -> None:
    fleet, before = Fleet(), 0.0
    home = Home(str(tmp_path_factory.mktemp("home")))
    for slot in range(3):
        fleet.start(slot)
    for step, slot, amount in steps:
        fleet.now += 1
        worker = fleet.workers[slot]
        if step == "work":
            fleet.own[worker] += amount
        elif step == "ask":
            fleet.ask(slot)
        elif step == "crash":
            fleet.start(slot)
        elif step == "last words":  # the round that misses it may come before what it says last
            fleet.ledger.settle(set(fleet.workers.values()) - {worker}, fleet.now)
            fleet.ask(slot)
            fleet.start(slot)
        elif step == "time":
            fleet.now += 20 * amount
        else:
            store.save(home, {"shop": fleet.ledger})
            fleet.ledger = store.load(home)["shop"]
        fleet.ledger.settle(set(fleet.workers.values()), fleet.now)
        now = total(fleet.ledger)
        assert now == fleet.counted
        assert now >= before
        before = now


def test_of_two_answers_the_later_counts_in_whatever_order_they_come() -> None:
    ledger = Ledger()
    ledger.take("1.0", 0, read_page(page(9)), at=2.0, holder=1)
    ledger.take("1.0", 0, read_page(page(5)), at=1.0, holder=1)
    assert total(ledger) == 9


def test_a_program_that_counts_from_zero_again_goes_on_where_it_was() -> None:
    ledger = Ledger()
    for count in (5, 2, 3):
        ledger.take("1.0", 0, read_page(page(count)), at=0.0, holder=1)
    assert total(ledger) == 8


def test_processes_of_one_worker_that_answer_in_turn_are_not_added_up_again_and_again() -> None:
    ledger = Ledger()
    for count, holder in ((5, 1), (2, 2), (6, 1), (2, 2)):
        ledger.take("1.0", 0, read_page(page(count)), at=0.0, holder=holder)
    assert total(ledger) == 6


def test_gauges_are_shown_for_each_worker_and_only_as_long_as_it_answers() -> None:
    ledger = Ledger()
    for slot, name in ((0, "1.0"), (1, "2.0")):
        ledger.take(name, slot, read_page(page(1, heap=slot + 5)), at=0.0, holder=1)
    assert values(merged("shop", ledger, per_worker=False)) == {
        "requests_total[('app', 'shop'), ('code', '200')]": 2,
        "heap[('app', 'shop'), ('worker', '0')]": 5,
        "heap[('app', 'shop'), ('worker', '1')]": 6,
    }
    ledger.miss("2.0")
    assert [name for name in values(merged("shop", ledger, per_worker=False)) if name.startswith("heap")] == [
        "heap[('app', 'shop'), ('worker', '0')]"
    ]


def test_each_worker_by_a_label_if_that_is_asked_for() -> None:
    ledger = Ledger()
    for slot, name in ((0, "1.0"), (1, "2.0")):
        ledger.take(name, slot, read_page(page(slot + 3)), at=0.0, holder=1)
    ledger.settle({"1.0"}, 0.0)
    ledger.take("3.0", 1, read_page(page(10)), at=1.0, holder=1)
    assert values(merged("shop", ledger, per_worker=True)) == {
        "requests_total[('app', 'shop'), ('code', '200'), ('worker', '0')]": 3,
        "requests_total[('app', 'shop'), ('code', '200'), ('worker', '1')]": 14,
    }


def test_histograms_with_other_bounds_stay_histograms() -> None:
    old, new = {"1": 2.0, "5": 3.0, "+Inf": 4.0}, {"2": 1.0, "+Inf": 1.0}
    assert add_buckets(old, new) == {"1": 2.0, "2": 3.0, "5": 4.0, "+Inf": 5.0}
    ledger = Ledger()
    ledger.take("1.0", 0, read_page(histogram(_1=2, _5=3, _Inf=4)), at=0.0, holder=1)
    ledger.take("2.0", 1, read_page(histogram(_2=1, _Inf=1)), at=0.0, holder=1)
    text = encoded(merged("shop", ledger, per_worker=False), "application/openmetrics-text;version=1.0.0").body.decode()
    [family] = openmetrics.text_string_to_metric_families(text)  # a strict reader, which looks at order and sums
    assert [sample.value for sample in family.samples] == [2, 3, 4, 5, 5, 5]


BUCKETS = st.dictionaries(st.sampled_from(["0.1", "1", "2.5", "10", "+Inf"]), st.integers(0, 9), min_size=1)


@given(st.lists(BUCKETS, max_size=5))
def test_buckets_never_fall_from_one_bound_to_the_next(found: list[dict[str, int]]) -> None:
    whole: dict[str, float] = {}
    for each in found:
        grown, below = {}, 0.0
        for le in sorted(each, key=float):
            below += each[le]
            grown[le] = below
        whole = add_buckets(whole, grown)
    counts = [whole[le] for le in sorted(whole, key=float)]
    assert counts == sorted(counts)


def test_a_counter_keeps_the_name_that_the_program_gave_it() -> None:
    ledger = Ledger()
    text = "# TYPE jobs counter\njobs 3\n# TYPE done_total counter\ndone_total 4\n# TYPE done_created gauge\ndone_created 9\n"
    ledger.take("1.0", 0, read_page(text), at=0.0, holder=1)
    ledger.take("2.0", 1, read_page(text), at=0.0, holder=1)
    found = encoded(merged("shop", ledger, per_worker=False), "").body.decode()
    assert [line for line in found.splitlines() if not line.startswith("# HELP")] == [
        "# TYPE jobs untyped", 'jobs{app="shop"} 6.0', "# TYPE done_total counter", 'done_total{app="shop"} 8.0',
    ]  # fmt: skip


def test_a_label_of_the_program_that_is_called_like_ours_is_kept_beside_it() -> None:
    ledger = Ledger()
    ledger.take("1.0", 0, read_page('# TYPE a gauge\na{app="x",worker="y"} 1\n'), at=0.0, holder=1)
    [labels] = [sample.labels for each in merged("shop", ledger, per_worker=False) for sample in each.samples]
    assert labels == {"exported_app": "x", "exported_worker": "y", "app": "shop", "worker": "0"}


def test_openmetrics_is_read_as_well() -> None:
    text = "# TYPE requests counter\nrequests_total 5\nrequests_created 1\n# TYPE up gauge\nup 1\n# EOF\n"
    found = read_page(text, "application/openmetrics-text; version=1.0.0")
    assert found.counters == {Series("requests_total"): 5}
    assert found.others == {Series("up"): 1}


@pytest.mark.parametrize("text", ["<html>", "a{b 1", 'a{b="c"} x', 'a{b="c" 1'])
def test_what_is_no_page_of_metrics_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(PageError, match="the page cannot be read"):
        read_page(text)


def test_a_counter_that_is_no_number_spoils_no_sum() -> None:
    ledger = Ledger()
    for written in ("5", "NaN", "6"):
        ledger.take(
            "1.0", 0, read_page(f'# TYPE requests_total counter\nrequests_total{{code="200"}} {written}\n'), at=0.0
        )
    assert total(ledger) == 6


def test_a_page_has_so_many_series_and_a_ledger_as_well() -> None:
    with pytest.raises(PageError, match=f"more than {MOST_SERIES} series"):
        read_page("".join(f'a{{b="{n}"}} 1\n' for n in range(MOST_SERIES + 1)))
    many = Sums({Series("a", (("b", str(n)),)): 1.0 for n in range(10)}, {Series("h"): {"1": 1.0, "+Inf": 2.0}})
    into = nothing()
    assert add(into, many, most=4) == 8
    assert add(into, many, most=4) == 8
    assert into.counters[Series("a", (("b", "0"),))] == 2.0


def test_families_of_several_apps_stand_together_and_one_of_another_type_is_left_out() -> None:
    def of(app: str, text: str) -> list[Metric]:
        ledger = Ledger()
        ledger.take("1.0", 0, read_page(text), at=0.0, holder=1)
        return merged(app, ledger, per_worker=False)

    found = list(one_of_each([*of("a", page(1)), *of("b", page(2)), *of("c", "# TYPE requests gauge\nrequests 7\n")]))
    assert [len(each.samples) for each in found] == [2]


def test_what_was_counted_and_cannot_be_read_is_an_error_and_not_a_new_beginning(tmp_path: Path) -> None:
    home = Home(str(tmp_path))
    assert store.load(home) == {}
    for text in ("", "[]", '{"version": 2}', '{"version": 1, "apps": {"a": {"base": 3}}}'):
        Path(store.path_of(home)).write_text(text)
        with pytest.raises(PercoreError, match=r"what the apps counted cannot be read.*move it away"):
            store.load(home)
