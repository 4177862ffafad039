"""Manifests judged by others: the schemas of three versions of Kubernetes, kubectl without a server, checkov."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from percore.deploy.kubernetes import verb
from percore.deploy.rollout.scope import Scope
from tests.bench.deploy.tools import install
from tests.manifests import API, WORKER, render, write_project

PROJECT = Path(__file__).resolve().parents[2]
OTHERS = PROJECT / "tests" / "supervisor" / "pm2files"

ALLOWED = {
    "CKV_K8S_15": "a release's tag never means another image, so it need not be pulled each time",
    "CKV_K8S_43": "the same",
    "CKV_K8S_35": "apps read their secrets in variables",
    "CKV_K8S_8": "an app without a port is watched by the supervisor in its pod alone",
    "CKV2_K8S_6": "who may reach whom is known to the operator alone",
}
"""Checks of checkov that are not met, and why. None of them is one that its authors call severe."""

JOB = {"name": "backup", "script": "app.py", "cron": "30 4 * * 7", "timezone": "Europe/Berlin", "timeout": "1h"}
ONCE = {"name": "migrate", "script": "app.py", "autorestart": False, "stop_exit_codes": [3]}
RICH: dict[str, Any] = {
    "apps": [
        {**API, "health": "/up", "max_memory_restart": "300M", "depends_on": ["migrate", "db"], "app_metrics": "/metrics"},
        {**API, "name": "TLS.App", "port": 80, "health": "https://shop.example.com/up", "port_per_worker": True},
        {"name": "db", "exec_mode": "cluster", "script": "app.py", "listen": [7000, "[::1]:7001"], "env": {"API_KEY": "abc-1"}},
        WORKER,
        ONCE,
    ],
    "jobs": [JOB, {**JOB, "name": "0-queue", "cron": "@daily", "overlap": "queue"}],
}  # fmt: skip
VARIANTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "plain": ([API, WORKER], {}),
    "ingress": (
        RICH,
        {
            "nginx_certificate": "/c.pem", "nginx_rate_limits": {"/": "9r/s", "/login": "3r/m"}, "nginx_sticky": "cookie",
            "nginx_upstream": "per_worker", "shared": ["uploads"], "release_command": "echo $(date)", "soak_seconds": 5,
            "env": {"N": "1e3", "LINES": "a\nb", "DATABASE_URL": "postgres://u:pw-4711@db/x"},
            "kubernetes": {
                "create_namespace": True, "autoscale": {"max": 9}, "cluster_issuer": "le", "writable": ["/app/cache"],
                "image_pull_secret": "pull", "apps": {"worker": {"replicas": 2}},
            },
        },
    ),
    "gateway": (
        RICH,
        {
            "nginx_hsts": "max-age=60", "load_balancers": ["10.0.0.1"],
            "kubernetes": {"gateway": "infra/web", "metrics": "podmonitor"},
        },
    ),
    "local": ([API], {"nginx": False, "port": "", "service_manager": "process", "kubernetes": {"metrics": "none"}}),
}  # fmt: skip


def others() -> list[Path]:
    """Process files that others wrote, whose programs are there."""
    found = [
        path
        for path in sorted(OTHERS.iterdir())
        if path.suffix in (".json", ".yml") and path.stem not in ("malformed", "binary")
    ]
    return [*found, PROJECT / "examples" / "pyapi" / "ecosystem.yml"]


def write_other(folder: Path, process_file: Path) -> Scope:
    scope = write_project(folder, [API])
    shutil.rmtree(folder / "app")
    shutil.copytree(process_file.parent, folder / "app")
    inventory = yaml.safe_load(scope.inventory_path.read_text())
    inventory["all"]["vars"]["process_file"] = process_file.name
    scope.inventory_path.write_text(yaml.safe_dump(inventory))
    return scope


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of directories with manifests, of apps of all kinds."""
    top, found = tmp_path_factory.mktemp("projects"), tmp_path_factory.mktemp("manifests")
    scopes = {name: write_project(top / name, app, **variables) for name, (app, variables) in VARIANTS.items()}
    scopes |= {path.name.replace(".", "-"): write_other(top / path.name, path) for path in others()}
    for name, scope in scopes.items():
        assert render(scope, with_secrets=name == "ingress")
        shutil.copytree(verb.directory_of(scope), found / name)
    return found


def run(*words: str, given: str = "") -> str:
    done = subprocess.run(words, input=given, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{words}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


JUDGE = """
import json, sys
import kubernetes_validate, yaml
from pathlib import Path

root = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
known = {tuple(map(int, path.name[1:].split("-")[0].split(".")[:2])) for path in root.iterdir()}
versions = [f"{major}.{minor}" for major, minor in sorted(known)[-3:]]
judged, faults = 0, []
for path in sorted(Path(sys.argv[1]).rglob("*.yaml")):
    for each in yaml.safe_load_all(path.read_text()):
        if each["kind"] in ("Kustomization", "HTTPRoute", "PodMonitor"):
            continue
        for version in versions:
            try:
                kubernetes_validate.validate(each, version, strict=True)
                judged += 1
            except Exception as error:
                faults.append(f"{path} {each['kind']} {version}: {error}"[:400])
print(json.dumps({"versions": versions, "judged": judged, "faults": faults}))
"""


def test_all_objects_fit_the_schemas_of_the_three_newest_versions(manifests: Path) -> None:
    found = json.loads(run(str(install("kubernetes-validate") / "python"), "-W", "ignore", "-c", JUDGE, str(manifests)))
    assert found["faults"] == []
    assert len(found["versions"]) == 3
    assert found["judged"] > 300


def test_kubectl_reads_every_file_and_kustomize_finds_every_object(manifests: Path) -> None:
    """Without a server it knows no defaults and no rules of admission, but it decodes each object into its own types."""
    for directory in sorted(manifests.iterdir()):
        listed = yaml.safe_load((directory / "kustomization.yaml").read_text())["resources"]
        built = list(yaml.safe_load_all(run("kubectl", "kustomize", str(directory))))
        written = [each for name in listed for each in yaml.safe_load_all((directory / name).read_text())]
        assert len(built) == len(written)
        for path in directory.glob("*.yaml"):
            if path.name != "kustomization.yaml":
                run("kubectl", "label", "--local", "-f", str(path), "judged=yes", "-o", "name")


def test_checkov_finds_nothing_but_what_is_known_and_said(manifests: Path) -> None:
    checkov = install("checkov") / "checkov"
    words = ("--framework", "kubernetes", "--skip-download", "--quiet", "--compact", "--soft-fail", "-o", "json")
    found = json.loads(run(str(checkov), "-d", str(manifests), *words))
    failed = {
        each["check_id"]: f"{each['check_name']}: {each['resource']}" for each in found["results"]["failed_checks"]
    }
    assert {check: what for check, what in failed.items() if check not in ALLOWED} == {}
    assert {*failed} == {*ALLOWED}, "a check that is met now is not allowed any more"
    assert found["summary"]["passed"] > 1000
