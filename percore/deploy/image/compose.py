"""The layers of an image: its base, Node.js, percore and the app."""

from __future__ import annotations

import platform
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from percore.deploy.build.artifact import Artifact
from percore.deploy.build.host_package import make_package
from percore.deploy.image.base import Base, machine
from percore.deploy.image.contents import app_layer, node_layer, percore_layer
from percore.deploy.image.interpreters import find_nodes, require_python
from percore.deploy.image.layer import ImageLayer, Layers
from percore.deploy.image.leaks import require_none, secret_values
from percore.deploy.plan.settings import AppSettings
from percore.errors import PreflightError


def compose(
    settings: AppSettings, variables: Mapping[str, Any], artifact: Artifact, base: Base, project: Path, layers: Layers
) -> list[ImageLayer]:
    """Raises PreflightError for what could not run in it, or what nobody should read in it."""
    _require_linux(artifact)
    require_python(settings, artifact, base)
    require_none(artifact, secret_values(settings.env, variables.get("secrets", [])))
    nodes = [node_layer(layers, *build) for build in find_nodes(settings, variables, artifact)]
    package = make_package(project, system="Linux", machine=machine())
    return [
        *base.layers,
        *nodes,
        percore_layer(layers, package, base.files),
        app_layer(layers, artifact, settings.shared),
    ]


def _require_linux(artifact: Artifact) -> None:
    if platform.system() == "Linux" or artifact.python:
        return
    with tarfile.open(artifact.path) as tar:
        native = next((name for name in tar.getnames() if name.endswith((".node", ".so"))), "")
    if native:
        raise PreflightError(
            f"'{native}' was built for {platform.system()}, and an image needs it for Linux",
            next="make the image on Linux, such as in CI",
        )
