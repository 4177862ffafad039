"""A hook of MkDocs: some pages of the repository that are outside of docs/ are pages of the site, and links to them lead there.

A link to another file of the repository, such as a program, becomes plain text. One to a file that does not exist stays, so that
`mkdocs build --strict` reports it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security-policy.md",
}
SECTIONS = {"How-to": "how-to", "Reference": "reference", "Explanation": "explanation", "Coming from": "coming-from"}
"""Of the menu, and where their pages are: one that mkdocs.yml does not name comes last."""

_FENCE = re.compile(r"(^ *```.*?^ *```$)", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\((?!\w+:|#)(?P<path>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")


def on_config(config: Any) -> Any:
    named = set(re.findall(r"[\w/-]+\.md", repr(config["nav"])))
    for section in config["nav"]:
        [(title, entries)] = section.items()
        if title in SECTIONS:
            found = sorted((ROOT / "docs" / SECTIONS[title]).glob("*.md"))
            entries += [page for path in found if (page := str(path.relative_to(ROOT / "docs"))) not in named]
    return config


def on_files(files: Files, *, config: Any) -> Files:
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Files) -> str:
    uri = page.file.src_uri
    source = next((name for name, generated in PAGES.items() if generated == uri), f"docs/{uri}")
    parts = _FENCE.split(markdown)
    parts[::2] = [move_links(part, source, uri) for part in parts[::2]]
    return "".join(parts)


def move_links(text: str, source: str, uri: str) -> str:
    """`source` is the file in the repository, `uri` the page on the site."""

    def moved(match: re.Match[str]) -> str:
        target = os.path.normpath(os.path.join(os.path.dirname(source), match["path"]))
        page = page_of(target)
        if page is None:
            return match["text"] if (ROOT / target).exists() else match[0]
        return f"[{match['text']}]({os.path.relpath(page, os.path.dirname(uri) or '.')}{match['anchor'] or ''})"

    return _LINK.sub(moved, text)


def page_of(target: str) -> str | None:
    """The site's page, or file, for a file of the repository."""
    return os.path.relpath(target, "docs") if target.startswith("docs/") else PAGES.get(target)
