"""Official builds of Node.js, as the npm registry carries them: fetched here once, checked, and kept for the next time."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from percore.common.passwords import for_programs
from percore.errors import PreflightError

MACHINES = {"x86_64": "x64", "aarch64": "arm64", "armv7l": "armv7l", "ppc64le": "ppc64le", "s390x": "s390x"}
NPM_SECONDS = 600
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True)
class NodeArchive:
    """A checked archive on this machine, whose directory `package` is the build. Sizes in bytes."""

    version: str
    path: Path
    sha256: str
    bytes: int
    unpacked_bytes: int


def fetch_node(version: str, machine: str) -> NodeArchive:
    """The newest build of `version`, which may be the beginning of one; PreflightError where there is none to be had."""
    if machine not in MACHINES:
        raise PreflightError(f"there are no builds of Node.js for {machine}", next="set node_version: debian")
    if not shutil.which("npm"):
        raise PreflightError(
            "npm is missing here, which fetches Node.js", next="install npm, or set node_version: debian"
        )
    name = f"node-linux-{MACHINES[machine]}"
    found = _newest(name, version)
    exact, integrity = str(found["version"]), str(found.get("dist.integrity", ""))
    if not integrity.startswith("sha512-"):
        raise PreflightError(f"the npm registry has no SHA-512 of {name}@{exact}", next="set a newer node_version")
    path = _cache() / f"{name}-{exact}.tgz"
    if not path.is_file() or not _is_intact(path, integrity):
        _download(f"{name}@{exact}", integrity, path)
    return NodeArchive(exact, path, _hash(path, "sha256").hex(), path.stat().st_size, _unpacked_bytes(path))


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "percore" / "node"


def _newest(name: str, version: str) -> dict[str, Any]:
    from semantic_version import Version

    wanted = f"{name}@{version}"
    said = json.loads(_npm(["view", wanted, "version", "dist.integrity", "--json"]) or "[]")
    found = [
        entry for entry in (said if isinstance(said, list) else [said]) if not Version(entry["version"]).prerelease
    ]
    if not found:
        raise PreflightError(f"the npm registry has no Node.js {version}", next="see: npm view node versions")
    return max(found, key=lambda entry: Version(entry["version"]))


def _download(wanted: str, integrity: str, path: Path) -> None:
    """It appears whole and checked, or not at all."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        _npm(["pack", wanted, "--pack-destination", folder])
        archive = next(Path(folder).glob("*.tgz"))
        if not _is_intact(archive, integrity):
            raise PreflightError(
                f"what npm brought as {wanted} is not what the registry says: its integrity value differs"
            )
        archive.rename(path)


def _is_intact(path: Path, integrity: str) -> bool:
    """`sha512-BASE64`, the strongest that npm knows."""
    kind, _, value = integrity.partition("-")
    return base64.b64encode(_hash(path, kind)).decode() == value


def _unpacked_bytes(path: Path) -> int:
    with tarfile.open(path) as archive:
        return sum(member.size for member in archive)


def _hash(path: Path, kind: str) -> bytes:
    digest = hashlib.new(kind)
    for piece in _pieces(path):
        digest.update(piece)
    return digest.digest()


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as source:
        yield from iter(lambda: source.read(_PIECE_BYTES), b"")


def _npm(words: list[str]) -> str:
    place = _cache()  # of this user alone: npm believes an .npmrc that lies where it is started
    place.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(
            ["npm", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, env=for_programs(),
            timeout=NPM_SECONDS, check=False, cwd=place,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise PreflightError(f"'npm {words[0]}' did not end within {NPM_SECONDS} s") from None
    if done.returncode != 0 and "E404" not in done.stdout + done.stderr:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise PreflightError(
            f"'npm {' '.join(words[:2])}' failed: {lines[0] if lines else 'no output'}",
            detail="\n".join(lines),
            next="see that the npm registry can be reached from here",
        )
    return done.stdout if done.returncode == 0 else ""
