"""Tables of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield f"| {' | '.join('---' for _ in heads)} |"
    for row in rows:
        yield f"| {' | '.join(map(cell, row))} |"


def cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def code(text: str) -> str:
    """A bar in a table must be escaped, in code too."""
    return f"`{text}`" if text else ""


def sentence(text: str) -> str:
    """With a capital letter and a full stop; a name in code stays as it is."""
    text = text.strip()
    return (text[:1].upper() + text[1:] + ("" if text.endswith((".", ":")) else ".")) if text else ""
