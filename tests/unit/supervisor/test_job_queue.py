"""What ends an app ends it whatever is queued for it, and leaves what concerns other apps alone."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytest

from percore.supervisor.base.logger import Faults
from percore.supervisor.core.jobs import Jobs, Outcome


class Queue:
    def __init__(self) -> None:
        self.jobs = Jobs(Faults())
        self.done: list[str] = []
        self.told: dict[str, str] = {}

    def submit(self, title: str, apps: Collection[str] | None, steps: int = 1, *, urgent: bool = False) -> None:
        def job() -> Outcome:
            for _ in range(steps):
                self.done.append(title)
                yield
            return {}

        def reply(message: Any) -> None:
            self.told[title] = message.get("error", "done")

        self.jobs.submit(title, job(), reply, apps=apps, urgent=urgent)

    def run(self, turns: int = 10) -> None:
        for _ in range(turns):
            self.jobs.note_change()
            self.jobs.advance()


@pytest.fixture
def queue() -> Queue:
    made = Queue()
    made.submit("reload web", ["web"], steps=3)
    made.submit("replace web 1", ["web"])
    made.submit("reload api", ["api"])
    made.run(turns=1)
    return made


def test_what_is_queued_for_an_app_is_cancelled_with_what_is_under_way(queue: Queue) -> None:
    queue.submit("stop web", ["web"], urgent=True)
    queue.run()
    assert queue.done == ["reload web", "stop web", "reload api"]
    assert queue.told["reload web"] == "'reload web' was cancelled by 'stop web'"
    assert queue.told["replace web 1"] == "'replace web 1' was cancelled by 'stop web'"
    assert queue.told["reload api"] == "done"


def test_a_job_about_another_app_goes_on_afterwards(queue: Queue) -> None:
    queue.submit("stop api", ["api"], urgent=True)
    queue.run()
    assert queue.done == ["reload web", "stop api", "reload web", "reload web", "replace web 1"]
    assert queue.told["reload web"] == "done"


def test_a_job_about_all_apps_is_cancelled_by_each_of_them_and_ends_all(queue: Queue) -> None:
    queue.submit("resurrect", None)
    queue.submit("update", ())
    queue.submit("stop api", ["api"], urgent=True)
    assert queue.told == {
        "reload api": "'reload api' was cancelled by 'stop api'",
        "resurrect": "'resurrect' was cancelled by 'stop api'",
    }
    queue.submit("kill", None, urgent=True)
    assert queue.told["update"] == "'update' was cancelled by 'kill'"
    queue.run()
    assert queue.done == ["reload web", "kill", "stop api"], "what ends something is not cancelled"


def test_nothing_begins_once_the_supervisor_ends(queue: Queue) -> None:
    queue.jobs.end()
    queue.submit("start web", ["web"])
    queue.run()
    assert set(queue.done) == {"reload web"}
    assert queue.told["start web"] == "'start web' was not done, because the supervisor ends"
    assert queue.told["reload web"] == "done"
