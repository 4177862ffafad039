"""An app's files, as far as `init` looks into them: not what tools make, and no more than a bounded number of them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import tomllib

NODE_ENDINGS = (".js", ".cjs", ".mjs", ".ts")
SOURCES = (".js", ".cjs", ".mjs", ".ts", ".cts", ".mts", ".jsx", ".tsx", ".py")
MADE = {
    "node_modules", "dist", "build", "out", "coverage", "vendor", "python_packages", "__pycache__", "venv", "env", "public",
    "static", "test", "tests", "__tests__", "spec", "e2e", "docs", "inventories",
}  # fmt: skip
"""Directories that hold no source of a server, or one that only tests run."""

MOST_FILES, MOST_BYTES, DEEPEST = 2000, 256 << 10, 6


class Found(NamedTuple):
    """A value and where it was found, as FILE:LINE."""

    value: str
    place: str


@dataclass(frozen=True)
class AppSource:
    """What lies in an app's directory. A file that cannot be read counts as missing: the build will name it."""

    directory: Path

    def has(self, name: str) -> bool:
        return (self.directory / name).is_file()

    def text(self, name: str) -> str:
        path = self.directory / name
        try:
            return path.read_text(encoding="utf-8", errors="replace") if path.stat().st_size <= MOST_BYTES else ""
        except OSError:
            return ""

    @cached_property
    def package(self) -> dict[str, Any]:
        """package.json; empty where there is none that can be read."""
        try:
            content = json.loads(self.text("package.json") or "{}")
        except ValueError:
            return {}
        return content if isinstance(content, dict) else {}

    @cached_property
    def pyproject(self) -> dict[str, Any]:
        try:
            return tomllib.loads(self.text("pyproject.toml"))
        except tomllib.TOMLDecodeError:
            return {}

    @property
    def is_node(self) -> bool:
        return self.has("package.json")

    @property
    def is_python(self) -> bool:
        return any(map(self.has, ("requirements.txt", "pyproject.toml", "manage.py", "Pipfile")))

    @property
    def scripts(self) -> dict[str, str]:
        """Of package.json."""
        return {
            name: line.strip() for name, line in _mapping(self.package.get("scripts")).items() if isinstance(line, str)
        }

    @property
    def development_dependencies(self) -> set[str]:
        """Of package.json: what hosts do not get."""
        return set(_mapping(self.package.get("devDependencies"))) - set(_mapping(self.package.get("dependencies")))

    @cached_property
    def dependencies(self) -> set[str]:
        """The names of what it needs, of either language, in lower case."""
        node = [name for key in ("dependencies", "devDependencies") for name in _mapping(self.package.get(key))]
        project = _mapping(self.pyproject.get("project"))
        poetry = _mapping(_mapping(_mapping(self.pyproject.get("tool")).get("poetry")).get("dependencies"))
        declared = [str(entry) for entry in project.get("dependencies") or []]
        lines = [*self._requirements("requirements.txt", set()), *declared]
        return {
            *node,
            *map(str.lower, poetry),
            *(re.split(r"[\s\[<>=!~;#]", line.strip().lower())[0] for line in lines),
        }

    def _requirements(self, name: str, seen: set[str]) -> Iterator[str]:
        """With the files that it names: `-r requirements/prod.txt`, as seen from it."""
        seen.add(name)
        for line in self.text(name).splitlines():
            inner = re.match(r"\s*(?:-r|--requirement)[\s=]*(\S+)", line)
            other = os.path.normpath(os.path.join(os.path.dirname(name), inner[1])) if inner else name
            yield from self._requirements(other, seen) if other not in seen else [line]

    @cached_property
    def sources(self) -> list[str]:
        """Names of source files, the ones nearest to the top first."""
        found = sorted(_walk(self.directory), key=lambda name: (name.count("/"), name))
        return found[:MOST_FILES]

    def search(self, pattern: re.Pattern[str], names: list[str] | None = None) -> Iterator[tuple[re.Match[str], str]]:
        """Every match in the given files, or in all sources, with its place."""
        for name in self.sources if names is None else names:
            for number, line in enumerate(self.text(name).splitlines(), 1):
                if not line.lstrip().startswith(("//", "#", "*")):
                    yield from ((match, f"{name}:{number}") for match in pattern.finditer(line[:1000]))


def _walk(top: Path) -> Iterator[str]:
    count = 0
    for directory, inner, files in os.walk(top):
        here = Path(directory).relative_to(top)
        deep = len(here.parts) >= DEEPEST
        inner[:] = [] if deep else sorted(name for name in inner if name not in MADE and not name.startswith("."))
        for name in files:
            count += 1
            if name.endswith(SOURCES) and not re.search(r"\.(test|spec|d|config)\.\w+$", name):
                yield (here / name).as_posix()
        if count > 10 * MOST_FILES:
            return


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
