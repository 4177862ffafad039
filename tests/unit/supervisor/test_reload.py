"""How a reload takes the workers of an app: which of them together, and what a failure leaves."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from percore.errors import PartialError, PercoreError, RolloutError
from percore.supervisor.base.states import State
from percore.supervisor.core import apply, replace
from percore.supervisor.core.worker.figures import Counts
from percore.supervisor.core.worker.worker import WorkerFailed


class Slot:
    """One whose workers become ready when the test says so."""

    wanted = True
    is_down = False
    outgoing = None

    def __init__(self, number: int) -> None:
        self.number = number
        self.worker = worker("old", State.RUNNING)
        self.incoming: Any = None

    def begin_reload(self, config: Any) -> Any:
        self.incoming = worker(config.release, State.STARTING)
        return self.incoming

    def promote(self) -> None:
        self.worker, self.incoming = self.incoming, None

    def abandon(self) -> None:
        self.incoming = None


class Worker(SimpleNamespace):
    @property
    def is_ready(self) -> bool:
        return bool(self.state is State.RUNNING)


def worker(release: str, state: State) -> Any:
    history = SimpleNamespace(last_end="it broke", last_tail=["x"], is_overdue=False)
    return Worker(
        release=release,
        state=state,
        number=0,
        is_stable=True,
        is_overdue=False,
        config=SimpleNamespace(name="web"),
        history=history,
    )


def app_of(count: int) -> Any:
    return SimpleNamespace(
        slots=[Slot(n) for n in range(count)], config=config("old", 1), steer=lambda: None, reload_failure="",
        name="web", runtime=SimpleNamespace(counts=Counts()),
    )  # fmt: skip


def config(release: str, at_once: int) -> Any:
    return SimpleNamespace(release=release, reload_workers=at_once)


def starting(app: Any) -> list[int]:
    return [slot.number for slot in app.slots if slot.incoming]


def groups(count: int, at_once: int) -> list[list[int]]:
    """The slots that are replaced together, one group after the other."""
    app, found = app_of(count), []
    for _ in replace.reload(app, config("new", at_once)):
        found.append(starting(app))
        for slot in app.slots:
            if slot.incoming:
                slot.incoming.state = State.RUNNING
    assert [slot.worker.release for slot in app.slots] == ["new"] * count
    assert app.config.release == "new"
    return found


def test_the_first_worker_goes_alone_and_so_many_at_once_after_it() -> None:
    assert groups(4, 1) == [[0], [1], [2], [3]]
    assert groups(4, 0) == [[0], [1], [2], [3]]
    assert groups(6, 2) == [[0], [1, 2], [3, 4], [5]]
    assert groups(6, 99) == [[0], [1, 2, 3, 4, 5]]
    assert groups(1, 4) == [[0]]


def test_one_that_is_ready_sooner_does_not_wait_for_the_others() -> None:
    app = app_of(4)
    job = replace.reload(app, config("new", 3))
    next(job)
    app.slots[0].incoming.state = State.RUNNING
    next(job)
    assert starting(app) == [1, 2, 3]
    app.slots[2].incoming.state = State.RUNNING
    next(job)
    assert (starting(app), app.slots[2].worker.release) == ([1, 3], "new")


def run_back(app: Any, job: Any) -> None:
    """Workers of the former release become ready at once."""
    for _ in job:
        for slot in app.slots:
            if slot.incoming and slot.incoming.release == "old":
                slot.incoming.state = State.RUNNING


def test_a_failure_among_several_brings_all_of_them_back() -> None:
    app = app_of(5)
    job = replace.reload(app, config("new", 3))
    next(job)
    app.slots[0].incoming.state = State.RUNNING
    next(job)
    app.slots[1].incoming.state = State.RUNNING
    app.slots[2].incoming.state = State.FATAL
    with pytest.raises(WorkerFailed, match="it broke"):
        run_back(app, job)
    assert [slot.worker.release for slot in app.slots] == ["old"] * 5
    assert starting(app) == []
    assert app.config.release == "old"


# -- a process file that fails in the middle -------------------------------------------------------------------------


def way_back(faults: tuple[str, ...], cause: PercoreError) -> tuple[list[str], PercoreError]:
    """What is undone, in order, after three steps, and the error that ends it."""
    undone: list[str] = []

    def step(name: str) -> Any:
        undone.append(name)
        if name in faults:
            raise PercoreError(f"{name} stays")
        yield

    steps: Any = [lambda name=name: step(name) for name in ("first", "second", "third")]
    with pytest.raises(PercoreError) as raised:
        list(apply._roll_back(steps, cause))
    return undone, raised.value


def test_the_last_step_is_undone_first() -> None:
    undone, error = way_back((), PercoreError("it broke", next="look"))
    assert undone == ["third", "second", "first"]
    assert (type(error), str(error)) == (RolloutError, "it broke -> look")


def test_a_step_that_cannot_be_undone_keeps_no_other_from_it_and_is_told() -> None:
    undone, error = way_back(("third", "first"), PercoreError("it broke"))
    assert undone == ["third", "second", "first"]
    assert (type(error), error.what) == (PartialError, "it broke; going back failed: third stays; first stays")


# -- with fewer workers than before ----------------------------------------------------------------------------------


class Steps:
    """An app of two or more workers, and in which order they end and start."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, count: int, *, shares_port: bool) -> None:
        self.taken: list[str] = []
        self.app = app_of(count)
        self.app.config = self.config("old", shares_port=shares_port)
        self.app.wanted, self.app.set_env, self.app.settle = True, lambda env: {}, lambda config: None
        self.app.runs_like = lambda config: False
        for slot in self.app.slots:
            slot.worker.history.restarts = 0
        for name, verb in {"halt": "end", "bring_up": "start", "reload": "reload"}.items():
            monkeypatch.setattr(replace, name, self.step(verb))
        for module in (replace, apply.lifecycle):
            monkeypatch.setattr(module, "scale", self.scale)
        monkeypatch.setattr(Slot, "replace_config", lambda *_: None, raising=False)

    @staticmethod
    def config(release: str, *, shares_port: bool = True, instances: int = 0) -> Any:
        more = {"shares_port": shares_port, "is_job": False, "port_per_worker": False, "instances": instances}
        return SimpleNamespace(release=release, reload_workers=1, says_like=lambda other: False, name="web", **more)

    def step(self, verb: str) -> Any:
        def take(*arguments: Any, **_: Any) -> Any:
            slots = next((each for each in arguments if isinstance(each, list)), self.app.slots)
            self.taken.append(f"{verb} {' '.join(str(slot.number) for slot in slots)}")
            yield

        return take

    def scale(self, app: Any, count: int) -> Any:
        self.taken.append(f"scale {count}")
        del app.slots[count:]
        yield


