"""What suits a host, and what a report hides."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from percore.supervisor.base.home import Home
from percore.supervisor.commands.diagnosis.host import about_host
from percore.supervisor.commands.doctor import pids_of, redact
from percore.supervisor.commands.host_facts import read_facts, recommend

GB = 1 << 30


def test_each_core_gets_a_worker_as_long_as_there_is_memory_for_it() -> None:
    assert recommend(8 * GB, 4).workers == 4
    assert recommend(1 * GB, 8).workers == 4
    assert recommend(GB // 4, 8).workers == 1


def test_the_heaps_of_all_workers_fit_into_what_the_system_and_others_leave() -> None:
    for memory in (GB // 2, GB, 4 * GB, 64 * GB):
        sizing = recommend(memory, 4, others_bytes=memory // 10)
        assert sizing.heap_bytes < sizing.memory_bytes
        assert sizing.heap_bytes <= 4 * GB
        if memory >= GB:
            assert sizing.workers * sizing.memory_bytes <= memory * 0.8


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("DB_PASSWORD=abc next", "DB_PASSWORD=[hidden] next"),
        ('{"apiKey": "abc", "n": 1}', '{"apiKey": [hidden], "n": 1}'),
        ("postgres://user:abc@host/db", "postgres://user:[hidden]@host/db"),
        ("Authorization: Bearer abc", "Authorization: [hidden] [hidden]"),
        ("worker 3 of api: running (pid 7)", "worker 3 of api: running (pid 7)"),
    ],
)
def test_what_looks_like_a_secret_is_hidden(line: str, shown: str) -> None:
    assert redact(line) == shown


@contextlib.contextmanager
def sleeper(*, open_files: int, **env: str) -> Iterator[int]:
    child = subprocess.Popen([sys.executable, "-c", "input()"], env={**os.environ, **env}, stdin=subprocess.PIPE)
    try:
        resource.prlimit(child.pid, resource.RLIMIT_NOFILE, (open_files, open_files))
        yield child.pid
    finally:
        child.communicate()


def test_the_limits_of_what_runs_count_and_not_those_of_the_shell(tmp_path: Path) -> None:
    home = Home(str(tmp_path))
    own, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    with sleeper(open_files=333) as worker, sleeper(open_files=444) as supervisor:
        assert read_facts(home, pids_of([{"pid": None}, {"pid": worker}], supervisor)).open_files == 333
        assert read_facts(home, pids_of([], supervisor)).open_files == 444
    assert read_facts(home, pids_of([], 0)).open_files == own
    assert read_facts(home, [worker]).open_files == own, "it has ended"


def test_a_unit_of_systemd_is_not_told_to_run_under_systemd(tmp_path: Path) -> None:
    home, told = Home(str(tmp_path)), "after kill -9 of the supervisor its sockets are lost"
    with sleeper(open_files=99, NOTIFY_SOCKET="/run/systemd/notify") as unit, sleeper(open_files=99) as other:
        without = [read_facts(home, [pid])._replace(has_pidfd_getfd=False) for pid in (unit, other)]
    found = [[finding.what for finding in about_host(facts)] for facts in without]
    assert (told in found[0], told in found[1]) == (False, True)
