"""docs/reference/faults.md names tests: each of them exists."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_test_that_the_page_of_faults_names_exists_and_every_fault_test_is_named() -> None:
    page = (ROOT / "docs" / "reference" / "faults.md").read_text()
    named = set(re.findall(r"`(test_\w+)`", page))
    sources = {path: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
    defined = {name for text in sources.values() for name in re.findall(r"^def (test_\w+)", text, re.MULTILINE)}
    assert named - defined == set()
    assert all((ROOT / path).exists() for path in re.findall(r"`(tests/[\w/.]+)`", page))


def test_no_signal_is_sent_to_a_mere_number() -> None:
    """A pid may be somebody else's by now; a pidfd never is. One exception asks before whether it still is its own.

    The other is a child that was not waited for, which keeps its pid.
    """
    kills = {
        (path.name, line.strip())
        for path in (ROOT / "percore" / "supervisor").glob("*.py")
        for line in path.read_text().splitlines()
        if re.search(r"\bos\.(kill|killpg)\(", line)
    }
    assert kills == {
        ("process.py", "os.killpg(self.pid, number)"),
        ("courier.py", "os.killpg(process.pid, signal.SIGKILL)"),
    }
