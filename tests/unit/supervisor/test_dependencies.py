"""`depends_on`: the order, the circles, and jobs that are done in that order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from percore.errors import PercoreError, UsageError
from percore.supervisor.base.loop import Job
from percore.supervisor.config.dependencies import find_cycle, in_order, refuse_cycle, reversed_needs
from percore.supervisor.core.jobs import Blocked, do_in_order


def steps(name: str, count: int, done: list[str], *, fails: bool = False) -> Job:
    try:
        for _ in range(count):
            yield
        if fails:
            raise PercoreError(f"{name} failed")
        done.append(name)
    except GeneratorExit:
        done.append(f"{name} was stopped")
        raise


def test_jobs_done_together_take_as_many_steps_as_the_longest() -> None:
    done: list[str] = []
    assert len(list(do_in_order({"a": steps("long", 3, done), "b": steps("short", 1, done)}, {}))) == 3
    assert done == ["short", "long"]


def test_one_that_fails_does_not_stop_the_others_and_is_told_at_the_end() -> None:
    done: list[str] = []
    jobs = do_in_order(
        {
            "a": steps("first", 1, done, fails=True),
            "b": steps("second", 2, done),
            "c": steps("third", 2, done, fails=True),
        },
        {},
    )
    with pytest.raises(PercoreError, match="first failed"):
        list(jobs)
    assert done == ["second"]


def test_when_the_whole_is_cancelled_each_job_is() -> None:
    done: list[str] = []
    jobs = do_in_order({"a": steps("first", 2, done), "b": steps("second", 2, done)}, {})
    next(jobs)
    jobs.close()
    assert done == ["first was stopped", "second was stopped"]


def test_each_begins_when_what_it_needs_is_done() -> None:
    done: list[str] = []
    needs = {"web": ["api"], "api": ["db", "cache"], "cache": []}
    jobs = {name: steps(name, count, done) for name, count in (("web", 1), ("api", 1), ("db", 3), ("cache", 1))}
    list(do_in_order(jobs, needs))
    assert done == ["cache", "db", "api", "web"]


def test_what_needs_one_that_failed_is_not_done_and_is_told_why() -> None:
    done: list[str] = []
    needs = {"web": ["api"], "api": ["db"]}
    jobs = {name: steps(name, 1, done, fails=name == "db") for name in ("web", "api", "db", "other")}
    blocked: dict[str, Blocked] = {}
    with pytest.raises(PercoreError) as caught:
        list(do_in_order(jobs, needs, blocked))
    assert str(caught.value) == "db failed; not started because of that: api, web"
    assert done == ["other"]
    assert str(blocked["api"]) == "api: it was not started, because 'db', which it depends on, failed"
    assert str(blocked["web"]) == "web: it was not started, because 'api', which it depends on, was not started"


def test_a_circle_is_named() -> None:
    with pytest.raises(UsageError, match="b -> c -> b"):
        refuse_cycle({"a": ["b"], "b": ["c"], "c": ["b"]})
    with pytest.raises(UsageError, match="a -> a"):
        refuse_cycle({"a": ["a"]})


NAMES = "abcdef"


@given(st.dictionaries(st.sampled_from(NAMES), st.lists(st.sampled_from(NAMES), unique=True, max_size=4)))
def test_without_a_circle_everybody_comes_after_what_it_needs_both_ways(needs: dict[str, list[str]]) -> None:
    cycle = find_cycle(needs)
    if cycle:
        assert cycle[0] == cycle[-1]
        assert all(second in needs[first] for first, second in zip(cycle, cycle[1:]))
        return
    order = in_order(NAMES, needs)
    assert sorted(order) == list(NAMES)
    assert all(order.index(need) < order.index(name) for name in needs for need in needs[name])
    down = in_order(NAMES, reversed_needs({name: needs.get(name, []) for name in NAMES}))
    assert all(down.index(need) > down.index(name) for name in needs for need in needs[name])
