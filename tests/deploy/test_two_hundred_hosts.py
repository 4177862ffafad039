"""Two hundred hosts at once, simulated: what the README promises cannot get slow, or be lost, without a test that fails."""

from __future__ import annotations

import contextlib
import resource
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from percore.deploy import status
from percore.deploy.connection import agent, ssh_links, stream
from percore.deploy.report import Report
from percore.deploy.rollout import hosts as fleet
from percore.deploy.rollout.host import Host
from percore.deploy.rollout.verbs import known_release, preview, rollout
from percore.errors import PercoreError, PreflightError, UnreachableError
from tests.deploy.simulated_fleet import SimulatedFleet, simulated_fleet

COUNT = 200
MOST_CPU_SECONDS = 20.0
"""Of this process, for two runs with two hundred hosts; a quiet machine needs a quarter."""


@pytest.fixture
def simulated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimulatedFleet:
    made = SimulatedFleet(tmp_path)
    monkeypatch.chdir(made.project)
    return made


@contextlib.contextmanager
def open_files(most: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def connected(simulated: SimulatedFleet) -> Iterator[list[Host]]:
    """All of its hosts; the test fails where one cannot be reached."""
    hosts = fleet.load_hosts(simulated.scope)
    with fleet.closing_hosts(hosts):
        assert not fleet.connect_all(hosts)
        yield hosts


def test_two_hundred_hosts_are_deployed_to_and_shown_with_the_open_files_of_a_plain_shell(
    simulated: SimulatedFleet, capfd: pytest.CaptureFixture[str]
) -> None:
    simulated.have(COUNT)
    began = time.process_time()
    with open_files(256):
        rollout.deploy(simulated.scope, Report())
        status.status(simulated.scope, Report(), as_json=False)
    assert len(simulated.releases()) == COUNT
    assert len({*simulated.releases()}) == 1
    assert capfd.readouterr().out.count("running  ") >= COUNT
    assert time.process_time() - began < MOST_CPU_SECONDS


def test_a_fleet_is_changed_goes_back_when_one_host_fails_and_is_rolled_back(
    simulated: SimulatedFleet, capfd: pytest.CaptureFixture[str]
) -> None:
    simulated.have(20)
    rollout.deploy(simulated.scope, Report())
    former = {*simulated.releases()}
    rollout.deploy(simulated.scope, Report())
    assert "nothing to change: 20 hosts already on" in capfd.readouterr().out
    simulated.write("two")
    simulated.says("web17", "activate", '{"ok": false, "error": {"what": "it does not serve", "exit_code": 4}}')
    with pytest.raises(PercoreError, match="web17: it does not serve"):
        rollout.deploy(simulated.scope, Report())
    assert {*simulated.releases()} == former
    simulated.says("web17", "activate", "")
    rollout.deploy(simulated.scope, Report())
    assert {*simulated.releases()}.isdisjoint(former)
    known_release.rollback(simulated.scope, Report())
    assert {*simulated.releases()} == former


def test_an_answer_that_comes_too_late_is_not_taken_for_the_next_one(
    simulated: SimulatedFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer to 'probe' came after it was given up, and preflight then looked for 'strangers' in it."""
    monkeypatch.setattr(stream, "SILENCE_SECONDS", 0.5)
    simulated.have(2)
    simulated.says("web2", "probe", "", seconds=1.0)
    with connected(simulated) as hosts:
        for op in ("probe", "ports", "ports"):
            with pytest.raises(UnreachableError, match="web2: nothing was heard any more, the link is cut"):
                hosts[1].ask(op, **({} if op == "probe" else {"ports": []}))
            time.sleep(0.6)  # the late answer is there now
        assert hosts[0].ask("ports", ports=[])["strangers"] == {}


def test_an_answer_that_was_not_read_to_its_end_is_not_taken_for_the_next_one(simulated: SimulatedFleet) -> None:
    simulated.have(1)

    def fail(event: stream.Event) -> None:
        raise ZeroDivisionError

    with connected(simulated) as (host,):
        message = {"release": "20260101120000-0a1b2c3d"}
        with pytest.raises(ZeroDivisionError):
            host.agent.ask("activate", target=host.target(), on_event=fail, **message)
        with pytest.raises(UnreachableError, match="web1: its answer to 'activate' was not read to its end"):
            host.ask("status")


@pytest.mark.parametrize("op", ["inspect", "ports", "health", "confirm"])
def test_an_answer_that_lacks_a_key_is_one_line_with_the_host(op: str, simulated: SimulatedFleet) -> None:
    simulated.have(3)
    simulated.says("web2", op, "{}" if op != "confirm" else '{"ok": 1}')
    with pytest.raises(PercoreError, match=f"its agent answered '{op}' with") as raised:
        rollout.deploy(simulated.scope, Report())
    assert "web2" in str(raised.value)
    assert "KeyError" not in str(raised.value)


def test_a_host_that_is_slow_to_start_its_agent_is_waited_for(
    simulated: SimulatedFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "SILENCE_SECONDS", 0.2)
    monkeypatch.setattr(agent, "GREETING_SECONDS", 30.0)
    simulated.have(2)
    simulated.says("web2", "start", "", seconds=1.0)
    with connected(simulated):
        pass


def test_a_plan_names_the_hosts_that_it_waits_for_in_a_log(
    simulated: SimulatedFleet, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from percore.deploy import report as module

    monkeypatch.setattr(module, "PLAIN_SILENCE_SECONDS", 0.3)
    simulated.have(5)
    simulated.says("web4", "inspect", "", seconds=2.0)
    with contextlib.suppress(PercoreError):  # there are changes
        preview.preview(simulated.scope, Report(), diff=False, as_json=False)
    assert ": 4 of 5 hosts done, waiting for web4, " in capfd.readouterr().err


def test_a_server_that_lets_in_few_at_once_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MaxStartups of sshd, as a bastion has it: what is more than two at a time is hung up on."""
    with simulated_fleet(tmp_path, at_once="2:100:2") as made:
        made.have(12)
        monkeypatch.chdir(made.project)
        monkeypatch.setattr(ssh_links, "PAUSES", (0.2,) * 100)
        with connected(made):
            assert threading.active_count() < 200


def test_files_that_are_used_up_are_told_as_our_own_limit(simulated: SimulatedFleet) -> None:
    simulated.have(30)
    hosts = fleet.load_hosts(simulated.scope)
    with open_files(60):
        faults = fleet.connect_all(hosts)
    fleet.close_all(hosts)
    assert faults
    assert all(
        isinstance(fault, PreflightError) and "may open no more files" in fault.what for fault in faults.values()
    )
    assert all("ulimit -n" in fault.next for fault in faults.values())
