"""`invoke watch`: what is told of troubles that come, stay and go."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from percore.common.finding import ERROR, NOTE, WARNING, Finding
from percore.deploy.alerts.alert import Alert
from percore.deploy.fleet import troubles as watch
from percore.deploy.fleet.troubles import Trouble

HOSTS: Any = [SimpleNamespace(name=name, scope=SimpleNamespace(env="test")) for name in ("web1", "web2")]


def trouble(host: str, about: str = "disk") -> Trouble:
    return Trouble(host, about, Alert("disk", "test", f"{about} of {host}", "it is full", [host]))


class Looks:
    """Looks at hosts, one after the other; `see` returns what was told of the latest."""

    def __init__(self, state: Path) -> None:
        self.state = state

    def see(self, *found: Trouble, hosts: Any = HOSTS, silent: set[str] = frozenset()) -> list[str]:  # type: ignore[assignment]
        told: list[str] = []
        watch.tell_changes(found, hosts, silent, self.state, lambda event: told.append(f"{event.kind} {event.subject}"))
        return told


@pytest.fixture
def looks(tmp_path: Path) -> Looks:
    return Looks(tmp_path / "state.json")


def test_a_trouble_is_told_once_and_when_it_is_over(looks: Looks) -> None:
    assert looks.see(trouble("web1")) == ["disk disk of web1"]
    assert looks.see(trouble("web1"), trouble("web2")) == ["disk disk of web2"]
    assert looks.see(trouble("web2")) == ["recovered over: disk of web1"]
    assert looks.see() == ["recovered over: disk of web2"]
    assert looks.see() == []


def test_a_trouble_that_stays_is_told_again_each_day(looks: Looks, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    looks.see(trouble("web1"))
    monkeypatch.setattr(time, "time", lambda: now + 86000)
    assert looks.see(trouble("web1")) == []
    monkeypatch.setattr(time, "time", lambda: now + 86500)
    assert looks.see(trouble("web1")) == ["disk disk of web1"]
    assert looks.see(trouble("web1")) == []


def test_of_a_host_that_does_not_answer_nothing_else_is_said_to_be_over(looks: Looks) -> None:
    looks.see(trouble("web1"))
    assert looks.see(trouble("web1", "unreachable"), silent={"web1"}) == ["disk unreachable of web1"]
    assert looks.see(trouble("web1"), silent=set()) == ["recovered over: unreachable of web1"]


def test_a_look_at_some_hosts_says_nothing_of_the_others(looks: Looks) -> None:
    looks.see(trouble("web1"), trouble("web2"))
    assert looks.see(hosts=HOSTS[1:]) == ["recovered over: disk of web2"]
    assert looks.see(trouble("web1")) == []


def test_a_network_that_fails_is_one_alert(looks: Looks) -> None:
    hosts: Any = [SimpleNamespace(name=f"web{number}", scope=HOSTS[0].scope) for number in range(200)]
    found = [trouble(host.name, "network") for host in hosts]
    assert looks.see(*found, hosts=hosts) == ["disk 200 times on 200 hosts: a disk of a host is nearly full"]
    assert looks.see(hosts=hosts) == ["recovered 200 times on 200 hosts: what was told before is over"]


@pytest.mark.parametrize("content", ["", "[]", '{"a": 1}', '{"a": {"host": "web1"}}', "\xff"])
def test_a_damaged_state_is_as_if_nothing_had_been_told(looks: Looks, content: str) -> None:
    looks.state.write_text(content, encoding="latin-1")
    assert looks.see(trouble("web1")) == ["disk disk of web1"]
    assert looks.see(trouble("web1")) == []


def test_of_what_doctor_finds_disks_certificates_and_faults_are_told_once_for_a_topic() -> None:
    found = [
        Finding("only 1 GB is free", "remove files", "disk"),
        Finding("/var is full", "remove files", "disk", ERROR),
        Finding("the certificate ends in 3 days", "renew it", "certificates", WARNING),
        Finding("NGINX does not run", "systemctl start nginx", "nginx", ERROR),
        Finding("the clock is not synchronized", "timedatectl", "clock", WARNING),
        Finding("fork mode", "cluster", "reload", NOTE),
    ]
    scope: Any = SimpleNamespace(env="test")
    told = [one.alert for one in watch._of_findings("web1", found, scope)]
    assert [(alert.kind, alert.reason, alert.next) for alert in told] == [
        ("disk", "only 1 GB is free", "remove files"),
        ("certificate", "the certificate ends in 3 days", "renew it"),
        ("unhealthy", "NGINX does not run", "systemctl start nginx"),
    ]
