"""What percore lays on a base, layer by layer; what changes least comes first."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from percore.deploy.build.artifact import Artifact
from percore.deploy.build.host_package import Package
from percore.deploy.build.node_runtime import NodeArchive
from percore.deploy.image.base import BaseFiles
from percore.deploy.image.layer import USER, ImageLayer, Layers, LayerWriter

APP, HOME, PACKAGES, NODES = "/app", "/run/percore", "/opt/percore", "/opt/node"
_COMMAND = f"""\
#!/bin/sh
# The command `percore` of this image.
PERCORE_HOME="${{PERCORE_HOME:-{HOME}}}"
export PERCORE_HOME
exec python3 -I -S {PACKAGES}/current "$@"
"""
_USER_NAME = "app"
_FORMAT = 2
"""Raised when the same things are to be written in another way."""


def node_layer(layers: Layers, wanted: str, build: NodeArchive, is_default: bool) -> ImageLayer:
    """Where the role `node` has it on a host."""

    def write(layer: LayerWriter) -> None:
        place = f"{NODES}/{build.version}".lstrip("/")
        wants = {"bin/node", "LICENSE"}.__contains__
        layer.unpacked(build.path, place, wants, strip="package/")
        if wanted != build.version:
            layer.link(f"{NODES}/{wanted}".lstrip("/"), build.version)
        if is_default:
            layer.link("usr/local/bin/node", f"{NODES}/{build.version}/bin/node")

    key = json.dumps([_FORMAT, "node", wanted, build.sha256, is_default])
    return layers.make(f"Node.js {build.version}", key, write)


def percore_layer(layers: Layers, package: Package, base: BaseFiles) -> ImageLayer:
    """percore as hosts get it, its command, the user, and the directory for its sockets."""
    accounts = {name: _with_user(name, base.texts[name]) for name in ("etc/passwd", "etc/group") if name in base.texts}

    def write(layer: LayerWriter) -> None:
        for name, text in accounts.items():
            layer.file(name, text.encode())
        layer.unpacked(package.path, f"{PACKAGES}/{package.id}".lstrip("/"))
        layer.link(f"{PACKAGES}/current".lstrip("/"), package.id)
        # Engines give a tmpfs over it this mode, and root as its owner.
        layer.directory(HOME.lstrip("/"), mode=0o1777, owner=USER)
        layer.file("usr/local/bin/percore", _COMMAND.encode(), mode=0o755)

    return layers.make("percore", json.dumps([_FORMAT, _COMMAND, package.sha256, accounts]), write)


def _with_user(name: str, text: str) -> str:
    """Programs look themselves up; a base that has the number keeps its name."""
    if re.search(rf"^[^:]*:[^:]*:{USER}:", text, re.MULTILINE):
        return text
    more = f"{USER}:percore app:/tmp:/usr/sbin/nologin" if name == "etc/passwd" else ""
    return f"{text.rstrip()}\n{_USER_NAME}:x:{USER}:{more}\n"


def app_layer(layers: Layers, artifact: Artifact, shared: Sequence[str]) -> ImageLayer:
    """The very archive that hosts get. Of directories that outlive releases there is an empty one each, to mount over."""

    def write(layer: LayerWriter) -> None:
        layer.directory(APP.lstrip("/"))
        layer.unpacked(artifact.path, APP.lstrip("/"))
        for name in shared:
            layer.directory(f"{APP}/{artifact.within(name)}".lstrip("/"), owner=USER)

    return layers.make("app", json.dumps([_FORMAT, "app", artifact.sha256, artifact.inner, list(shared)]), write)
