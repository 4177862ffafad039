"""The image layout of the OCI in one tar, which Docker, podman, containerd and skopeo read; also as `docker save` writes it."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from percore.deploy.image.layer import ImageLayer
from percore.deploy.whole import written_whole

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


@dataclass(frozen=True)
class Image:
    """`labels` are those of its config, and the manifest's annotations as well."""

    reference: str
    layers: Sequence[ImageLayer]
    config: Mapping[str, Any]
    labels: Mapping[str, str]

    @property
    def config_bytes(self) -> bytes:
        return _json(self.config)

    @property
    def manifest_bytes(self) -> bytes:
        return _json(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": _descriptor(CONFIG, self.config_bytes),
                "layers": [layer.descriptor for layer in self.layers],
                "annotations": dict(self.labels),
            }
        )

    @property
    def digest(self) -> str:
        """Of its manifest: what a registry knows it by."""
        return hashlib.sha256(self.manifest_bytes).hexdigest()

    @property
    def bytes(self) -> int:
        return sum(layer.bytes for layer in self.layers)


def write_archive(image: Image, path: Path) -> None:
    """It appears whole. The same image gives the same bytes."""
    with written_whole(path) as unfinished, tarfile.open(unfinished, mode="w", format=tarfile.PAX_FORMAT) as tar:
        _fill(tar, image)


def _fill(tar: tarfile.TarFile, image: Image) -> None:
    _add(tar, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
    _add(tar, "index.json", _json(_index(image)))
    _add(tar, "manifest.json", _json(_for_docker(image)))
    for content in (image.config_bytes, image.manifest_bytes):
        _add(tar, _blob(hashlib.sha256(content).hexdigest()), content)
    for layer in {layer.digest: layer for layer in image.layers}.values():
        member = tarfile.TarInfo(_blob(layer.digest))
        member.size = layer.bytes
        with layer.path.open("rb") as source:
            tar.addfile(member, source)


def _index(image: Image) -> dict[str, Any]:
    names = {
        "io.containerd.image.name": image.reference,
        "org.opencontainers.image.ref.name": image.reference.rpartition(":")[2],
    }
    platform = {"architecture": image.config["architecture"], "os": image.config["os"]}
    manifest = {**_descriptor(MANIFEST, image.manifest_bytes), "platform": platform, "annotations": names}
    return {"schemaVersion": 2, "mediaType": INDEX, "manifests": [manifest]}


def _for_docker(image: Image) -> list[dict[str, Any]]:
    """Docker before 25 reads nothing else."""
    config = _blob(hashlib.sha256(image.config_bytes).hexdigest())
    return [
        {"Config": config, "RepoTags": [image.reference], "Layers": [_blob(layer.digest) for layer in image.layers]}
    ]


def _descriptor(media_type: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": f"sha256:{hashlib.sha256(content).hexdigest()}", "size": len(content)}


def _blob(digest: str) -> str:
    return f"blobs/sha256/{digest}"


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
