"""Which hosts are drained at percore's own load balancers, and what their configuration is then."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from percore.deploy.plan.peers import EdgePeer
from percore.deploy.report import Report
from percore.deploy.rollout.edge import draining
from percore.deploy.rollout.edge.draining import LoadBalancers
from percore.deploy.rollout.edge.load_balancers import find_load_balancers, make_entries, render_drained
from percore.deploy.rollout.hosts import plan_hosts
from percore.deploy.rollout.scope import Scope
from percore.errors import RolloutError, UnreachableError
from percore.host.drained import KEPT, PATH
from tests.unit.deploy.test_hand_off import HOSTS, write_inventory

PEERS = [EdgePeer(f"web{number}", f"10.0.0.{number}", 80) for number in (1, 2, 3, 4)]
FACTS = {"os_codename": "bookworm", "python_path": "/usr/bin/python3"}


def balancer(name: str = "lb1", drained: Any = ()) -> Any:
    agent = SimpleNamespace(facts={**FACTS, "drained": list(drained)})
    return SimpleNamespace(name=name, forks=4, agent=agent)


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, list[str]]]:
    """What was done at which load balancer, in order."""
    found: list[tuple[str, str, list[str]]] = []
    monkeypatch.setattr(draining, "_seconds", lambda host: 0)
    monkeypatch.setattr(
        draining, "_drain_at", lambda host, peers: found.append(("-", host.name, [p.host for p in peers]))
    )
    monkeypatch.setattr(draining, "_undrain_at", lambda host, names: found.append(("+", host.name, list(names))))
    return found


def test_a_batch_is_drained_at_every_load_balancer_and_comes_back_once(done: list[tuple[str, str, list[str]]]) -> None:
    balancers = LoadBalancers([balancer("lb1"), balancer("lb2")], PEERS, Report(quiet=True))
    balancers.drain(["web1", "db1"])
    balancers.undrain()
    balancers.undrain()
    assert sorted(done) == [
        ("+", "lb1", ["web1"]), ("+", "lb2", ["web1"]), ("-", "lb1", ["web1"]), ("-", "lb2", ["web1"]),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("batch", "kept", "is_drained"),
    [
        ("12", "", True),
        ("123", "", False),
        ("1234", "", False),
        ("12", "3", False),
        ("1", "23", True),
        ("1", "234", False),
    ],
)
def test_those_that_are_left_are_as_many_as_those_that_go(
    batch: str, kept: str, is_drained: bool, done: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    entries = make_entries([peer for peer in PEERS if peer.host[3:] in kept], KEPT)
    LoadBalancers([balancer(drained=entries)], PEERS, Report()).drain([f"web{number}" for number in batch])
    assert bool(done) is is_drained
    assert ("not drained: " in capsys.readouterr().out) is not is_drained


def test_without_load_balancers_nothing_is_drained_and_nothing_said(capsys: pytest.CaptureFixture[str]) -> None:
    balancers = LoadBalancers((), (), Report())
    balancers.drain(["web1"])
    balancers.undrain()
    assert capsys.readouterr().out == ""


def test_a_load_balancer_that_is_lost_stops_the_run_and_says_what_it_does_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def lose(*_: object) -> None:
        raise UnreachableError("the link is cut", where="lb1")

    monkeypatch.setattr(draining, "_drain_at", lose)
    with pytest.raises(RolloutError, match="lb1: the link is cut; it undrains them by itself"):
        LoadBalancers([balancer()], PEERS, Report(quiet=True)).drain(["web1"])


def test_every_load_balancer_that_fails_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(host: Any, _: object) -> None:
        raise RolloutError(f"nginx -t fails on {host.name}", where=host.name)

    monkeypatch.setattr(draining, "_drain_at", fail)
    with pytest.raises(RolloutError, match="lb1: nginx -t fails on lb1"):
        LoadBalancers([balancer("lb1"), balancer("lb2")], PEERS, Report()).drain(["web1"])
    assert "nginx -t fails on lb2" in capsys.readouterr().out


def with_edge(project: Path, **of_edge: Any) -> Scope:
    roles = {"roles": ["loadbalancer"], "edge_hsts_seconds": 0, **of_edge}
    scope = write_inventory(
        project, {**HOSTS, "lb1": {"ansible_host": "10.0.0.9", **roles}, "other": {"roles": ["redis"]}}
    )
    path = project / "inventories" / "eu.yml"
    path.write_text(path.read_text() + "edge:\n  hosts:\n    lb1:\n    other:\n")
    return scope


def test_load_balancers_are_found_whatever_the_run_is_limited_to(tmp_path: Path) -> None:
    scope = with_edge(tmp_path)
    assert [host.name for host in find_load_balancers(Scope("eu", tmp_path, limit="web1"))] == ["lb1"]
    assert {"lb1", "other"} <= {host.name for host in plan_hosts(scope, also_without_app=True)}
    assert find_load_balancers(write_inventory(tmp_path)) == []


@pytest.mark.parametrize(
    ("kind", "up", "down"),
    [
        ("nginx", "fail_timeout=5s; # web1", "fail_timeout=5s down; # web1"),
        ("haproxy", "server web1 10.0.0.1:80 check", "server web1 10.0.0.1:80 check disabled"),
    ],
)  # fmt: skip
def test_a_drained_host_is_out_in_the_configuration_and_noted_beside_it(
    tmp_path: Path, kind: str, up: str, down: str
) -> None:
    scope = with_edge(tmp_path, loadbalancer=kind)
    (host,) = find_load_balancers(scope)
    host.remote = SimpleNamespace(facts={**FACTS, "drained": []})  # type: ignore[assignment]
    entries = make_entries(PEERS[:1], "deploy")
    texts = {"up": [], "down": entries}
    found = {name: render_drained(host, given) for name, given in texts.items()}
    for name, line in (("up", up), ("down", down)):
        lines = [line.strip() for content in found[name].files.values() for line in content.decode().splitlines()]
        assert any(each.endswith(line) for each in lines)
        assert "server [2001:db8::2]:80" in " ".join(lines) or "server web2 [2001:db8::2]:80 check" in lines
    assert found["up"].setup[0] == {"kind": "absent", "path": PATH}
    assert found["down"].setup[0]["path"] == PATH
    # What a person drained stays out of what `setup` wants, a deploy's own does not.
    host.remote.facts["drained"] = entries  # type: ignore[union-attr]
    assert host.render("none").setup == found["up"].setup[1:]
    host.remote.facts["drained"] = make_entries(PEERS[:1], KEPT)  # type: ignore[union-attr]
    assert host.render("none").setup == found["down"].setup[1:]
