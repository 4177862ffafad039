"""The tree that is built and deployed: the app's directory, or the workspace that it is a part of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomllib
import yaml

from percore.deploy.build.package_manager import read_package
from percore.errors import UsageError


@dataclass(frozen=True)
class Source:
    """`root` is copied, built and deployed; `inner` is the app's directory in it, empty where they are the same."""

    root: Path
    inner: str = ""

    @property
    def app(self) -> Path:
        return self.root / self.inner

    def within(self, name: str) -> str:
        """A name in the app's directory, from the root on."""
        return f"{self.inner}/{name}" if self.inner else name


def find_source(app: Path, top: Path | None) -> Source:
    """The workspace above the app that names it as a member, not above `top`, its repository; else the app itself."""
    for directory in _above(app.resolve(), top):
        inner = app.resolve().relative_to(directory).as_posix()
        if any(_matches(patterns, inner) for patterns in _member_patterns(directory)):
            return Source(directory, inner)
    return Source(app)


def _above(app: Path, top: Path | None) -> Iterator[Path]:
    for directory in app.parents:
        if top is None or not directory.is_relative_to(top.resolve()):
            return
        yield directory


def _member_patterns(directory: Path) -> Iterator[list[str]]:
    """Those of npm, yarn and bun; of pnpm; and of uv."""
    written = read_package(directory).get("workspaces")
    yield _texts(written.get("packages") if isinstance(written, dict) else written)
    yield _texts(_read_yaml(directory / "pnpm-workspace.yaml").get("packages"))
    yield _texts(read_pyproject(directory).get("tool", {}).get("uv", {}).get("workspace", {}).get("members"))


def _matches(patterns: list[str], inner: str) -> bool:
    """As the managers read them: a star stays in its directory, two do not, and a ! takes away again."""
    matches = False
    for pattern in patterns:
        if re.fullmatch(_expression(pattern.lstrip("!")), inner):
            matches = not pattern.startswith("!")
    return matches


def _expression(pattern: str) -> str:
    escaped = re.escape(pattern.removeprefix("./").strip("/"))
    return escaped.replace(r"\*\*/", "(?:.+/)?").replace(r"\*\*", ".+").replace(r"\*", "[^/]+")


def _texts(value: Any) -> list[str]:
    return [str(entry) for entry in value] if isinstance(value, list) else []


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"not valid YAML: {str(error).splitlines()[0]}", where=str(path)) from None
    return content if isinstance(content, dict) else {}


def read_pyproject(directory: Path) -> dict[str, Any]:
    """pyproject.toml; empty where there is none."""
    path = directory / "pyproject.toml"
    if not path.is_file():
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"not valid TOML: {error}", where=str(path)) from None


def node_members(root: Path, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """package.json by directory, of the root and of every workspace; `names` are the files of the source."""
    patterns = list(_member_patterns(root))
    inner = [name.removesuffix("/package.json") for name in names if name.endswith("/package.json")]
    members = [directory for directory in inner if any(_matches(each, directory) for each in patterns)]
    return {directory: read_package(root / directory) for directory in ["", *members]}
