"""How a container of the image starts, and what is written on it."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from percore.deploy.build.artifact import Artifact
from percore.deploy.image.base import Base
from percore.deploy.image.contents import APP, HOME
from percore.deploy.image.layer import USER, ImageLayer
from percore.deploy.plan.settings import AppSettings
from percore.deploy.rollout.wanted import places_of_programs
from percore.supervisor.config.formats import read_content
from percore.supervisor.config.process_file import find_env, list_apps

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OWNER = f"{USER}:{USER}"
STOP_SIGNAL = "SIGTERM"


def make_config(
    settings: AppSettings, artifact: Artifact, base: Base, layers: Sequence[ImageLayer], labels: Mapping[str, str]
) -> dict[str, Any]:
    """The image's config, as the OCI has it."""
    created, version = (labels[f"org.opencontainers.image.{name}"] for name in ("created", "version"))
    own = layers[len(base.layers) :]
    ports: dict[str, Any] = {"ExposedPorts": {f"{settings.port}/tcp": {}}} if settings.port else {}
    return {
        "architecture": base.config["architecture"],
        "os": "linux",
        "created": created,
        "config": {
            "User": OWNER,
            **ports,
            "Env": [f"{name}={value}" for name, value in environment(settings, artifact, base, version).items()],
            "Entrypoint": entrypoint(settings, artifact),
            "WorkingDir": APP,
            "Labels": dict(labels),
            "StopSignal": STOP_SIGNAL,
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer.diff_id}" for layer in layers]},
        "history": [*base.history, *({"created": created, "created_by": f"percore: {layer.title}"} for layer in own)],
    }


def entrypoint(settings: AppSettings, artifact: Artifact) -> list[str]:
    """A pod chooses its app with `--only`."""
    words = ["percore", "runtime", artifact.process_file]
    env = settings.process_env or _own_env(settings, artifact)
    return [*words, "--env", env] if env else words


def _own_env(settings: AppSettings, artifact: Artifact) -> str | None:
    """The environment's name, where an app has variables for it: a deploy uses them without being told."""
    path = os.path.abspath(artifact.tree / artifact.process_file)
    apps = list_apps(read_content(path, None), path, [])
    return find_env(apps, settings.env_name, path, [])


def environment(settings: AppSettings, artifact: Artifact, base: Base, release: str) -> dict[str, str]:
    """Nothing of the inventory's own variables is in it but their names: values come with the container."""
    places = [posixpath.join(APP, place) for place in places_of_programs(artifact)]
    python = {"PYTHONPATH": posixpath.join(APP, artifact.python_packages)} if artifact.has_python_packages else {}
    port = {"PORT": str(settings.port)} if settings.port else {}
    names = sorted({*settings.env, *port})
    return {
        **base.environment,
        "PATH": ":".join([*places, base.environment.get("PATH", _PATH)]),
        "HOME": "/tmp",
        "LANG": "C.UTF-8",
        **python,
        **port,
        "PERCORE_HOME": HOME,
        "PERCORE_RELEASE": release,
        **({"PERCORE_HEALTH": settings.health_path} if settings.health_path else {}),
        **({"PERCORE_OVERRIDES": ",".join(names)} if names else {}),
    }


def make_labels(settings: AppSettings, artifact: Artifact, base: Base, release: str, moment: int) -> dict[str, str]:
    """Those of the OCI. What was built of changes that are in no commit says so, as `git describe --dirty` does."""
    commit = artifact.commit
    revision = {"revision": commit.sha + ("-dirty" if commit.is_dirty else "")} if commit else {}
    digest = {"base.digest": base.digest} if base.digest else {}
    found = {
        "title": settings.name,
        "version": release,
        "created": f"{datetime.fromtimestamp(moment, timezone.utc):%Y-%m-%dT%H:%M:%SZ}",
        **revision,
        "base.name": base.name,
        **digest,
    }
    return {f"org.opencontainers.image.{name}": value for name, value in found.items()}
