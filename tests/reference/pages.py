"""The pages and their generated regions: `<!-- made by ./run docs.reference: NAME WORDS -->` to `<!-- end -->`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from percore.errors import UsageError, nearest
from tests.reference import commands, deploying, exit_codes, json_outputs, metrics, process_file, roles, tasks

ROOT = Path(__file__).resolve().parents[2]
COMMAND = "./run docs.reference"
_REGION = re.compile(
    rf"^(?P<begin><!-- made by {re.escape(COMMAND)}: (?P<name>[\w-]+)(?P<words>[^>\n]*) -->\n)"
    r"(?P<body>.*?)(?P<end>^<!-- end -->$)",
    re.MULTILINE | re.DOTALL,
)
Maker = Callable[..., Iterable[str]]
MAKERS: Mapping[str, Maker] = {
    "commands": commands.of_group,
    "exit-codes": exit_codes.all_codes,
    "events": process_file.events,
    "job-keys": process_file.job_keys,
    "json": json_outputs.fields_of,
    "key-index": process_file.key_index,
    "keys": process_file.keys,
    "live-keys": process_file.live_keys,
    "metrics": metrics.all_metrics,
    "item-keys": roles.kinds,
    "role-keys": roles.role_keys,
    "settings": process_file.settings,
    "task-options": tasks.common_options,
    "tasks": tasks.of_names,
    "variables": deploying.variables,
}


def pages() -> list[Path]:
    """Those that have a generated region."""
    return [path for path in sorted((ROOT / "docs").rglob("*.md")) if COMMAND in path.read_text()]


def regions(text: str) -> Iterator[tuple[str, list[str]]]:
    """Name and words of each."""
    for found in _REGION.finditer(text):
        yield found["name"], found["words"].split()


def renewed(text: str) -> str:
    """The page with its regions as the code has them. UsageError for a region that nothing makes."""
    return _REGION.sub(_make, text)


def _make(found: re.Match[str]) -> str:
    maker = MAKERS.get(found["name"])
    if maker is None:
        like = nearest(found["name"], list(MAKERS))
        raise UsageError(f"nothing makes the region '{found['name']}'", next=f"did you mean '{like}'?" if like else "")
    body = "\n".join(maker(*found["words"].split()))
    return f"{found['begin']}\n{body}\n\n{found['end']}"


def write() -> list[Path]:
    """The pages that were not as the code has them."""
    changed = []
    for path in pages():
        text = path.read_text()
        if (made := renewed(text)) != text:
            path.write_text(made)
            changed.append(path)
    return changed
