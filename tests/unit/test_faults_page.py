"""The pages of promises name tests, and the tests of promises are named: in both directions."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


PAGES = ("faults.md", "security.md")
# Every test there is one of a promise.
PROMISED = ("supervisor/faults/*.py", "hosts/test_faults.py", "hosts/test_mishaps.py", "hosts/test_control_lost.py",
            "supervisor/test_rights.py", "supervisor/test_worker_sockets.py")  # fmt: skip


def named_on(*pages: str) -> set[str]:
    texts = [(ROOT / "docs" / "reference" / page).read_text() for page in pages]
    return {name for text in texts for name in re.findall(r"`(test_\w+)`", text)}


def defined_in(*patterns: str) -> set[str]:
    paths = [path for pattern in patterns for path in (ROOT / "tests").rglob(pattern)]
    assert paths
    return {name for path in paths for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)}


@pytest.mark.parametrize("page", PAGES)
def test_every_test_that_a_page_names_exists(page: str) -> None:
    assert named_on(page) - defined_in("test_*.py") == set()
    text = (ROOT / "docs" / "reference" / page).read_text()
    assert all((ROOT / path).exists() for path in re.findall(r"`(tests/[\w/.]+)`", text))


def test_every_test_of_a_promise_is_named_on_a_page() -> None:
    assert defined_in(*PROMISED) - named_on(*PAGES) == set()


@pytest.mark.parametrize(
    "page", [*(f"reference/{page}" for page in PAGES), "explanation/security.md", "architecture.md"]
)
def test_every_module_that_a_page_names_exists(page: str) -> None:
    text = (ROOT / "docs" / page).read_text()
    # percore.service is the unit of systemd.
    for name in re.findall(r"`(percore\.(?!service`)[a-z_.]+[a-z])`", text):
        assert (ROOT / name.replace(".", "/")).with_suffix(".py").exists(), name
    paths = [path.with_suffix("") for path in (ROOT / "percore").rglob("*.py")]
    modules = {str((path.parent if path.name == "__init__" else path).relative_to(ROOT)) for path in paths}
    for name in re.findall(r"`([a-z_]+/[a-z_/]+[a-z])`", text):
        assert any(module.endswith(f"/{name}") for module in modules) or (ROOT / name).exists(), name


def test_no_signal_is_sent_to_a_mere_number() -> None:
    """A pid may be somebody else's by now; a pidfd never is. One exception asks before whether it still is its own.

    The other is a child that was not waited for, which keeps its pid.
    """
    kills = {
        (path.name, line.strip())
        for path in (ROOT / "percore" / "supervisor").rglob("*.py")
        if path.parent.name != "commands"  # these run once, and wait for what they started
        for line in path.read_text().splitlines()
        if re.search(r"\bos\.(kill|killpg)\(", line)
    }
    assert kills == {
        ("process.py", "os.killpg(self.pid, number)"),
        ("hook_runner.py", "os.killpg(process.pid, signal.SIGKILL)"),
    }
