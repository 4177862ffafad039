"""What suits a host, and what a report hides."""

from __future__ import annotations

import pytest

from percore.supervisor.commands.doctor import redact
from percore.supervisor.commands.host_facts import recommend

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
