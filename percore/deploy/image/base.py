"""What an image stands on: a root file system with a shell, Python and glibc."""

from __future__ import annotations

import platform
import re
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from percore.deploy.build.python import BuildTarget
from percore.deploy.image.layer import ImageLayer
from percore.errors import PreflightError

MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "ppc64le": "ppc64le", "s390x": "s390x"}
LEAST_PYTHON = (3, 9)
_READ = ("etc/passwd", "etc/group", "var/lib/dpkg/status", "usr/lib/os-release")
_LIBC = re.compile(r"^Package: libc6\n(?:.+\n)*?Version: (2\.[0-9]+)", re.MULTILINE)
_TITLE = re.compile(r'^PRETTY_NAME="?([^"\n]+)', re.MULTILINE)


def machine() -> str:
    """This machine's kind, as Linux calls it."""
    return "aarch64" if platform.machine() == "arm64" else platform.machine()


def architecture() -> str:
    """The same, as Go and so the OCI name it."""
    if machine() not in MACHINES:
        raise PreflightError(f"there are no images for this machine ({machine()})", next="build on another one")
    return MACHINES[machine()]


@dataclass(frozen=True)
class Base:
    """`name` is what the inventory calls it; `digest` that of its manifest, where it has one."""

    name: str
    digest: str
    layers: tuple[ImageLayer, ...]
    config: Mapping[str, Any]
    files: BaseFiles

    @property
    def environment(self) -> dict[str, str]:
        return dict(entry.split("=", 1) for entry in self.config.get("config", {}).get("Env") or [] if "=" in entry)

    @property
    def history(self) -> list[dict[str, Any]]:
        """Of as many steps as there are layers, or nothing is said of them."""
        written = [entry for entry in self.config.get("history") or [] if isinstance(entry, dict)]
        steps = [entry for entry in written if not entry.get("empty_layer")]
        return written if len(steps) == len(self.layers) else [{"created_by": self.name} for _ in self.layers]


@dataclass(frozen=True)
class BaseFiles:
    """What counts of the files of a base."""

    names: frozenset[str]
    texts: Mapping[str, str]

    @property
    def python(self) -> str:
        """As 3.12: of the interpreter that `python3` is."""
        versions = {
            match[1]
            for name in self.names
            if (match := re.fullmatch(r"(?:usr/)?(?:local/)?bin/python(3\.[0-9]+)", name))
        }
        return max(versions, key=lambda text: int(text[2:]), default="")

    @property
    def libc(self) -> str:
        found = _LIBC.search(self.texts.get("var/lib/dpkg/status", ""))
        return found[1] if found else ""

    @property
    def title(self) -> str:
        found = _TITLE.search(self.texts.get("usr/lib/os-release", ""))
        return found[1] if found else "unknown system"

    def target(self, machine: str) -> BuildTarget:
        """The kind of host that it is."""
        return BuildTarget("Linux", machine, self.python, self.libc)


def read_files(layers: Sequence[ImageLayer]) -> BaseFiles:
    """Later layers win. What they take away counts as there: nobody takes a base's Python away."""
    names: set[str] = set()
    texts: dict[str, str] = {}
    for layer in layers:
        with tarfile.open(layer.path) as tar:
            for member in tar:
                name = member.name.removeprefix("./").strip("/")
                names.add(name)
                if name in _READ and (content := tar.extractfile(member)) is not None:
                    texts[name] = content.read().decode(errors="replace")
    return BaseFiles(frozenset(names), texts)


def require_fit(base: Base) -> None:
    """Raises PreflightError for one on which percore cannot run."""
    names = base.files.names
    if any(re.fullmatch(r"lib/ld-musl-.*\.so\.1", name) for name in names):
        raise _unfit(base, "it has musl instead of glibc, as Alpine does, and official builds of Node.js need glibc")
    if not {"bin/sh", "usr/bin/sh"} & names:
        raise _unfit(base, "it has no shell, which the command 'percore' is written for")
    python = base.files.python
    if not python or (3, int(python[2:])) < LEAST_PYTHON:
        raise _unfit(base, f"it has {f'Python {python}' if python else 'no Python'}, and percore needs 3.9 or newer")


def _unfit(base: Base, what: str) -> PreflightError:
    return PreflightError(
        f"an image cannot stand on this base: {what}",
        where=f"image_base {base.name}",
        next="take one such as python:3.13-slim, pinned by its digest, or leave image_base empty for Debian",
    )
