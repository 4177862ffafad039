"""Projects that are written as manifests of Kubernetes, and the manifests as objects."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from percore.deploy.kubernetes import compare, verb
from percore.deploy.report import Report
from percore.deploy.rollout.scope import Scope

API: dict[str, Any] = {"name": "api", "script": "app.py", "instances": "max", "exec_mode": "cluster"}
WORKER: dict[str, Any] = {"name": "worker", "script": "app.py"}


def write_project(folder: Path, process_file: Any, hosts: int = 2, **variables: Any) -> Scope:
    """An app with this process file, a mapping or a list of apps, in the environment `eu` of so many hosts."""
    (folder / "app").mkdir(parents=True, exist_ok=True)
    (folder / "inventories").mkdir(exist_ok=True)
    (folder / "app" / "app.py").write_text("print('an app')\n")
    content = process_file if isinstance(process_file, Mapping) else {"apps": process_file}
    (folder / "app" / "ecosystem.yml").write_text(yaml.safe_dump(content, sort_keys=False))
    names = {f"web{number}": {} for number in range(1, hosts + 1)}
    known = {"app_name": "shop", "app_path": "app", "server_name": "shop.example.com", **variables}
    inventory = {"all": {"children": {"app": {"hosts": names}}, "vars": known}}
    (folder / "inventories" / "eu.yml").write_text(yaml.safe_dump(inventory, sort_keys=False))
    return Scope("eu", folder)


def render(scope: Scope, **options: Any) -> dict[str, Any]:
    """The objects, by kind and name."""
    verb.write_manifests(scope, Report(quiet=True), **{"check": False, "with_secrets": False, **options})
    return compare.read_objects(files_of(scope))


def files_of(scope: Scope) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(verb.directory_of(scope).iterdir())}


def pod_of(found: Any) -> Any:
    """The pod's spec, wherever the object has it."""
    spec = found["spec"]
    spec = spec["jobTemplate"]["spec"] if "jobTemplate" in spec else spec
    return spec["template"]["spec"]


def container_of(found: Any) -> Any:
    return pod_of(found)["containers"][0]
