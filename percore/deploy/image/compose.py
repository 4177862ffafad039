"""The layers of an image: its base, Node.js, percore and the app."""

from __future__ import annotations

import platform
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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

_ADDON = ".node"
_ABIS = {"16": 93, "18": 108, "20": 115, "22": 127, "24": 137}
"""NODE_MODULE_VERSION of each Node.js: an addon without Node-API is for one of them, and its name of a function says which."""

_ABI = re.compile(rb"node_register_module_v([0-9]+)")
_LIBC = re.compile(rb"GLIBC_2\.([0-9]+)")
_ELF_MACHINES = {"x86_64": 62, "aarch64": 183, "ppc64le": 21, "s390x": 22}


def compose(
    settings: AppSettings, variables: Mapping[str, Any], artifact: Artifact, base: Base, project: Path, layers: Layers
) -> list[ImageLayer]:
    """Raises PreflightError for what could not run in it, or what nobody should read in it."""
    _require_linux(artifact)
    require_python(settings, artifact, base)
    require_none(artifact, secret_values(settings.env, variables.get("secrets", [])))
    nodes = find_nodes(settings, variables, artifact)
    require_native(artifact, [each.archive.version for each in nodes], base)
    package = make_package(project, system="Linux", machine=machine())
    return [
        *base.layers,
        *(node_layer(layers, *build) for build in nodes),
        percore_layer(layers, package, base.files),
        app_layer(layers, artifact, settings.shared),
    ]


def _require_linux(artifact: Artifact) -> None:
    if platform.system() == "Linux" or artifact.python:
        return
    with tarfile.open(artifact.path) as tar:
        native = next((name for name in tar.getnames() if name.endswith((_ADDON, ".so"))), "")
    if native:
        raise PreflightError(
            f"'{native}' was built for {platform.system()}, and an image needs it for Linux",
            next="make the image on Linux, such as in CI",
        )


@dataclass
class _Addons:
    """The compiled files of one package: one that fits is enough, as packages bring some for each kind of machine."""

    name: str
    abis: set[int] = field(default_factory=set)
    libcs: set[int] = field(default_factory=set)


def require_native(artifact: Artifact, nodes: Sequence[str], base: Base) -> None:
    """Raises PreflightError for compiled parts of packages that load in none of these Node.js, or need a newer glibc."""
    known = {_ABIS.get(version.partition(".")[0]) for version in nodes}
    libc = int(base.files.libc.partition(".")[2] or 0)
    for addons in _find_addons(artifact):
        if nodes and addons.abis and None not in known and not addons.abis & known:
            majors = [major for major, abi in _ABIS.items() if abi in addons.abis]
            raise PreflightError(
                f"'{addons.name}' was built for Node.js {' or '.join(majors) or 'of another version'},"
                f" and the image has Node.js {', '.join(nodes)}",
                next=f"set node_version: {majors[0]}, or build with the other" if majors else "build with the other",
            )
        if libc and addons.libcs and min(addons.libcs) > libc:
            raise PreflightError(
                f"'{addons.name}' was built for glibc 2.{min(addons.libcs)}, and the image has 2.{libc}",
                where=f"image_base {base.name}",
                next="take a newer base, or build on an older system",
            )


def _find_addons(artifact: Artifact) -> Iterator[_Addons]:
    found: dict[str, _Addons] = {}
    with tarfile.open(artifact.path) as tar:
        for member in tar:
            if not (member.isreg() and member.name.endswith(_ADDON) and "node_modules/" in member.name):
                continue
            content = tar.extractfile(member)
            data = content.read() if content else b""
            if not _is_for_this_machine(data):
                continue
            above, _, inner = member.name.rpartition("node_modules/")
            package = "/".join(inner.split("/")[: 2 if inner.startswith("@") else 1])
            addons = found.setdefault(f"{above}{package}", _Addons(member.name))
            addons.abis.update(map(int, _ABI.findall(data)))
            addons.libcs.update({max(map(int, _LIBC.findall(data)), default=0)})
    yield from found.values()


def _is_for_this_machine(data: bytes) -> bool:
    number = data[18:20] if data[5:6] == b"\x02" else data[18:20][::-1]  # the file says in which order
    return data[:4] == b"\x7fELF" and int.from_bytes(number, "big") == _ELF_MACHINES.get(machine())
