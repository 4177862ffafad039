"""A base that somebody else made: an OCI layout in a directory or a tar, or an image of a registry, which skopeo fetches."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from percore.common.passwords import for_programs
from percore.deploy.build.source_tree import hash_file
from percore.deploy.image.base import Base, architecture, read_files
from percore.deploy.image.layer import ImageLayer
from percore.deploy.whole import written_whole
from percore.errors import PreflightError, UsageError

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_PINNED = re.compile(r"\S+@sha256:[0-9a-f]{64}")
_OF_LAYOUT = re.compile(r"oci-layout|index\.json|blobs/sha256/[0-9a-f]{64}")
_TAR_TYPES = ("tar", "tar+gzip", "tar.gzip", "diff.tar", "diff.tar.gzip")
_MOST_JSON = 8 << 20


def import_base(name: str, project: Path) -> Base:
    """`oci:DIRECTORY`, `oci-archive:FILE`, from the project's directory on, or `NAME@sha256:...`."""
    kind, _, place = name.partition(":")
    if kind == "oci":
        return _read(name, project / place)
    if kind == "oci-archive":
        return _read(name, _unpack(name, project / place))
    require_pinned(name)
    return _read(name, _fetch(name))


def require_pinned(name: str) -> None:
    """What a tag means changes from day to day, and with it what was tested."""
    if not _PINNED.fullmatch(name):
        raise UsageError(
            f"image_base '{name}' is not pinned by its digest",
            next=f"write NAME@sha256:..., which 'skopeo inspect docker://{name}' shows, or oci-archive:FILE",
        )


def is_file(name: str) -> bool:
    return name.startswith(("oci:", "oci-archive:"))


def cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "percore" / "image"


def _fetch(name: str) -> Path:
    place = cache() / name.rpartition(":")[2][:16]
    if (place / "index.json").is_file():
        return place
    if not can_fetch():
        raise PreflightError(
            "skopeo is missing here, which fetches the base of an image",
            where=f"image_base {name}",
            next="install skopeo, or write a Containerfile: --format containerfile",
        )
    with written_whole(place) as unfinished:
        unfinished.mkdir()
        words = ["skopeo", "copy", "--quiet", "--override-os", "linux", "--override-arch", architecture()]
        done = subprocess.run(
            [*words, f"docker://{name}", f"oci:{unfinished}"], capture_output=True, text=True, check=False,
            env=for_programs(), stdin=subprocess.DEVNULL,
        )  # fmt: skip
        if done.returncode != 0:
            lines = done.stderr.strip().splitlines()
            raise PreflightError(
                f"skopeo could not fetch it: {lines[-1] if lines else 'no output'}", where=f"image_base {name}"
            )
    return place


def can_fetch() -> bool:
    return shutil.which("skopeo") is not None


def _unpack(name: str, archive: Path) -> Path:
    """Below the cache, by its own hash."""
    if not archive.is_file():
        raise UsageError("there is no such file", where=f"image_base {name}")
    place = cache() / f"archive-{hash_file(archive, archive.name).hex()[:16]}"
    if not place.is_dir():
        try:
            with written_whole(place) as unfinished, tarfile.open(archive) as tar:
                unfinished.mkdir()
                _take_layout(tar, unfinished)
        except (tarfile.TarError, EOFError, zlib.error) as error:
            raise UsageError(f"it is no whole tar: {error}", where=f"image_base {name}") from None
    return place


def _take_layout(tar: tarfile.TarFile, directory: Path) -> None:
    """The files of a layout and nothing else: the filters of tarfile are younger than Debian 12's Python."""
    for member in tar:
        name = member.name.removeprefix("./")
        content = tar.extractfile(member) if member.isreg() and _OF_LAYOUT.fullmatch(name) else None
        if content is not None:
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            with (directory / name).open("wb") as file:
                shutil.copyfileobj(content, file, 1 << 20)


def _read(name: str, layout: Path) -> Base:
    try:
        descriptor, manifest = _manifest(layout, json.loads((layout / "index.json").read_text()))
        config = _blob_json(layout, manifest["config"])
        pairs = zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True)
        layers = tuple(_layer(name, layout, written, diff_id) for written, diff_id in pairs)
        return Base(name, str(descriptor["digest"]), layers, config, read_files(layers))
    except (OSError, ValueError, LookupError, TypeError, tarfile.TarError) as error:
        raise UsageError(
            f"it is no image layout that can be read: {error}",
            where=f"image_base {name}",
            next="skopeo copy docker://NAME oci-archive:FILE writes one",
        ) from None


def _manifest(layout: Path, index: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Of this machine's kind, where there are several."""
    found = index["manifests"]
    ours = [each for each in found if each.get("platform", {}).get("architecture") in (None, architecture())]
    descriptor = (ours or found)[0]
    content = _blob_json(layout, descriptor)
    return _manifest(layout, content) if "manifests" in content else (descriptor, content)


def _blob(layout: Path, descriptor: Mapping[str, Any]) -> tuple[Path, str]:
    """Its path and its hash, which is that of its content."""
    match = _DIGEST.fullmatch(str(descriptor["digest"]))
    if match is None:
        raise ValueError(f"{descriptor['digest']!a} is no SHA-256")
    path = layout / "blobs" / "sha256" / match[1]
    if hash_file(path, path.name).hex() != match[1]:
        raise ValueError(f"the content of {path.name} is another one")
    return path, match[1]


def _blob_json(layout: Path, descriptor: Mapping[str, Any]) -> Any:
    path, _ = _blob(layout, descriptor)
    if path.stat().st_size > _MOST_JSON:
        raise ValueError(f"{path.name} is too large")
    return json.loads(path.read_text())


def _layer(name: str, layout: Path, written: Mapping[str, Any], diff_id: str) -> ImageLayer:
    kind = str(written["mediaType"]).rpartition("layer.v1.")[2].removeprefix("application/vnd.docker.image.rootfs.")
    if kind not in _TAR_TYPES:
        raise ValueError(f"its layers are compressed as {written['mediaType']}; gzip can be read")
    path, digest = _blob(layout, written)
    size = path.stat().st_size
    media_type = f"application/vnd.oci.image.layer.v1.tar{'+gzip' if 'gzip' in kind else ''}"
    return ImageLayer(f"base: {name}", path, digest, diff_id.removeprefix("sha256:"), size, _unpacked(path), media_type)


def _unpacked(path: Path) -> int:
    with tarfile.open(path) as tar:
        return sum(member.size for member in tar)
