"""The control machine dies, is told to end, or loses a host, in the middle of everything a deploy does.

Whatever the moment: no host is left on a release that nobody confirmed, none is left locked, and the next deploy just works.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.hosts.conftest import wait_for
from tests.hosts.rehearsal import Rehearsal

_numbers = itertools.count()


@pytest.fixture
def before(rehearsal: Rehearsal) -> Iterator[str]:
    """The version that every host is on; afterwards the next deploy must work, whatever happened."""
    rehearsal.free()
    version = rehearsal.deployed()
    rehearsal.version(f"version {next(_numbers)}")
    yield version
    after = rehearsal.deployed()
    assert after != version


BEFORE_CONFIRMATION = [
    ("before_connect", "node1"),
    ("stage", "node2"),
    ("activate", "node1"),
    ("activate", "node2"),
    ("health", "node2"),
    ("before_confirm", "node1"),
]


@pytest.mark.parametrize(("place", "host"), BEFORE_CONFIRMATION)
def test_a_control_machine_killed_before_it_confirmed_leaves_every_host_on_the_former_release(
    rehearsal: Rehearsal, before: str, place: str, host: str
) -> None:
    with rehearsal.load() as counts:
        with rehearsal.stopped(place, host) as deploy:
            os.killpg(deploy.pid, signal.SIGKILL)
            deploy.wait()
        wait_for(lambda: rehearsal.settled(before), "the former release")
    assert (counts["bad"], counts["lost"]) == (0, 0), counts


@pytest.fixture
def confirming(rehearsal: Rehearsal, before: str) -> Iterator[subprocess.Popen[str]]:
    """A deploy that node1 has confirmed and node2 is just about to: there a pipe stands where the marks were."""
    node1, node2 = rehearsal.lab.hosts
    marks = node2.root / "srv/web/releases.json"
    with rehearsal.stopped("before_confirm") as deploy:
        text = marks.read_text()
        marks.unlink()
        os.mkfifo(marks)
        rehearsal.free()
        wait_for(lambda: not (node1.root / "srv/web/.pending").exists(), "the confirmation of node1")
        wait_for(lambda: not (node2.root / "srv/web/.pending").exists(), "the confirmation of node2")
        yield deploy
        with contextlib.suppress(OSError), open(os.open(marks, os.O_WRONLY | os.O_NONBLOCK), "w") as pipe:
            pipe.write(text)
        wait_for(marks.is_file, "the marks of node2")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_what_is_confirmed_stays_when_the_control_machine_goes_while_it_confirms(
    rehearsal: Rehearsal, confirming: subprocess.Popen[str], number: int
) -> None:
    os.killpg(confirming.pid, number)
    assert all(rehearsal.is_on(host, rehearsal.wanted) for host in rehearsal.lab.hosts)


def test_a_control_machine_killed_after_it_confirmed_leaves_every_host_on_the_new_release(
    rehearsal: Rehearsal, before: str
) -> None:
    with rehearsal.stopped("after_confirm") as deploy:
        deploy.kill()
    assert rehearsal.settled(rehearsal.wanted)


@pytest.mark.parametrize(
    ("number", "place", "host"),
    [
        (signal.SIGINT, "before_build", "node1"),
        (signal.SIGINT, "before_connect", "node1"),
        (signal.SIGINT, "stage", "node1"),
        (signal.SIGINT, "activate", "node1"),
        (signal.SIGINT, "health", "node2"),
        (signal.SIGINT, "before_confirm", "node1"),
        (signal.SIGTERM, "stage", "node2"),
        (signal.SIGTERM, "activate", "node2"),
        (signal.SIGTERM, "before_confirm", "node1"),
        (signal.SIGHUP, "activate", "node2"),
    ],
)
def test_a_deploy_that_is_told_to_end_takes_back_what_it_did_and_says_so_by_its_exit_code(
    rehearsal: Rehearsal, before: str, number: int, place: str, host: str
) -> None:
    with rehearsal.load() as counts, rehearsal.stopped(place, host) as deploy:
        os.killpg(deploy.pid, number)
        rehearsal.free()
        assert rehearsal.ended(deploy) == 128 + number
        assert "interrupted; a switch that was not confirmed is rolled back" in rehearsal.output()
        assert rehearsal.settled(before)  # at once: it waited for that
    assert (counts["bad"], counts["lost"]) == (0, 0), counts


def test_a_deploy_whose_terminal_is_gone_goes_on(rehearsal: Rehearsal, before: str) -> None:
    words = f"trap '' HUP; {sys.executable} -m invoke deploy --env {rehearsal.env} 2>&1 | head -1"
    subprocess.run(["bash", "-c", words], cwd=rehearsal.folder, check=True, capture_output=True, timeout=60)
    assert rehearsal.settled(rehearsal.wanted)


def test_a_link_cut_while_staging_touches_nothing_and_the_host_is_free_soon(rehearsal: Rehearsal, before: str) -> None:
    code = deploy_without(rehearsal, "node2", at="stage")
    assert code == 7, rehearsal.output()
    assert "node2: nothing was heard any more, the link is cut" in rehearsal.output()
    assert "nothing was switched: what ran before still runs" in rehearsal.output()
    assert rehearsal.settled(before)


@pytest.mark.parametrize(("at", "host"), [("activate", "node1"), ("health", "node2"), ("before_confirm", "node2")])
def test_a_link_cut_after_the_switch_began_takes_all_hosts_back_also_the_one_that_hears_nothing(
    rehearsal: Rehearsal, before: str, at: str, host: str
) -> None:
    code = deploy_without(rehearsal, host, at=at)
    assert code == 5, rehearsal.output()
    assert f"not certain to be back on the former release: {host}" in rehearsal.output()
    assert f"invoke status --env {rehearsal.env}, then deploy again" in rehearsal.output()
    assert rehearsal.settled(before)


def deploy_without(rehearsal: Rehearsal, name: str, *, at: str) -> int:
    """The exit code of a deploy from which a host is cut off at that moment; cut off it does by itself what it must do."""
    host = rehearsal.lab.host(name)
    try:
        with rehearsal.stopped(at, name) as deploy:
            host.cut()
            rehearsal.free()
            code = rehearsal.ended(deploy)
        wait_for(lambda: not (host.root / "srv/web/.pending").exists(), "the host to help itself")
    finally:
        host.join()
    return code


def test_a_host_that_dies_while_its_health_is_checked_is_set_right_by_converge(
    rehearsal: Rehearsal, before: str
) -> None:
    host = rehearsal.lab.host("node2")
    with rehearsal.stopped("health", "node2") as deploy:
        host.power_off()
        rehearsal.free()
        assert rehearsal.ended(deploy) == 5, rehearsal.output()
    host.start()
    assert (host.root / "srv/web/.pending").exists()
    done = rehearsal.invoke("converge", "--env", rehearsal.env)
    assert done.returncode == 0, done.stdout
    assert "nothing to change" not in done.stdout
    assert rehearsal.settled(before)
