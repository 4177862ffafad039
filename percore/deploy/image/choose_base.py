"""The base of this image: that of the inventory, or Debian."""

from __future__ import annotations

from pathlib import Path

from percore.deploy.image.base import Base, BaseFiles, architecture, read_files, require_fit
from percore.deploy.image.debian import can_make, debian_for, make_debian
from percore.deploy.image.import_base import can_fetch, import_base, is_file, require_pinned
from percore.deploy.image.layer import Layers
from percore.deploy.plan.settings import AppSettings
from percore.errors import PreflightError


def choose_base(settings: AppSettings, project: Path, layers: Layers, *, anew: bool) -> Base:
    """Raises PreflightError where this machine cannot have it, or percore could not run on it."""
    found = (
        _debian(settings, layers, anew=anew) if not settings.image_base else import_base(settings.image_base, project)
    )
    require_fit(found)
    return found


def can_have(settings: AppSettings) -> bool:
    """Whether this machine has what it takes to read the base."""
    return can_copy(settings) or (bool(settings.image_base) and can_fetch())


def can_copy(settings: AppSettings) -> bool:
    """Whether the base is files of this machine."""
    return is_file(settings.image_base) if settings.image_base else can_make()


def unread(settings: AppSettings) -> Base:
    """One that only who builds the Containerfile gets to see."""
    if not settings.image_base:
        raise PreflightError(
            "mmdebstrap is missing here, which makes the base of an image",
            next="on Debian: apt-get install mmdebstrap; elsewhere set image_base, such as python:3.13-slim@sha256:...",
        )
    require_pinned(settings.image_base)
    return Base(settings.image_base, settings.image_base.rpartition("@")[2], (), _config(), BaseFiles(frozenset(), {}))


def _debian(settings: AppSettings, layers: Layers, *, anew: bool) -> Base:
    suite = debian_for(settings.python_version)
    if not can_make():
        return unread(settings)
    tar = make_debian(suite, anew=anew)
    stat = tar.stat()
    layer = layers.pack(f"Debian {suite}", f"{tar.name} {stat.st_size} {stat.st_mtime_ns}", tar)
    return Base(f"debian:{suite}", "", (layer,), _config(), read_files([layer]))


def _config() -> dict[str, str]:
    return {"architecture": architecture(), "os": "linux"}
