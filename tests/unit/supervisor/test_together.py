from __future__ import annotations

import pytest

from percore.errors import PercoreError
from percore.supervisor.app import Job, together


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
    assert len(list(together([steps("long", 3, done), steps("short", 1, done)]))) == 3
    assert done == ["short", "long"]


def test_one_that_fails_does_not_stop_the_others_and_is_told_at_the_end() -> None:
    done: list[str] = []
    jobs = together(
        [steps("first", 1, done, fails=True), steps("second", 2, done), steps("third", 2, done, fails=True)]
    )
    with pytest.raises(PercoreError, match="first failed"):
        list(jobs)
    assert done == ["second"]


def test_when_the_whole_is_cancelled_each_job_is() -> None:
    done: list[str] = []
    jobs = together([steps("first", 2, done), steps("second", 2, done)])
    next(jobs)
    jobs.close()
    assert done == ["first was stopped", "second was stopped"]
