"""One layer of an image: the same files give the same bytes, whoever writes it, whenever and where."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from percore.deploy.build.source_tree import hash_file
from percore.deploy.whole import replace_file, written_whole

USER = 10001
"""Who runs in the image: no number of a distribution's own users."""

_OF_THE_BASE = ("etc", "opt", "run", "usr", "usr/local", "usr/local/bin")
_FIRST_TIME, _TIMES = 10**9, 6 * 10**8
_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"


@dataclass(frozen=True)
class ImageLayer:
    """`digest` is that of the file as it is, `diff_id` that of the tar in it; both without `sha256:`. Sizes in bytes."""

    title: str
    path: Path
    digest: str
    diff_id: str
    bytes: int
    unpacked_bytes: int
    media_type: str = _GZIP

    @property
    def descriptor(self) -> dict[str, Any]:
        return {"mediaType": self.media_type, "digest": f"sha256:{self.digest}", "size": self.bytes}


class LayerWriter:
    """Adds members in the order of the calls. Names begin at the root, without a slash."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self._made = set(_OF_THE_BASE)
        self.bytes = 0

    def directory(self, name: str, *, mode: int = 0o755, owner: int = 0) -> None:
        if name not in self._made:
            self._make_parents(name)
            self._made.add(name)
            self._tar.addfile(_member(name, tarfile.DIRTYPE, mode, owner))

    def file(self, name: str, content: bytes, *, mode: int = 0o644) -> None:
        """Its time stands for its content: who serves files tells by time and size whether one has changed."""
        self._make_parents(name)
        member = _member(name, tarfile.REGTYPE, mode)
        member.size = len(content)
        member.mtime = _FIRST_TIME + int(hashlib.sha256(content).hexdigest()[:8], 16) % _TIMES
        self._tar.addfile(member, io.BytesIO(content))
        self.bytes += len(content)

    def link(self, name: str, target: str) -> None:
        self._make_parents(name)
        member = _member(name, tarfile.SYMTYPE, 0o777)
        member.linkname = target
        self._tar.addfile(member)

    def unpacked(self, archive: Path, place: str, wants: Callable[[str], bool] = bool, *, strip: str = "") -> None:
        """What another archive holds, below `place`. Only files, links and directories, as percore's own archives have."""
        with tarfile.open(archive) as tar:
            for member in tar:
                inner = member.name.removeprefix(strip)
                if wants(inner):
                    self._take(tar, member, f"{place}/{inner}")

    def _take(self, tar: tarfile.TarFile, member: tarfile.TarInfo, name: str) -> None:
        if member.isdir():
            self.directory(name)
        elif member.issym():
            self.link(name, member.linkname)
        elif (content := tar.extractfile(member)) is not None:
            self.file(name, content.read(), mode=0o755 if member.mode & 0o111 else 0o644)

    def _make_parents(self, name: str) -> None:
        parent = name.rpartition("/")[0]
        if parent:
            self.directory(parent)


def _member(name: str, kind: bytes, mode: int, owner: int = 0) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.uid, member.gid, member.mtime = kind, mode, owner, owner, _FIRST_TIME
    return member


class Layers:
    """The layers of one project that were made before, by a key that stands for all that is in them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._used: set[str] = set()

    def make(self, title: str, key: str, write: Callable[[LayerWriter], None]) -> ImageLayer:
        return self._make(title, key, lambda out: _write_tar(out, write))

    def pack(self, title: str, key: str, tar: Path) -> ImageLayer:
        """A whole tar, as it is."""
        return self._make(title, key, lambda out: _copy(tar, out))

    def _make(self, title: str, key: str, write: Callable[[_Hashed], int]) -> ImageLayer:
        path = self._path(key)
        note = path.with_suffix(".json")
        if note.is_file() and path.is_file():
            known = ImageLayer(**{**json.loads(note.read_text()), "path": path})
            if path.stat().st_size == known.bytes:
                return known
        with written_whole(path) as unfinished:
            diff_id, unpacked = _compress(unfinished, write)
            digest, size = hash_file(unfinished, path.name).hex(), unfinished.stat().st_size
        layer = ImageLayer(title, path, digest, diff_id, size, unpacked)
        replace_file(note, json.dumps({**asdict(layer), "path": path.name}).encode())
        return layer

    def _path(self, key: str) -> Path:
        name = hashlib.sha256(key.encode()).hexdigest()[:16]
        self._used.add(name)
        return self._directory / f"{name}.layer"

    def forget_others(self) -> None:
        """What no image of this run needed."""
        for path in self._directory.glob("*.*"):
            if path.suffix in (".layer", ".json") and path.stem not in self._used:
                path.unlink()


def _compress(path: Path, write: Callable[[_Hashed], int]) -> tuple[str, int]:
    """The hash of the tar, and how many bytes its files have."""
    with path.open("wb") as out, gzip.GzipFile(filename="", mode="wb", fileobj=out, mtime=0, compresslevel=6) as packed:
        hashed = _Hashed(packed)
        unpacked = write(hashed)
    return hashed.digest.hexdigest(), unpacked


def _write_tar(out: _Hashed, write: Callable[[LayerWriter], None]) -> int:
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:  # type: ignore[call-overload]
        writer = LayerWriter(tar)
        write(writer)
    return writer.bytes


def _copy(tar: Path, out: _Hashed) -> int:
    with tar.open("rb") as source:
        shutil.copyfileobj(source, out, 1 << 20)
    return tar.stat().st_size


class _Hashed:
    """Writes on, and knows the hash of all that was written."""

    def __init__(self, out: IO[bytes] | gzip.GzipFile) -> None:
        self._out = out
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return self._out.write(data)
