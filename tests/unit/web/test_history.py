"""What was measured: each value at its step, gaps as gaps, nothing older than the span."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from percore.web.dashboard.history import FIELDS, SPANS, HistorySpan, Timelines

NOW = 1_795_990_000.0
SPAN = HistorySpan(20, 2)
HOST = ("web1",)


def timelines(most: int = 10) -> Timelines:
    return Timelines(most, [SPAN])


def cpu(found: Timelines, at: float, subject: tuple[str, ...] = HOST, since: float = 0.0) -> list[float | None]:
    read: list[float | None] = found.read(subject, at, seconds=20, since=since)["values"]["cpu"]
    return read


def test_a_value_stands_at_its_step_and_what_was_not_measured_is_none() -> None:
    found = timelines()
    for second, value in ((0, 5.0), (6, 7.0), (8, 9.0)):
        found.put(HOST, NOW + second, {"cpu": value})
    read = found.read(HOST, NOW + 12, seconds=20)
    by_time = dict(zip(read["at"], read["values"]["cpu"], strict=True))
    assert [by_time[NOW + second] for second in (0, 2, 4, 6, 8)] == [5.0, None, None, 7.0, 9.0]


def test_a_look_that_came_a_little_late_leaves_no_gap() -> None:
    found = timelines()
    for second in (0.0, 2.1, 4.05, 6.2, 9.9, 10.1):  # none between 8 and 9.9
        found.put(HOST, NOW + second - 0.1, {"cpu": 5.0, "restarts": 1.0})
    found.put(HOST, NOW + 14, {"cpu": 5.0})
    assert None not in cpu(found, NOW + 16)[-6:]


def test_within_a_step_figures_are_averaged_queues_count_at_their_worst_and_restarts_add_up() -> None:
    found = timelines()
    for value in (1.0, 2.0, 6.0):
        found.put(HOST, NOW, {"cpu": value, "queue": value, "restarts": value})
    values = found.read(HOST, NOW + 4, seconds=20)["values"]
    assert (values["cpu"][-1], values["queue"][-1], values["restarts"][-1]) == (3.0, 6.0, 9.0)


def test_what_is_older_than_the_span_is_gone_also_after_a_long_pause() -> None:
    found = timelines()
    found.put(HOST, NOW, {"cpu": 5.0})
    assert 5.0 in cpu(found, NOW + 18)
    assert 5.0 not in cpu(found, NOW + 30)
    found.put(HOST, NOW + 3600, {"cpu": 6.0})
    assert [value for value in cpu(found, NOW + 3604) if value is not None] == [6.0]


def test_only_what_is_new_is_read_where_the_reader_says_what_it_has() -> None:
    found = timelines()
    for step in range(8):
        found.put(HOST, NOW + 2 * step, {"cpu": float(step)})
    first = found.read(HOST, NOW + 12, seconds=20)
    rest = found.read(HOST, NOW + 16, seconds=20, since=first["at"][-1])
    assert rest["at"] == [first["at"][-1] + 2, first["at"][-1] + 4]
    assert rest["values"]["cpu"] == [5.0, 6.0]


def test_there_is_room_for_so_many_subjects_and_what_is_gone_makes_room() -> None:
    found = timelines(most=2)
    for name in ("a", "b", "c"):
        found.put((name,), NOW, {"cpu": 1.0})
    assert found.is_full
    assert cpu(found, NOW + 4, ("c",)) == [None] * len(cpu(found, NOW + 4))
    found.put(("a",), NOW + 30, {"cpu": 1.0})
    found.drop_old(NOW + 30)
    found.put(("c",), NOW + 30, {"cpu": 1.0})
    assert cpu(found, NOW + 34, ("c",))[-1] == 1.0


def test_all_hosts_together_are_the_sum_and_one_that_says_nothing_adds_nothing() -> None:
    found = timelines()
    found.put(("a",), NOW, {"cpu": 1.5, "open": 3})
    found.put(("b",), NOW, {"cpu": 2.5})
    found.put(("a", "shop"), NOW, {"cpu": 99.0})
    values = found.read((), NOW + 4, seconds=20)["values"]
    assert (values["cpu"][-1], values["open"][-1], values["queue"][-1]) == (4.0, 3.0, None)


def test_the_parts_of_a_subject_are_what_is_directly_below() -> None:
    found = timelines()
    for subject in (("a",), ("a", "shop"), ("a", "shop", "0"), ("b",), ("b", "shop", "0")):
        found.put(subject, NOW, {"cpu": 1.0})
    assert list(found.read(("a", "shop"), NOW, seconds=20, with_parts=True)["parts"]) == ["0"]
    assert list(found.read((), NOW, seconds=20, with_parts=True)["parts"]) == ["a", "b"]


@given(st.lists(st.tuples(st.floats(0, 9), st.integers(0, 5)), min_size=1, max_size=60))
def test_no_restart_is_lost_or_counted_twice(looks: list[tuple[float, int]]) -> None:
    found = Timelines(10, SPANS)
    at = NOW
    for pause, restarts in looks:
        at += pause
        found.put(HOST, at, {"restarts": float(restarts)})
    for span in SPANS:
        read = found.read(HOST, at + 3 * span.step, seconds=span.seconds)
        kept_from = read["at"][0]
        if kept_from <= NOW:
            assert sum(value or 0 for value in read["values"]["restarts"]) == sum(count for _, count in looks)
        assert {len(values) for values in read["values"].values()} == {len(read["at"])}
        assert set(read["values"]) == set(FIELDS)