FEWER = [(2, 1, False, ["scale 1", "end 0", "start 0"]), (3, 2, True, ["reload 0 1", "scale 2"])]


@pytest.mark.parametrize(("before", "after", "shares_port", "taken"), FEWER)
def test_a_worker_that_is_to_go_is_not_started_again_before_it_goes(
    monkeypatch: pytest.MonkeyPatch, before: int, after: int, shares_port: bool, taken: list[str]
) -> None:
    steps = Steps(monkeypatch, before, shares_port=shares_port)
    wanted = replace.Desired(steps.config("new", shares_port=shares_port), after, {})
    for _ in replace.update(steps.app, wanted, "start"):
        pass
    assert steps.taken == taken


@pytest.mark.parametrize(("before", "after", "shares_port", "taken"), FEWER)
def test_apply_starts_no_worker_that_is_to_go_and_goes_back_to_as_many_as_there_were(
    monkeypatch: pytest.MonkeyPatch, before: int, after: int, shares_port: bool, taken: list[str]
) -> None:
    steps = Steps(monkeypatch, before, shares_port=shares_port)
    rollback: Any = []
    config = steps.config("new", shares_port=shares_port, instances=after)
    apps: Any = {"web": steps.app}
    for _ in apply.apply_one(apps, config, {}, rollback):
        pass
    assert steps.taken == taken
    for step in reversed(rollback):
        for _ in step():
            pass
    assert f"scale {before}" in steps.taken
