"""An image becomes a file that every engine reads, or a Containerfile; and how it gets to a registry."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from percore.common.passwords import for_programs
from percore.deploy.command_line import relative
from percore.deploy.image.base import Base
from percore.deploy.image.containerfile import write_context
from percore.deploy.image.layer import ImageLayer
from percore.deploy.image.layout import Image, write_archive
from percore.deploy.report import Report
from percore.errors import PercoreError, PreflightError, UsageError

OCI, CONTAINERFILE = "oci", "containerfile"


@dataclass(frozen=True)
class ImageWish:
    """What was asked for. Empty: where percore writes, and the format that this machine can make."""

    output: str = ""
    format: str = ""
    push: bool = False
    new_base: bool = False

    def require_known(self) -> None:
        if self.format not in ("", OCI, CONTAINERFILE):
            raise UsageError(f"there is no format '{self.format}'", where="--format", next=f"{OCI} or {CONTAINERFILE}")
        if self.push and self.format == CONTAINERFILE:
            raise UsageError("a Containerfile is no image yet, so --push has nothing to push", where="--format")


def write_image(image: Image, base: Base, path: Path, report: Report, *, as_context: bool) -> None:
    if as_context:
        _write_context(image, base, path)
        engine = next((name for name in ("buildah", "podman", "docker") if shutil.which(name)), "buildah")
        report.finish(
            f"{relative(path)}/ -> {engine} build --tag {image.reference} {_file_option(engine, path)}{relative(path)}"
        )
    else:
        write_archive(image, path)
        report.finish(f"{image.reference}: {relative(path)}, {image.bytes / 1e6:.1f} MB, sha256:{image.digest}")


def _file_option(engine: str, path: Path) -> str:
    """Docker looks for a Dockerfile."""
    return f"--file {relative(path)}/Containerfile " if engine == "docker" else ""


def _write_context(image: Image, base: Base, path: Path) -> None:
    """An image of a registry is named, not copied: its owner's updates come with another digest."""
    origin = "scratch" if base.layers else base.name
    write_context(path, origin, image.layers, image.config, adds_user=not base.layers)


def push(image: Image, path: Path, report: Report) -> None:
    """By skopeo, which knows where its user is logged in."""
    words = push_command(image, path)
    if not shutil.which("skopeo"):
        raise PreflightError(
            "skopeo is missing here, which pushes images", next=f"install it, or on another machine: {' '.join(words)}"
        )
    report.phase("push", image.reference)
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=for_programs(), check=False
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        raise PercoreError(
            f"skopeo could not push it: {lines[-1] if lines else 'no output'}",
            where=image.reference,
            detail=done.stderr.strip(),
            next=f"skopeo login {image.reference.partition('/')[0]}, then again",
        )
    report.finish(f"pushed {image.reference}")


def push_command(image: Image, path: Path) -> list[str]:
    return ["skopeo", "copy", f"oci-archive:{relative(path)}", f"docker://{image.reference}"]


def rows_of(layers: Sequence[ImageLayer]) -> list[list[object]]:
    """What the image holds, with sizes."""
    rows: list[list[object]] = [[layer.title, _mb(layer.unpacked_bytes), _mb(layer.bytes)] for layer in layers]
    return [
        *rows,
        ["all", _mb(sum(layer.unpacked_bytes for layer in layers)), _mb(sum(layer.bytes for layer in layers))],
    ]


def as_json(image: Image, path: Path) -> Mapping[str, Any]:
    layers = [
        {
            "title": each.title,
            "digest": f"sha256:{each.digest}",
            "bytes": each.bytes,
            "unpacked_bytes": each.unpacked_bytes,
        }
        for each in image.layers
    ]
    return {"reference": image.reference, "digest": f"sha256:{image.digest}", "path": str(path), "layers": layers}


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
