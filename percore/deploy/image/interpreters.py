"""Which Node.js the image of an app has, beside the Python of its base."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from percore.deploy.build.artifact import Artifact
from percore.deploy.build.node_runtime import NodeArchive, fetch_node
from percore.deploy.image.base import Base, machine
from percore.deploy.plan.settings import AppSettings
from percore.deploy.rollout.preflight import declared_node, declared_python, satisfies_node, satisfies_python
from percore.errors import PreflightError
from percore.supervisor.config.process_file import load_process_file

_USUAL_NODE = "22"
_SCRIPTS = (".js", ".cjs", ".mjs", ".ts")


class ImageNode(NamedTuple):
    """`wanted` is how the inventory writes its version."""

    wanted: str
    archive: NodeArchive
    is_default: bool


def find_nodes(settings: AppSettings, variables: Mapping[str, Any], artifact: Artifact) -> list[ImageNode]:
    """Those that a host would have: `node_version`, else what package.json asks for, and each of `node_versions`."""
    if not _needs_node(artifact):
        return []
    written = str(variables["node_version"]) if "node_version" in variables else "debian"
    asked = declared_node(artifact)
    usual = _USUAL_NODE if not asked or satisfies_node(f"{_USUAL_NODE}.99.0", asked) else asked
    wanted = usual if written == "debian" else written
    found = [_fetch(wanted, is_default=True)]
    if asked and not satisfies_node(found[0].archive.version, asked):
        raise PreflightError(
            f"the image would have Node {found[0].archive.version}, and package.json asks for {asked}",
            where=str(settings.path),
            next="set node_version in the inventory, or change 'engines'",
        )
    more = [str(version) for version in variables.get("node_versions", []) or [] if str(version) != wanted]
    return [*found, *(_fetch(version, is_default=False) for version in more)]


def _fetch(version: str, *, is_default: bool) -> ImageNode:
    return ImageNode(version, fetch_node(version, machine()), is_default)


def _needs_node(artifact: Artifact) -> bool:
    """A process file in JavaScript is read in the container, too."""
    if artifact.is_node or artifact.process_file.endswith(_SCRIPTS):
        return True
    apps = load_process_file(str(artifact.tree / artifact.process_file)).apps
    return any(PurePosixPath(app.interpreter).name == "node" for app in apps)


def require_python(settings: AppSettings, artifact: Artifact, base: Base) -> None:
    """Raises PreflightError where the app asks for another Python than the base has."""
    python, asked = base.files.python, declared_python(artifact)
    if settings.python_version and python and python != settings.python_version:
        raise _other_python(base, f"python_version is {settings.python_version}")
    if asked and python and not satisfies_python(f"{python}.99", asked):
        raise _other_python(base, f"pyproject.toml asks for {asked}")


def _other_python(base: Base, wanted: str) -> PreflightError:
    return PreflightError(
        f"the base has Python {base.files.python}, and {wanted}",
        where=f"image_base {base.name}",
        next="set image_base or python_version in the inventory",
    )
