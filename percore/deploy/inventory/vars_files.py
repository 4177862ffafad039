"""`group_vars/` and `host_vars/` beside an inventory: which files Ansible reads for a name, and in which order."""

from __future__ import annotations

from pathlib import Path

from percore.deploy.yaml_files import Origin, read_document
from percore.errors import UsageError

DEEPEST_DIRECTORY = 10
ENDINGS = ("", ".yml", ".yaml", ".json")


class VariableFiles:
    """Reads each file once. `warnings` name files there that Ansible leaves out."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._read: dict[tuple[str, str], dict[str, Origin]] = {}
        self.warnings: list[str] = []

    def read(self, kind: str, name: str) -> dict[str, Origin]:
        """The variables of a group or host; `kind` is group_vars or host_vars."""
        if (kind, name) not in self._read:
            found: dict[str, Origin] = {}
            for path in self._found(self._directory / kind, name):
                document = read_document(path)
                if document.root is not None:
                    found.update(document.origins(document.root))
            self._read[kind, name] = found
        return self._read[kind, name]

    def _found(self, directory: Path, name: str) -> list[Path]:
        try:
            return self._files(directory, name)
        except OSError as error:
            raise UsageError(f"it cannot be read: {error.strerror}", where=str(error.filename or directory)) from None

    def _files(self, directory: Path, name: str) -> list[Path]:
        """The first of NAME, NAME.yml, NAME.yaml, NAME.json that is there: a file, or a directory of files."""
        if "/" in name or name in (".", ".."):
            return []
        there = [path for ending in ENDINGS if (path := directory / f"{name}{ending}").exists()]
        if not there:
            return []
        first, *others = there
        for other in others:
            self.warnings.append(f"{other} is not read, because {first} is there (as in Ansible)")
        return self._inside(first) if first.is_dir() else [first]

    def _inside(self, directory: Path, depth: int = 0) -> list[Path]:
        if depth > DEEPEST_DIRECTORY:
            raise UsageError(f"it lies more than {DEEPEST_DIRECTORY} directories deep", where=str(directory))
        found: list[Path] = []
        for path in sorted(directory.iterdir(), key=lambda path: path.name):
            if path.name.startswith(".") or path.name.endswith("~"):
                continue
            if path.is_dir() and not path.suffix:
                found += self._inside(path, depth + 1)
            elif path.is_file() and path.suffix in ENDINGS:
                found.append(path)
            else:
                self.warnings.append(f"{path} is not read, because of its ending (as in Ansible)")
        return found
