"""No secret goes into an image: who may pull it could read it."""

from __future__ import annotations

import tarfile
from collections.abc import Mapping

from percore.deploy.build.artifact import Artifact
from percore.deploy.build.source_tree import shown
from percore.deploy.masking import SECRET_NAME, URL_PASSWORD
from percore.errors import PreflightError

_SHORTEST = 8
"""A shorter value stands in large files by chance."""


def secret_values(env: Mapping[str, str], declared: list[str]) -> dict[str, bytes]:
    """By name: variables in `secrets`, those that are called like one, and the passwords in URLs."""
    found = {name: value for name, value in env.items() if name in declared or SECRET_NAME.search(name)}
    found |= {name: match[1] for name, value in env.items() if (match := URL_PASSWORD.match(value))}
    return {name: value.encode() for name, value in found.items() if len(value) >= _SHORTEST}


def require_none(artifact: Artifact, secrets: Mapping[str, bytes]) -> None:
    """Raises PreflightError that names the variable and the file of the artifact which holds its value."""
    with tarfile.open(artifact.path) as tar:
        for member in tar if secrets else ():
            content = tar.extractfile(member) if member.isreg() else None
            data = content.read() if content else b""
            for name, value in secrets.items():
                if value in data:
                    raise PreflightError(
                        f"the value of {name} stands in '{shown(member.name)}': whoever may pull the image could read it",
                        next="keep it out of the build (env file, build_env) and read it when the app starts",
                    )
