"""`invoke patch`: one host after the other, and what is said when one does not come back."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from percore.deploy.plan.batches import Policy
from percore.deploy.report import Report
from percore.deploy.rollout.scope import Scope
from percore.deploy.rollout.verbs import patch as verb
from percore.deploy.rollout.verbs.patch import _Run, batches_of, prove_healthy, reboot_host
from percore.errors import PartialError, PercoreError, UnreachableError

FACTS = {"packages": ["libssl3 3.0.13"], "reboot": [], "units": []}


class FakeHost:
    """Answers what a test says; an exception is raised, and of several answers one is given each time."""

    def __init__(self, name: str, **answers: Any) -> None:
        self.name, self.forks, self.remote = name, 4, None
        self.app, self.settings = object(), SimpleNamespace(startup=True, unit="percore.service")
        self.plan = SimpleNamespace(has_role=lambda _: False)
        self.basics = SimpleNamespace(policy=Policy(("100%",), 0, 0.0, 0.0))
        self.scope = Scope("production", None)  # type: ignore[arg-type]
        self.answers = {"patch": FACTS, "prove": {"missing": []}, "inspect": {}, **answers}
        self.asked: list[str] = []

    def connect(self) -> None:
        self.asked.append("connect")

    def targets(self) -> list[dict[str, Any]]:
        return [{}]

    def ask(self, op: str, *_: Any, **message: Any) -> Any:
        self.asked.append(op)
        found = self.answers[op]
        if isinstance(found, list):
            found = found.pop(0) if len(found) > 1 else found[0]
        if isinstance(found, Exception):
            raise found
        return found


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verb, "BOOT_SECONDS", 0.2)
    monkeypatch.setattr(verb, "HEALTHY_SECONDS", 0.2)
    monkeypatch.setattr(verb.time, "sleep", lambda _: None)


class NoBalancers:
    def __init__(self) -> None:
        self.hosts: list[Any] = []
        self.told: list[str] = []

    def __enter__(self) -> NoBalancers:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def drain(self, names: list[str]) -> None:
        self.told.append(f"drain {' '.join(names)}")

    def undrain(self) -> None:
        self.told.append("undrain")


def run(hosts: list[Any], monkeypatch: pytest.MonkeyPatch, *, reboot: bool = False, balancers: Any = None) -> _Run:
    found = balancers or NoBalancers()
    monkeypatch.setattr(verb, "open_load_balancers", lambda *_: found)
    made = _Run(Scope("production", None), Report(), reboot=reboot, security=False, total=len(hosts))  # type: ignore[arg-type]
    made.patch_servers(hosts)
    return made


def test_one_host_at_a_time_is_patched_where_a_deploy_takes_all_of_them_at_once() -> None:
    hosts: list[Any] = [FakeHost(name) for name in ("web1", "web2", "web3", "web4")]
    assert [len(batch) for batch in batches_of(hosts)] == [1, 1, 1, 1]
    for host in hosts:
        host.basics.policy = Policy(("2",), 0, 0.0, 0.0)
    assert [len(batch) for batch in batches_of(hosts)] == [2, 2]
    assert [len(batch) for batch in batches_of(hosts[:1])] == [1]


def test_each_host_is_drained_upgraded_proven_and_undrained_before_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    balancers = NoBalancers()
    done = run([FakeHost("web1"), FakeHost("web2")], monkeypatch, balancers=balancers).done
    assert balancers.told == ["drain web1", "undrain", "drain web2", "undrain"]
    assert (done.patched, done.rebooted, done.still_to_reboot) == (["web1", "web2"], [], {})


def test_a_host_that_needs_a_reboot_is_only_named_without_the_option(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    host = FakeHost("web1", patch={**FACTS, "reboot": ["kernel 7 is installed"], "units": ["nginx.service"]})
    made = run([host], monkeypatch)
    assert "reboot" not in host.asked
    made.recap()
    said = capsys.readouterr().out
    assert "web1  to reboot: kernel 7 is installed; replaced libraries are in use by nginx.service" in said
    assert "--limit web1 --reboot" in said


def test_after_a_reboot_the_host_is_locked_again_and_proven(monkeypatch: pytest.MonkeyPatch) -> None:
    boots = [{"boot": "1"}, {"boot": "1"}, UnreachableError("gone"), {"boot": "2"}]
    host = FakeHost("web1", patch={**FACTS, "reboot": ["x"]}, reboot=boots)
    done = run([host], monkeypatch, reboot=True).done
    assert done.rebooted == ["web1"]
    assert host.asked == [
        "patch", "reboot", "connect", "reboot", "connect", "reboot", "connect", "reboot", "inspect", "prove"
    ]  # fmt: skip


def test_apps_that_do_not_start_at_boot_are_started() -> None:
    host: Any = FakeHost("web1", reboot=[{"boot": "1"}, {"boot": "2"}], start={})
    host.settings.startup = False
    reboot_host(host)
    assert host.asked[-1] == "start"


def test_the_first_host_that_does_not_come_back_ends_the_run_and_stays_drained(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept: list[str] = []
    monkeypatch.setattr(verb, "drain", lambda scope, report, *, hosts, why: kept.append(hosts))
    balancers = NoBalancers()
    balancers.hosts = [object()]
    lost = FakeHost("web2", patch={**FACTS, "reboot": ["x"]}, reboot=[{"boot": "1"}, UnreachableError("no route")])
    hosts = [FakeHost("web1"), lost, FakeHost("web3")]
    with pytest.raises(PartialError) as caught:
        run(hosts, monkeypatch, reboot=True, balancers=balancers)
    assert str(caught.value).startswith(
        "web2: it did not come back from its reboot within 0 minutes; patched: web1; failed: web2 (drained); not touched: 1 -> "
    )
    assert "undrain --env production --host web2 when it is well, then " in str(caught.value)
    assert kept == ["web2"]
    assert hosts[2].asked == []


def test_a_host_whose_apps_do_not_serve_again_ends_the_run_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    ill: Any = FakeHost("web1", prove=PercoreError("api worker 0: GET / answered 500", where="web1"))
    with pytest.raises(PercoreError, match="answered 500"):
        prove_healthy(ill)
    slow: Any = FakeHost("web1", prove=[{"missing": ["app api is stopped"]}, PercoreError("not yet"), {"missing": []}])
    prove_healthy(slow)
    assert len(slow.asked) == 3
    with pytest.raises(PercoreError, match="not everything runs: app api is stopped"):
        prove_healthy(FakeHost("web1", prove={"missing": ["app api is stopped"]}))  # type: ignore[arg-type]
