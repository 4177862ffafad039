"""What `percore heap` and `percore profile` look at before, the one message to the inspector, and the files."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest

from percore.errors import PercoreError, PreflightError
from percore.supervisor.commands.inspection import room
from percore.supervisor.commands.inspection.commands import file_for, program_of, remove_older, write_parts
from percore.supervisor.commands.inspection.node import NodeTarget, heap_job, run_job
from percore.supervisor.commands.inspection.websocket import frame, read_frame

MB = 1 << 20


def worker(name: str = "api", **config: Any) -> dict[str, Any]:
    return {"name": name, "slot": 0, "pid": os.getpid(), "mode": "fork", "config": config}


@pytest.fixture
def much(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host with room for everything."""
    for name in ("available_bytes", "free_in_groups"):
        monkeypatch.setattr(room, name, lambda *_: 64 << 30)
    monkeypatch.setattr(
        room.os, "statvfs", lambda _: os.statvfs_result((4096, 4096, 1 << 30, 1 << 30, 1 << 30, 0, 0, 0, 0, 255))
    )


@pytest.mark.usefixtures("much")
@pytest.mark.parametrize(
    ("config", "is_forced", "said"),
    [
        ({}, False, ""),
        ({"max_memory": 401 * MB}, False, ""),
        ({"max_memory": 399 * MB}, False, "more than its max_memory_restart of 399M"),
        ({"max_memory": 399 * MB}, True, ""),
        ({"memory_max": 399 * MB}, True, "more than its memory_max of 399M"),
    ],
)
def test_a_snapshot_that_would_end_the_worker_is_refused(config: dict[str, Any], is_forced: bool, said: str) -> None:
    def check() -> None:
        room.check_heap_room(worker(**config), "/", os.getpid(), 200 * MB, is_forced=is_forced)

    if said:
        with pytest.raises(PreflightError, match=said):
            check()
    else:
        check()


@pytest.mark.usefixtures("much")
@pytest.mark.parametrize("place", ["available_bytes", "free_in_groups"])
def test_a_snapshot_needs_as_much_memory_as_the_worker_uses_on_the_host_and_in_its_group(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, place, lambda *_: 400 * MB)
    room.check_heap_room(worker(), "/", os.getpid(), 100 * MB, is_forced=False)
    with pytest.raises(PreflightError, match=r"needs about 200M of memory beside the heap, and 400M are available"):
        room.check_heap_room(worker(), "/", os.getpid(), 200 * MB, is_forced=True)


def test_a_full_disk_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match="is free there"):
        room.check_disk(str(tmp_path), 1 << 60)


def test_a_message_of_any_length_is_framed_as_it_is_read() -> None:
    for length in (0, 125, 126, 65535, 65536):
        content = bytes(range(256)) * (length // 256 + 1)
        masked = frame(content[:length])
        start = 2 + (0 if length < 126 else 2 if length < 1 << 16 else 8)
        mask, body = masked[start : start + 4], masked[start + 4 :]
        plain = bytes(byte ^ mask[at % 4] for at, byte in enumerate(body))
        head = bytes([masked[0], masked[1] & 0x7F]) + masked[2:start]
        assert read_frame(io.BytesIO(head + plain)) == (1, content[:length])
    with pytest.raises(PercoreError, match="closed the connection"):
        read_frame(io.BytesIO(b"\x81\x05abc"))
    with pytest.raises(PercoreError, match="too long"):
        read_frame(io.BytesIO(b"\x81\x7f" + (1 << 40).to_bytes(8, "big")))


def test_a_process_that_is_not_node_gets_no_signal() -> None:
    with pytest.raises(PercoreError, match="is not Node"):
        list(run_job(NodeTarget(os.getpid(), "127.0.0.1"), heap_job(), 1))
    assert program_of(worker()).kind == "python"


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    path = file_for(str(tmp_path), worker("shop:api"), "heapsnapshot")
    assert Path(path).name.startswith("shop-api-0-")
    with pytest.raises(PercoreError, match="ended before it was done"):
        write_parts(path, [b'{"a": [1,', b"2"])
    assert list(tmp_path.iterdir()) == []
    write_parts(path, [b'{"a": [1,', b"2]}\n"])
    assert Path(path).read_bytes() == b'{"a": [1,2]}\n'
    assert Path(path).stat().st_mode & 0o777 == 0o600


def test_older_snapshots_of_the_app_are_removed_and_of_no_other(tmp_path: Path) -> None:
    names = [f"api-{slot}-20260101T00000{slot}.heapsnapshot" for slot in range(4)]
    others = ["api-2-0-20260101T000000.heapsnapshot", "api-0-20260101T000000.cpuprofile", "notes"]
    for age, name in enumerate([*names, *others]):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (age, age))
    remove_older(str(tmp_path), worker(), 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names[2:], *others])
