"""What stands on the pages of the documentation: code blocks, and the commands within sentences and tables."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"^ *```(.*)$")
_TITLE = re.compile(r'title="([^"]*)"')
# A file's name before its block, and as the first line of one.
_NAMED_BEFORE = re.compile(r"^ *`([^`\s]+)`:$")
_NAMED_WITHIN = re.compile(r"^(?:#|//) ([\w./-]+\.\w+)\b")
_COMMAND_WITHIN = re.compile(r"(?<!`)`((?:percore|invoke|\./run|pip) [^`]+)`(?!`)")


@dataclass(frozen=True)
class Block:
    place: str  # PAGE:LINE
    kind: str
    title: str  # the name of the file, or `TOOL: FILE` for one of another tool
    text: str


def pages() -> list[Path]:
    """All but the list of changes, which tells what was."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*/README.md")]
    return sorted(path for path in found if path.name != "CHANGELOG.md")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks_of(page: Path) -> Iterator[Block]:
    lines = iter(enumerate(page.read_text().splitlines(), 1))
    before = ""
    for number, line in lines:
        if opening := _FENCE.match(line):
            text = _until_the_end(lines)
            yield Block(f"{name_of(page)}:{number}", *_described(opening[1], before, text), text)
        before = line or before


def _until_the_end(lines: Iterator[tuple[int, str]]) -> str:
    found: list[str] = []
    for _, line in lines:
        if _FENCE.match(line):
            return textwrap.dedent("".join(f"{each}\n" for each in found))
        found.append(line)
    raise AssertionError("a block has no end")


def _described(info: str, before: str, text: str) -> tuple[str, str]:
    """Kind and title."""
    kind, _, rest = info.strip().partition(" ")
    found = _TITLE.search(rest) or _NAMED_BEFORE.match(before) or _NAMED_WITHIN.match(text)
    return kind, found[1] if found else ""


def sentences_of(page: Path) -> Iterator[tuple[str, str]]:
    """The place of each line outside of blocks, and the line."""
    is_within = False
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if _FENCE.match(line):
            is_within = not is_within
        elif not is_within:
            yield f"{name_of(page)}:{number}", line


def commands_within(page: Path) -> Iterator[tuple[str, str]]:
    """The place of each command in a sentence or a table, and the command."""
    for place, line in sentences_of(page):
        for command in _COMMAND_WITHIN.findall(line):
            yield place, command.replace("\\|", "|")
