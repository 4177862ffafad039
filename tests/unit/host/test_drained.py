"""What a load balancer says of the hosts that it leaves out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from percore.host.drained import read_drained

ENTRY = {"host": "web1", "names": ["web1", "10.0.0.1"], "verb": "drain", "who": "ann@laptop", "at": 1.5, "why": ""}


def test_what_the_control_side_wrote_is_read(tmp_path: Path) -> None:
    path = tmp_path / "drained.json"
    path.write_text(json.dumps([ENTRY, ENTRY]))
    assert read_drained(str(path)) == [ENTRY, ENTRY]


@pytest.mark.parametrize(
    "text", ["", "{", "{}", "[1]", '[{"host": 1}]', json.dumps([{**ENTRY, "names": "web1"}]), "\0"]
)
def test_what_makes_no_sense_is_nothing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "drained.json"
    path.write_text(text)
    assert read_drained(str(path)) == []
    assert read_drained(str(tmp_path / "none")) == []
