"""What `percore doctor` concludes of what it sees: each finding for what is wrong, and none for what is not."""

from __future__ import annotations

import http.server
import os
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from percore.common.finding import ERROR, NOTE, WARNING, Finding, are_well
from percore.supervisor.base.home import Home
from percore.supervisor.commands.diagnosis.apps import AppFacts, apps_of
from percore.supervisor.commands.diagnosis.host import about_host
from percore.supervisor.commands.diagnosis.memory import about_heaps, about_leaks, about_memory, rise_of
from percore.supervisor.commands.diagnosis.reloads import about_reloads
from percore.supervisor.commands.host_facts import Facts, read_facts, recommend
from percore.supervisor.process.usage import FIRST_MARK_SECONDS, Sampler

MB, GB = 1 << 20, 1 << 30


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    return read_facts(Home(str(tmp_path_factory.mktemp("home"))))._replace(memory_limit_bytes=None)


def app(name: str, count: int, *, mode: str = "cluster", **changed: Any) -> AppFacts:
    config = changed.pop("config", {})
    worker = {
        "name": name, "mode": mode, "pid": 0, "wanted": True, "memory_bytes": 50 * MB, "config": config,
        "state": "running", "sharing": "steered", "addresses": [], "uptime_seconds": 100.0, "memory_marks": [], **changed,
    }  # fmt: skip
    return AppFacts(name, [{**worker, "slot": slot} for slot in range(count)])


def limited(name: str, count: int, megabytes: int, **changed: Any) -> AppFacts:
    return app(name, count, config={"max_memory": megabytes * MB, **changed.pop("config", {})}, **changed)


# -- memory -----------------------------------------------------------------------------------------------------------


def test_memory_that_does_not_add_up_is_told_with_the_process_files_own_numbers(facts: Facts) -> None:
    apps = [limited("api", 4, 500), limited("jobs", 2, 300)]
    (found,) = about_memory(apps, facts._replace(memory_bytes=2 * GB))
    assert found.what.startswith("memory does not add up: api 4 x 500M + jobs 2 x 300M = 2.5G, and this host has 2.0G")
    assert found.severity == ERROR
    (tight,) = about_memory(apps, facts._replace(memory_bytes=3 * GB))
    assert "of which the system needs about 614M" in tight.what
    assert tight.severity == WARNING
    assert not [*about_memory(apps, facts._replace(memory_bytes=4 * GB))]


def test_of_a_containers_limit_the_system_needs_nothing(facts: Facts) -> None:
    container = facts._replace(memory_bytes=64 * GB, memory_limit_bytes=600 * MB, is_container=True)
    assert not [*about_memory([limited("api", 2, 200)], container)]
    (found,) = about_memory([limited("api", 2, 290)], container)
    assert found.what.endswith("= 580M, and this container may use 600M, of which percore needs about 48.0M")
    assert recommend(600 * MB, 4, is_alone=True).workers == 4
    assert recommend(600 * MB, 4).workers == 1


def test_the_limit_of_the_unit_counts_where_it_is_less_than_the_memory_of_the_host(facts: Facts) -> None:
    host = facts._replace(memory_bytes=64 * GB, memory_limit_bytes=1 * GB, is_container=False)
    (found,) = about_memory([limited("api", 4, 500)], host)
    assert "and this unit may use 1.0G" in found.what


def test_without_a_limit_a_worker_counts_with_its_heap_or_with_what_it_uses(facts: Facts) -> None:
    heaped = app("api", 2, config={"interpreter_args": ["--max_old_space_size=1536"]})
    (found,) = about_memory([heaped, app("jobs", 1)], facts._replace(memory_bytes=4 * GB))
    assert "api 2 x 2048M (heap 1536M, no limit) + jobs 1 x 50M (in use, no limit)" in found.what
    assert not [*about_memory([heaped, app("jobs", 1)], facts._replace(memory_bytes=8 * GB))]
    stopped = app("api", 9, wanted=False, config={"max_memory": GB})
    assert not [*about_memory([stopped], facts._replace(memory_bytes=GB))]


