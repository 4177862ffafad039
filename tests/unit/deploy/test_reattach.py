"""A host whose connection is cut after its switch is taken up again; one that turns unhealthy while it is watched goes back."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from percore.deploy.plan.batches import Policy
from percore.deploy.report import Report
from percore.deploy.rollout.parallel import Outcome
from percore.deploy.rollout.scope import Scope
from percore.deploy.rollout.switch import reattach as module
from percore.deploy.rollout.switch import switch
from percore.deploy.rollout.switch.reattach import ask_again, reattach
from percore.errors import LockedError, RolloutError, UnreachableError

LOST = UnreachableError("the link is cut", where="web1")


class Clock:
    """Nobody waits for it."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    monkeypatch.setattr(module, "confirm_seconds", lambda _: 10)
    return made


def host(**answers: list[Any]) -> Any:
    """What it answers, one after the other, by operation; an exception is raised, the last one again and again."""
    asked: list[str] = []

    def ask(op: str, *_: Any, **__: Any) -> Any:
        asked.append(op)
        left = answers[op]
        found = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(found, Exception):
            raise found
        return found

    answers.setdefault("connect", [None])
    scope = Scope("production", None)  # type: ignore[arg-type]
    return SimpleNamespace(name="web1", forks=1, scope=scope, ask=ask, connect=lambda: ask("connect"), asked=asked)


def test_what_was_asked_when_the_link_was_cut_is_asked_again_over_a_new_one() -> None:
    one = host(health=[LOST, {"status": "well"}], attach=[{}])
    assert ask_again(one, "health") == {"status": "well"}
    assert one.asked == ["health", "connect", "attach", "health"]


def test_a_host_that_is_not_there_yet_or_still_locked_by_the_agent_before_is_tried_again() -> None:
    one = host(connect=[LOST, None], attach=[LockedError("another rollout is running here"), {"status": "well"}])
    assert reattach(one, LOST) == {"status": "well"}
    assert one.asked == ["connect", "connect", "attach", "connect", "attach"]


def test_a_host_that_stays_away_until_it_rolls_back_by_itself_is_lost(clock: Clock) -> None:
    with pytest.raises(UnreachableError, match="the link is cut"):
        reattach(host(connect=[UnreachableError("no route")]), LOST)
    assert clock.now >= 10


def test_a_host_that_rolled_back_meanwhile_says_so_at_once(clock: Clock) -> None:
    with pytest.raises(RolloutError, match="rolled back while the connection was cut"):
        reattach(host(attach=[RolloutError("the switch was rolled back while the connection was cut")]), LOST)
    assert clock.now == 0


# -- while hosts are watched -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0.0, 5.0])
def test_a_host_that_turns_unhealthy_while_it_is_watched_is_rolled_back(
    seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody is to watch, nobody asks."""
    slept: list[float] = []
    monkeypatch.setattr(switch, "time", SimpleNamespace(sleep=slept.append))
    one = host(health=[RolloutError("a worker ended", where="web1")], revert=[{}])
    new = Outcome({"web1": switch.Switched(one, SimpleNamespace(name="web1"), status={"apps": []})}, {})  # type: ignore[arg-type,typeddict-item]
    found = switch._soak(new, Policy(("100%",), 0, 0.0, seconds), Report(quiet=True))
    assert slept == [seconds] * bool(seconds)
    assert (one.asked, list(found.faults)) == ((["health", "revert"], ["web1"]) if seconds else ([], []))
