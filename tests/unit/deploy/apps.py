"""Apps for tests of builds: directories written from a mapping, programs that stand for a package manager, small wheels."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from percore.deploy.build.app import build
from percore.deploy.build.artifact import Artifact
from percore.deploy.build.python import BuildTarget
from percore.deploy.plan.host_plan import make_plan
from percore.deploy.plan.settings import AppSettings
from tests.unit.deploy.planned import settings_of

PROJECT = Path(__file__).resolve().parents[3]
PROCESS_FILE = {"apps": [{"name": "web", "script": "./web.js"}]}


def write(directory: Path, files: Mapping[str, Any]) -> Path:
    """Files by name; what is not a text becomes JSON."""
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return directory


def settings(app: Path, **variables: Any) -> AppSettings:
    plan = make_plan("here", {"app_name": "web", "app_path": ".", **variables}, env="test", project=PROJECT)
    return dataclasses.replace(settings_of(plan), path=app)


def make(app: Path, said: list[str] | None = None, target: BuildTarget | None = None, **variables: Any) -> Artifact:
    lines = [] if said is None else said
    return build(settings(app, **variables), app.parent / "project", lines.append, target)


def names(artifact: Artifact) -> set[str]:
    with tarfile.open(artifact.path) as tar:
        return set(tar.getnames())


def git(directory: Path, *words: str) -> str:
    who = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}
    done = subprocess.run(
        ["git", *words], cwd=directory, env={**os.environ, **who}, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def commit(directory: Path) -> str:
    """All that is there; the hash."""
    if not (directory / ".git").exists():
        git(directory, "init", "-q", "-b", "main")
    git(directory, "add", "-A")
    git(directory, "commit", "-q", "-m", "one")
    return git(directory, "rev-parse", "HEAD")


def wheel(directory: Path, name: str, *, tag: str = "py3-none-any", script: str = "", version: str = "1.0") -> None:
    """A package of one module that says for which tag it was made, with a console script if one is named."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": f"TAG = {tag!r}\n\ndef main():\n    print({name!r}, TAG)\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    if script:
        files[f"{info}/entry_points.txt"] = f"[console_scripts]\n{script} = {name}:main\n"
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in files) + f"{info}/RECORD,,\n"
    directory.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(directory / f"{name}-{version}-{tag}.whl", "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
