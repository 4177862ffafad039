"""Which files of an app are its source, and which of the built tree are deployed. Patterns are in .gitignore's language."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pathspec import GitIgnoreSpec

from percore.deploy.build.git import WRITTEN, Repository
from percore.deploy.plan.settings import AppSettings
from percore.errors import UsageError

NEVER = ("/.git", "/.percore/", "**/.git/")
"""Not even where `artifact_include` names it."""

SECRET = (".env", ".env.*", "!.env.example", "!.env.sample", "!.env.schema", "!.env.template", "!.env.defaults")
MADE_BY_TOOLS = ("node_modules/", "__pycache__/", "*.pyc", ".venv/", ".DS_Store", "*.tsbuildinfo")
WITHOUT_GIT = ("*.log", "/coverage/")
"""What a .gitignore would name."""

OUTPUT = ("dist", "build")
"""Directories that a build command makes anew, so that a missing result is noticed."""

FOR_THE_BUILD = (
    ".npmrc", ".yarnrc", ".yarnrc.yml", ".pnpmfile.cjs", ".pypirc", "pip.conf", ".netrc",
    "/.next/cache/", ".turbo/", ".parcel-cache/", "/.yarn/", "*.tsbuildinfo", ".percore-installed",
)  # fmt: skip
"""Registry tokens, and caches of build tools: no host needs them."""

IN_DEPENDENCIES = (
    "node_modules/.cache/", "node_modules/.percore-installed", "node_modules/.modules.yaml", "node_modules/.yarn-*",
    "node_modules/.pnpm-workspace-state*", "__pycache__/",
)  # fmt: skip
"""Caches, and what managers note with the time and with paths of this machine."""

_DEPENDENCIES = re.compile(r"(^|/)(node_modules|python_packages)/")
_SHOWN = 8


@dataclass(frozen=True)
class Rules:
    """`ignored` are names as git lists them, directories with a slash at the end."""

    spec: GitIgnoreSpec
    include: GitIgnoreSpec
    ignored: frozenset[str] = frozenset()
    skipped: list[str] = field(default_factory=list)  # of what git ignores, what there is

    def leaves_out(self, name: str) -> bool:
        if _NEVER.match_file(name):
            return True
        is_ignored = self._is_ignored(name)
        if not is_ignored and not self.spec.match_file(name):
            return False
        if len(self.include) and (self.include.match_file(name) or self._may_hold_included(name)):
            return False
        if is_ignored:
            self.skipped.append(name)
        return True

    def _is_ignored(self, name: str) -> bool:
        """Of an ignored directory git lists the directory alone."""
        if name in self.ignored:
            return True
        ends = [match.end() for match in re.finditer("/", name)] if len(self.include) else []
        return any(name[:end] in self.ignored for end in ends)

    def _may_hold_included(self, name: str) -> bool:
        """A directory is looked into when a pattern may match something below it; what tools make, only when it is named."""
        if not name.endswith("/"):
            return False
        starts = [_start(str(pattern.pattern)) for pattern in self.include.patterns if pattern.include]
        is_made = _MADE.match_file(name)
        return any(start.startswith(name) or (name.startswith(start) and not is_made) for start in starts)

    @property
    def skipped_text(self) -> str:
        more = f" and {len(self.skipped) - _SHOWN} more" if len(self.skipped) > _SHOWN else ""
        return ", ".join(self.skipped[:_SHOWN]) + more


_NEVER = GitIgnoreSpec.from_lines(NEVER)
_MADE = GitIgnoreSpec.from_lines(MADE_BY_TOOLS)


def _start(pattern: str) -> str:
    """The directory that a pattern begins with; empty for one that matches at any depth."""
    literal = re.split(r"[*?\[]", pattern, maxsplit=1)[0]
    return literal.lstrip("/") if "/" in pattern.rstrip("/") else ""


def source_rules(
    settings: AppSettings, root: Path, repository: Repository | None, apart: Sequence[str], *, has_build: bool
) -> Rules:
    """What is copied for the build: not what git ignores, what tools make, results of a build, or directories `apart`."""
    kept = [f"/{name}/" for name in apart]
    include = to_spec(settings.artifact_include, "artifact_include")
    if repository is not None:
        made = [f"/{name}/" for name in OUTPUT if has_build and not repository.tracks(name)]
        return Rules(
            GitIgnoreSpec.from_lines([*MADE_BY_TOOLS, *SECRET, *made, *kept]), include, frozenset(repository.ignored())
        )
    made = [f"/{name}/" for name in OUTPUT if has_build]
    ignore = root / ".gitignore"
    written = ignore.read_text(errors="replace").splitlines() if ignore.is_file() else []
    return Rules(GitIgnoreSpec.from_lines([*written, *MADE_BY_TOOLS, *WITHOUT_GIT, *SECRET, *made, *kept]), include)


def directories_of_project(root: Path, project: Path, deploy_to: str) -> list[str]:
    """What of a project is no source of the app in it: inventories may hold secrets, and all of it changes without the app.

    `deploy_to` of this machine may be there as well, with every release and the sockets of the supervisor.
    """
    top = root.resolve()
    own = [project.resolve() / name for name in ("inventories", *WRITTEN)]
    paths = [*own, Path(deploy_to).resolve()]
    return [path.relative_to(top).as_posix() for path in paths if path != top and path.is_relative_to(top)]


def is_dependency(name: str) -> bool:
    return _DEPENDENCIES.search(name) is not None


class Packing:
    """What of the built tree is deployed: all but secrets, what only builds need, and `artifact_exclude`."""

    def __init__(self, settings: AppSettings) -> None:
        self._exclude = to_spec(settings.artifact_exclude, "artifact_exclude")
        self._include = to_spec(settings.artifact_include, "artifact_include")
        self._always = GitIgnoreSpec.from_lines(
            [*FOR_THE_BUILD, "__pycache__/", "*.pyc", ".venv/", ".DS_Store", *SECRET]
        )
        self._inside = GitIgnoreSpec.from_lines(IN_DEPENDENCIES)
        self._met: set[int] = set()

    def leaves_out(self, name: str) -> bool:
        if _NEVER.match_file(name) or self._is_excluded(name):
            return True
        if is_dependency(name):
            return self._inside.match_file(name)
        return self._always.match_file(name) and not self._include.match_file(name)

    def _is_excluded(self, name: str) -> bool:
        found = self._exclude.check_file(name)
        if found.index is not None:
            self._met.add(found.index)
        return bool(found.include)

    def idle(self, patterns: Sequence[str]) -> list[str]:
        """The patterns of `artifact_exclude` that met nothing."""
        return [text for number, text in enumerate(patterns) if number not in self._met and text[:1] not in "#!"]


def to_spec(patterns: Iterable[str], variable: str) -> GitIgnoreSpec:
    """A path that begins with ./ means the top, which .gitignore writes as a slash."""
    lines = [re.sub(r"^(!?)\./", r"\1/", pattern) for pattern in patterns]
    try:
        return GitIgnoreSpec.from_lines(lines)
    except ValueError as error:
        raise UsageError(f"variable '{variable}' has a pattern that cannot be read: {error}") from None
