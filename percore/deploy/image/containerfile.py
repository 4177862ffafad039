"""The image as a Containerfile with its context, for machines that build images themselves; Docker reads it as well."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from percore.deploy.image.layer import USER, ImageLayer
from percore.deploy.whole import replace_file, written_whole

_FILE = "Containerfile"
_HEAD = "# Written by percore, which writes it anew each time. buildah, podman and docker build it.\n"


def write_context(
    directory: Path, origin: str, layers: Sequence[ImageLayer], config: Mapping[str, Any], *, adds_user: bool
) -> None:
    """`origin` is what the image is made from: another image, or `scratch`. Archives of an earlier run go."""
    directory.mkdir(parents=True, exist_ok=True)
    names = [f"{number}-{_word(layer.title)}.tar.gz" for number, layer in enumerate(layers, 1)]
    for name, layer in zip(names, layers, strict=True):
        with written_whole(directory / name) as unfinished:
            shutil.copyfile(layer.path, unfinished)
    for old in directory.glob("[0-9]*-*.tar.gz"):
        if old.name not in names:
            old.unlink()
    replace_file(directory / _FILE, _text(origin, names, config, adds_user=adds_user).encode())


def _text(origin: str, names: Sequence[str], config: Mapping[str, Any], *, adds_user: bool) -> str:
    made = config["config"]
    user = f"RUN echo 'app:x:{USER}:{USER}:percore app:/tmp:/usr/sbin/nologin' >>/etc/passwd"
    lines = [
        f"FROM {origin}",
        *(f"ADD {name} /" for name in names),
        *([user] if adds_user else []),
        *_pairs("LABEL", made["Labels"].items()),
        *_pairs("ENV", (entry.split("=", 1) for entry in made["Env"])),
        f"WORKDIR {made['WorkingDir']}",
        f"USER {made['User']}",
        *(f"EXPOSE {port}" for port in made.get("ExposedPorts", ())),
        f"STOPSIGNAL {made['StopSignal']}",
        f"ENTRYPOINT {json.dumps(made['Entrypoint'])}",
    ]
    return _HEAD + "\n".join([*lines, ""])


def _pairs(instruction: str, pairs: Any) -> list[str]:
    """One instruction for all of them."""
    written = [f"{name}={_quoted(value)}" for name, value in pairs]
    return [f"{instruction} " + " \\\n    ".join(written)] if written else []


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
    return f'"{escaped}"'


def _word(title: str) -> str:
    return "".join(char if char.isalnum() or char in "." else "-" for char in title.lower().split(":")[0]).strip("-")
