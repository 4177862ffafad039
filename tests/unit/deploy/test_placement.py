"""`placement`: which host runs what the fleet has once, and what is said of where each app runs."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest

from percore.deploy.plan.batches import Policy
from percore.deploy.report import Report
from percore.deploy.rollout.edge.draining import LoadBalancers
from percore.deploy.rollout.hosts import hosts_of_app
from percore.deploy.rollout.inspect import Seen
from percore.deploy.rollout.placement import Told, decide, describe_placement
from percore.deploy.rollout.switch import switch
from percore.deploy.rollout.wanted import WantedApp, WantedHost
from percore.errors import PercoreError, RolloutError
from tests.unit.deploy.test_choose import ARTIFACT, OLD, host_named
from tests.unit.deploy.test_release_command import SETTINGS

FLEET = ["web1", "web2", "web3"]


def told(*runs: str, held: str = "", knows: bool = True) -> Told:
    """What a host says of itself, and of who held the worker."""
    known = frozenset({"web", "worker"} if knows else ())
    return Told(frozenset(runs), known, {"worker": held} if held else {})


def test_a_fleet_that_has_nothing_yet_gives_it_to_its_first_host() -> None:
    assert decide("worker", FLEET, {name: told(knows=False) for name in FLEET}) == ("web1", "")
    assert decide("worker", FLEET, {name: told(knows=False) for name in FLEET[1:]}) == ("web2", "")


def test_the_host_that_runs_it_keeps_it_wherever_it_stands_in_the_inventory() -> None:
    says = {"web1": told("web"), "web2": told("web", "worker"), "web3": told("web")}
    assert decide("worker", FLEET, says) == ("web2", "")
    assert decide("worker", ["web0", *FLEET], {"web0": told(knows=False), **says}) == ("web2", "")


def test_of_several_that_run_it_the_one_that_held_it_keeps_it() -> None:
    everywhere = {name: told("web", "worker") for name in FLEET}
    assert decide("worker", FLEET, everywhere) == ("web1", "")
    assert decide("worker", FLEET, {**everywhere, "web3": told("worker", held="web3")}) == ("web3", "")


def test_a_host_that_holds_it_and_has_it_stopped_keeps_it() -> None:
    assert decide("worker", FLEET, {name: told("web", held="web2") for name in FLEET}) == ("web2", "")


def test_a_host_that_does_not_answer_keeps_what_it_holds() -> None:
    holder, remark = decide("worker", FLEET, {name: told("web", held="web1") for name in FLEET[1:]})
    assert holder == "web1"
    assert remark == (
        "worker stays on web1, which does not answer -> if web1 is gone for good, take it out of the inventory, "
        "then deploy or converge"
    )


def test_what_may_run_on_a_host_that_does_not_answer_is_started_nowhere_else() -> None:
    holder, remark = decide("worker", FLEET, {name: told("web") for name in FLEET[1:]})
    assert holder == ""
    assert remark.startswith("worker is started nowhere, because it may run on web1 -> try again when web1 answers")


def test_a_host_that_left_the_inventory_gives_it_to_the_first_one() -> None:
    holder, remark = decide("worker", FLEET[1:], {name: told("web", held="web1") for name in FLEET[1:]})
    assert holder == "web2"
    assert remark.startswith("worker moves to web2: web1 is no longer in the inventory -> make sure")


def test_a_host_that_runs_what_another_one_should_or_lacks_its_own_is_misplaced() -> None:
    running: Any = {"apps": [{"name": "web", "wanted": 2}, {"name": "worker", "wanted": 1}]}
    stopped: Any = {"apps": [{"name": "web", "wanted": 2}, {"name": "worker", "wanted": 0}]}
    alone: Any = {"apps": [{"name": "web", "wanted": 2}]}
    holder, other = host_named("web1"), host_named("web2", ["worker"])
    both = ["web", "worker"]
    assert [holder.is_misplaced(status, both) for status in (running, stopped, alone)] == [False, False, True]
    assert [other.is_misplaced(status, both) for status in (running, stopped, alone)] == [True, False, False]


def seen(name: str, *absent: str, placement: dict[str, str]) -> Seen:
    host = host_named(name, absent, dataclasses.replace(SETTINGS, placement=placement))
    record = {"apps": [{"name": "web", "mode": "cluster"}, {"name": "worker"}, {"name": "pool", "instances": 4}]}
    reply: Any = {"current": OLD, "marks": {}, "status": {"apps": []}}
    return Seen(host, WantedHost(host, host, host, WantedApp(ARTIFACT, record, "")), reply, None, is_up_to_date=False)  # type: ignore[arg-type]


def test_on_how_many_hosts_each_app_runs_is_said_and_how_to_have_it_once() -> None:
    assert describe_placement([seen(name, placement={}) for name in FLEET]) == [
        "web: on 3 of 3 hosts",
        "worker: once on each of 3 hosts -> placement: {worker: one} runs it once in the whole fleet, "
        "{worker: all} says that this is meant",
        "pool: on 3 of 3 hosts",
    ]
    meant = [seen(name, placement={"worker": "all"}) for name in FLEET]
    assert describe_placement(meant)[1] == "worker: on 3 of 3 hosts"
    one = [seen(name, *([] if name == "web2" else ["worker"]), placement={"worker": "one"}) for name in FLEET]
    assert describe_placement(one)[1] == "worker: on web2"


def test_where_the_host_that_is_to_give_an_app_up_fails_the_others_do_not_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever max_fail_percentage allows: it would run twice."""
    basics = SimpleNamespace(policy=Policy(("100%",), 0, 100.0, 0.0))
    moves: list[Any] = [
        SimpleNamespace(name="web1", host=host_named("web1", basics=basics), gives_up_app=True, release=OLD, forks=1),
        SimpleNamespace(name="web2", host=host_named("web2", basics=basics), gives_up_app=False, release=OLD, forks=1),
    ]
    asked: list[str] = []

    def activate(move: Any, *_: Any) -> Any:
        asked.append(move.name)
        raise RolloutError("unhealthy", where=move.name)

    monkeypatch.setattr(switch, "activate_host", activate)
    monkeypatch.setattr(switch, "roll_back", lambda *_: RolloutError("rolled back"))
    report = Report(quiet=True)
    with pytest.raises(RolloutError, match="rolled back"):
        switch.activate(moves, report, LoadBalancers((), (), report))
    assert asked == ["web1"]


def running(name: str, *apps: str) -> Any:
    """A host whose answer is these apps; without any it gives none."""

    def ask(op: str) -> Any:
        if not apps:
            raise PercoreError("it does not answer")
        return {"status": {"apps": [{"name": app} for app in apps]}}

    return SimpleNamespace(name=name, ask=ask, forks=2)


def test_an_app_of_some_hosts_is_asked_for_there_and_where_nobody_knows() -> None:
    hosts = [running("web1", "web", "worker"), running("web2", "web"), running("web3")]
    assert [host.name for host in hosts_of_app(hosts, "worker")] == ["web1", "web3"]
    assert [host.name for host in hosts_of_app(hosts[:2], "wroker")] == ["web1", "web2"]
