"""The way back of a fleet, and what the run ends with: it promises only what every host said."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from percore.deploy.plan.batches import Policy
from percore.deploy.report import Report
from percore.deploy.rollout.edge.draining import LoadBalancers
from percore.deploy.rollout.scope import Scope
from percore.deploy.rollout.switch import switch
from percore.deploy.rollout.switch.probes import Probes
from percore.deploy.rollout.switch.roll_back import roll_back
from percore.deploy.rollout.verbs import set_up
from percore.errors import LockedError, PartialError, PercoreError, PreflightError, RolloutError, UnreachableError


def host(name: str, fault: PercoreError | None = None, asked: list[str] | None = None) -> Any:
    """`fault` is what it answers when it is to roll back."""

    def ask(op: str, **_: Any) -> Any:
        if asked is not None:
            asked.append(f"{name} {op}")
        if fault and op == "revert":
            raise fault
        return {"current": "20260101000000-aaaaaaaa", "status": {"apps": []}}

    scope = Scope("production", None)  # type: ignore[arg-type]
    settings = SimpleNamespace(path=Path("nowhere"))
    return SimpleNamespace(name=name, forks=2, scope=scope, ask=ask, setup_target=dict, settings=settings)


def move(one: Any, *, gives_up_app: bool = False) -> Any:
    return SimpleNamespace(name=one.name, host=one, forks=2, gives_up_app=gives_up_app)


def roll_back_after(fault: PercoreError, others: list[Any]) -> PercoreError:
    """`fault` is that of web1, which rolled back by itself."""
    moves = [move(each) for each in (host("web1"), *others)]
    return roll_back(moves, moves[1:], {"web1": fault}, Report(quiet=True))


def test_where_every_host_is_back_the_error_says_so_and_keeps_what_to_type() -> None:
    error = roll_back_after(RolloutError("unhealthy", where="web1", next="see its log"), [host("web2")])
    assert type(error) is RolloutError
    assert str(error) == "web1: unhealthy; every host is back on its former release -> see its log"


@pytest.mark.parametrize(
    "fault",
    [
        PartialError("a file did not come back"),
        LockedError("another run has it"),
        PreflightError("No space left on device"),
        PercoreError("unexpected KeyError"),
    ],
)
def test_a_host_whose_way_back_failed_for_whatever_reason_is_not_called_back(fault: PercoreError) -> None:
    error = roll_back_after(RolloutError("unhealthy", where="web1"), [host("web2", fault), host("web3")])
    assert type(error) is PartialError
    assert error.what == "unhealthy; not certain to be back on the former release: web2"
    assert error.next.startswith("invoke status --env production")


@pytest.mark.parametrize("fault", [PartialError("it stays as it is"), UnreachableError("it was cut off")])
def test_a_host_that_began_the_way_back_and_is_lost_is_named(fault: PercoreError) -> None:
    error = roll_back_after(fault, [host("web2")])
    assert type(error) is PartialError
    assert error.what.endswith("not certain to be back on the former release: web1")


def test_an_app_comes_back_last_to_the_host_that_gave_it_up() -> None:
    """Until then it must have ended elsewhere."""
    asked: list[str] = []
    moves = [move(host("web1", asked=asked), gives_up_app=True), move(host("web2", asked=asked))]
    roll_back(moves, moves, {"load balancers": RolloutError("no answer")}, Report(quiet=True))
    assert [each for each in asked if each.endswith("revert")] == ["web2 revert", "web1 revert"]


def test_a_set_up_whose_way_back_failed_names_the_host_as_a_deploy_does() -> None:
    faults: Any = {"web1": RolloutError("nginx does not stay up", where="web1")}
    error = set_up._roll_back([host("web2", PercoreError("it failed"))], faults, Report(quiet=True))
    assert type(error) is PartialError
    assert error.what == "nginx does not stay up; not certain to be as before: web2"
    error = set_up._roll_back([host("web2")], faults, Report(quiet=True))
    assert str(error) == "web1: nginx does not stay up; files and services are as before -> fix it and set up again"


# -- hosts that turned unhealthy after their switch -------------------------------------------------------------------


def switched(name: str, **faults: PercoreError | None) -> Any:
    """`faults` by the operation that raises them."""

    def ask(op: str, *_: Any, **__: Any) -> Any:
        if fault := faults.get(op):
            raise fault
        return {"current": "20260101000000-aaaaaaaa", "status": {"apps": []}}

    one = host(name)
    one.ask = ask
    return switch.Switched(one, move(one), status={"apps": []})  # type: ignore[typeddict-item]


class NoProbes(Probes):
    def read(self, hosts: Any) -> Any:
        return {}


def end_of(found: list[Any], monkeypatch: pytest.MonkeyPatch, slow: PercoreError | None = None) -> PercoreError:
    """`slow` is what the probes say of web1."""
    monkeypatch.setattr(switch, "judge", lambda *_: {"web1": slow} if slow else {})
    with pytest.raises(PercoreError) as raised:
        switch.check_all(found, NoProbes((), {}), Report(quiet=True))
    return raised.value


def test_before_a_release_is_kept_an_unhealthy_host_takes_all_of_them_back(monkeypatch: pytest.MonkeyPatch) -> None:
    error = end_of([switched("web1", health=RolloutError("a worker ended")), switched("web2")], monkeypatch)
    assert type(error) is RolloutError
    assert error.what == "a worker ended; every host is back on its former release"


def test_an_unhealthy_host_that_could_not_be_rolled_back_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        switched("web1", health=RolloutError("a worker ended"), revert=PercoreError("the disk is full")),
        switched("web2"),
    ]
    error = end_of(found, monkeypatch)
    assert type(error) is PartialError
    assert error.what == (
        "a worker ended; it could not be rolled back: the disk is full; "
        "not certain to be back on the former release: web1"
    )


def test_a_slow_host_that_could_not_be_rolled_back_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [switched("web1", revert=PercoreError("the disk is full")), switched("web2")]
    error = end_of(found, monkeypatch, slow=RolloutError("requests became slow"))
    assert type(error) is PartialError
    assert error.what.endswith("not certain to be back on the former release: web1")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (RolloutError("unhealthy", where="web1"), "web1 keeps its former release"),
        (PartialError("a file did not come back", where="web1"), "web1 is not certain to keep its former release"),
    ],
)
def test_a_host_that_the_policy_lets_fail_is_said_to_keep_its_release_only_where_it_does(
    fault: PercoreError, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def activate(move: Any, *_: Any) -> Any:
        if move.name == "web1":
            raise fault
        return switched(move.name)

    warned: list[str] = []
    report = Report(quiet=True)
    monkeypatch.setattr(report, "warn", warned.append)
    monkeypatch.setattr(switch, "activate_host", activate)
    monkeypatch.setattr(switch, "policy_of", lambda _: Policy(("100%",), 0, 60.0, 0.0))
    moves = [move(host("web1")), move(host("web2"))]
    for each in moves:
        each.release = "20260101000000-aaaaaaaa"
    outcome = switch.activate(moves, report, LoadBalancers((), (), report))
    assert list(outcome.results) == ["web2"]
    assert warned == [f"{fault}; {words}"]


# -- what is kept -----------------------------------------------------------------------------------------------------


def test_a_host_that_did_not_say_that_it_keeps_the_release_is_named_with_what_to_type() -> None:
    found = [switched("web1"), switched("web2", confirm=PercoreError("the disk is full", where="web2"))]
    for each in found:
        each.move.release = "20260101000000-aaaaaaaa"
        each.host.settings, each.host.holders = SimpleNamespace(keep_releases=3), {}
    with pytest.raises(PartialError) as raised:
        switch.confirm(found, {}, Report(quiet=True))
    assert str(raised.value) == (
        "web2: the disk is full; not certain to keep the new release: web2 -> "
        "invoke converge --env production --limit web2"
    )


def test_a_host_that_did_not_say_that_it_keeps_its_set_up_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pending: list[Any] = []
    for name, fault in (("web1", None), ("web2", UnreachableError("it was cut off", where="web2"))):
        one = switched(name, keep=fault).host
        pending.append(SimpleNamespace(name=name, forks=2, host=one))
    for function, result in {
        "must_ask": False, "require_yes": None, "_lock": None, "_reach_again": None, "_set_up_host": ["install nginx"],
        "policy_of": Policy(("100%",), 0, 0.0, 0.0), "fetched_builds": contextlib.nullcontext(),
    }.items():  # fmt: skip
        monkeypatch.setattr(set_up, function, lambda *_, result=result: result)
    with pytest.raises(PartialError) as raised:
        set_up.set_up(pending, Report(quiet=True))
    assert raised.value.what == "it was cut off; not certain to keep what was set up: web2"