def test_the_sizes_of_the_seeds_table_are_no_finding(facts: Facts) -> None:
    """8 GB and 4 cores: a heap of 1.5 GB for each worker."""
    sized = limited("api", 4, 2048 - 512, config={"interpreter_args": ["--max_old_space_size=1024"]})
    host = facts._replace(memory_bytes=8 * GB)
    assert not [*about_memory([sized], host), *about_heaps([sized])]
    assert not [*about_memory([app("api", 3, config={"interpreter_args": ["--max-old-space-size=1536"]})], host)]


def test_a_heap_beyond_the_limit_is_worth_a_note_until_it_costs_a_worker() -> None:
    arguments = {"interpreter_args": ["--max_old_space_size=1024"]}
    (note,) = about_heaps([limited("api", 2, 500, config=arguments)])
    assert note.severity == NOTE
    assert are_well([note])
    (found,) = about_heaps([limited("api", 2, 500, config=arguments, counts={"memory": 2})])
    assert "it was replaced for its memory 2 times" in found.what
    assert "--max-old-space-size=375, or max_memory_restart 1365M" in found.next
    assert not are_well([found])
    assert not [*about_heaps([limited("api", 2, 1400, config=arguments)])]


# -- leaks ------------------------------------------------------------------------------------------------------------


def marks_of(memory_of: Any, hours: float) -> dict[str, Any]:
    ages = [FIRST_MARK_SECONDS * 2**n for n in range(30) if FIRST_MARK_SECONDS * 2**n <= hours * 3600]
    return {
        "memory_marks": [[age, int(memory_of(age))] for age in ages],
        "uptime_seconds": hours * 3600, "memory_bytes": int(memory_of(hours * 3600)),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("memory_of", "leaks"),
    [
        (lambda age: 80 * MB + age * 3000, True),
        (lambda age: 80 * MB + age**1.3 * 300, True),
        (lambda age: 80 * MB, False),
        (lambda age: 80 * MB + min(age, 7200) * 3000, False),  # a cache that is full after two hours
        (lambda age: 80 * MB + (age**0.5) * MB, False),  # a cache that fills more and more slowly
        (lambda age: 80 * MB + (age // 60 % 7) * 5 * MB, False),
        (lambda age: 80 * MB + age, False),
    ],
)
def test_memory_that_rises_as_fast_as_ever_is_a_leak_and_a_cache_is_none(memory_of: Any, leaks: bool) -> None:
    assert [bool(rise_of(marks_of(memory_of, hours))) for hours in (6, 11)] == [leaks, leaks]
    assert rise_of(marks_of(memory_of, 0.5)) is None, "it is too young to tell"


def test_a_leak_is_told_with_its_rate_and_when_it_meets_the_limit() -> None:
    leaking = limited("api", 1, 200, **marks_of(lambda age: 80 * MB + age * 3000, 6))
    (found,) = about_leaks([leaking])
    assert found.what == (
        "the memory of api 0 rises by 10.3M an hour for as long as it runs (6 h); it is at its limit in 6 h"
    )
    again = limited("api", 2, 200, counts={"memory": 4})
    (told,) = about_leaks([again])
    assert told.what.startswith("api was replaced for its memory 4 times: it leaks")


def test_a_worker_is_marked_at_twice_its_age_and_anew_with_each_process(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("percore.supervisor.process.usage.time.monotonic", lambda: now[0])
    sampler = Sampler()
    for second in range(0, 86_400, 10):
        now[0] = 1000.0 + second
        sampler.sample(os.getpid())
    assert [age for age, _ in sampler.marks] == [60, 120, 240, 480, 960, 1920, 3840, 7680, 15360, 30720, 61440]
    sampler.sample(1)
    assert sampler.marks == []


# -- reloads ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def port() -> Iterator[int]:
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def reasons(*apps: AppFacts) -> list[Finding]:
    return [*about_reloads(apps)]


def test_a_program_that_listens_alone_is_told_why_its_reload_would_lose_requests(port: int) -> None:
    fork = {"mode": "fork", "sharing": "none", "pid": os.getpid()}
    (found,) = reasons(app("api", 1, config={"port": port}, **fork))
    assert found.what == f"a reload of api is a restart: in fork mode its port {port} is closed for a moment"
    assert found.severity == WARNING
    assert [each.severity for each in reasons(app("api", 1, **fork))] == [NOTE], "no client is told of that port"
    (static,) = reasons(app("api", 1, pid=os.getpid()))
    assert "the bind shim does not reach it" in static.what
    (single,) = reasons(app("api", 2, pid=os.getpid(), addresses=["127.0.0.1:1"], sharing="one socket (no BPF)"))
    assert "its sockets are one socket (no BPF), not steered" in single.what
    assert not reasons(app("api", 2, pid=os.getpid(), addresses=["127.0.0.1:1"]))


def test_an_app_that_listens_nowhere_is_none_whose_reload_loses_requests() -> None:
    with subprocess.Popen(["sleep", "1000"]) as idle:
        try:
            assert not reasons(app("jobs", 1, mode="fork", sharing="none", pid=idle.pid, config={"port": 1}))
        finally:
            idle.kill()


def test_what_a_reload_had_to_cut_is_told_with_how_often() -> None:
    cut = app("api", 2, counts={"killed": 4, "drain_limit": 2, "drained": 10}, config={"kill_timeout": 5.0})
    killed, drained = reasons(cut)
    assert killed.what == "api was killed 4 times, because it had not ended 5 s after it was told to"
    assert drained.what.startswith("api still had open connections 2 times")
    assert "end at SIGINT within kill_timeout (1.6 s)" in reasons(app("api", 1, counts={"killed": 1}))[0].next, (
        "the default is known"
    )
    assert not reasons(app("api", 2, counts={"killed": 1, "drain_limit": 2, "drained": 100}))


def test_workers_of_a_supervisor_that_counts_nothing_yet_are_looked_at_as_well() -> None:
    older = {key: value for key, value in app("api", 1).workers[0].items() if key not in ("counts", "memory_marks")}
    apps = apps_of([older])
    assert not [*about_reloads(apps), *about_leaks(apps), *about_heaps(apps)]


# -- the host ---------------------------------------------------------------------------------------------------------


def test_what_is_nearly_used_up_on_a_host_is_told(facts: Facts) -> None:
    well = facts._replace(
        somaxconn=4096, open_files=65536, available_bytes=facts.memory_bytes, swap_bytes=0, disk_free_bytes=10 * GB,
        clock_is_synchronized=True, has_steering=True, has_pidfd_getfd=True, has_bind_shim=True, inodes_free=10**6,
        inodes=10**7, tasks=10, tasks_most=100, oom_kills=0,
    )  # fmt: skip
    assert not [*about_host(well)]
    for changed, told in (
        ({"inodes_free": 12}, "only 12 inodes are free"),
        ({"tasks": 95}, "95 of 100 processes and threads"),
        ({"oom_kills": 2}, "the kernel killed 2 processes of the unit"),
        ({"clock_is_synchronized": False, "is_container": False}, "the clock is not synchronized"),
        ({"open_files": 1024, "has_fd_store": False}, "only 1024 files"),
    ):
        (found,) = about_host(well._replace(**changed))
        assert found.what.startswith(told)
    (unit,) = about_host(well._replace(open_files=1024, has_fd_store=True))
    assert "LimitNOFILE=65536 in its unit" in unit.next
    assert not [*about_host(well._replace(clock_is_synchronized=False, is_container=True))]
