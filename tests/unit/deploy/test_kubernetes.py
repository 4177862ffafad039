"""Manifests of Kubernetes: what becomes of each key, what is promised there, and how the files are written."""

from __future__ import annotations

import base64
import dataclasses
import os
import re
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from percore.deploy.hand_off.settings import EdgeSettings, PeerSettings
from percore.deploy.kubernetes import compare, verb
from percore.deploy.kubernetes.cron import kubernetes_schedule
from percore.deploy.kubernetes.mapping import KEYS, VARIABLES, as_table
from percore.deploy.kubernetes.measured import Use, use_of
from percore.deploy.kubernetes.names import MOST, object_name, object_names
from percore.deploy.kubernetes.settings import KEYS as SETTINGS
from percore.deploy.kubernetes.yaml_text import yaml_text
from percore.deploy.plan.batches import Policy
from percore.deploy.plan.roles import load_roles
from percore.deploy.plan.settings import AppSettings, HostSettings
from percore.deploy.plan.site import SiteSettings
from percore.deploy.report import Report
from percore.deploy.rollout.diff import ChangesPending
from percore.deploy.rollout.scope import Scope
from percore.deploy.schema import Kind
from percore.errors import UsageError
from percore.supervisor.commands.runtime import make_runtime_parser, read_apps
from percore.supervisor.config.app import AppConfig
from percore.supervisor.config.job_reader import JOB_KEYS
from percore.supervisor.config.options import MODIFIERS, OPTIONS
from tests.manifests import API, WORKER, container_of, files_of, pod_of, render, write_project

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "how-to" / "kubernetes.md"
SECRET = "geheim-4711"
WITH_SECRET: dict[str, Any] = {
    "env": {"DATABASE_URL": f"postgres://shop:{SECRET}@db/shop"},
    "secrets": ["DATABASE_URL"],
}


# -- nothing is dropped --------------------------------------------------------------------------------------------------


def test_every_key_of_a_process_file_has_a_counterpart_or_says_why_not() -> None:
    known = {option.key for option in (*OPTIONS, *MODIFIERS)} | {f"jobs: {key}" for key in JOB_KEYS}
    assert known | {"static", "jobs", "env", "env_NAME", "env_file"} == {*KEYS}
    own = {"source", "release", "unknown", "env"}  # of a record, not of a file
    fields = {option.field for option in OPTIONS} | {key.field for key in JOB_KEYS.values()}
    assert {*AppConfig._fields} - own == fields, "a field that no key sets: say in mapping.py what becomes of it"


def variables_of(made: Any) -> set[str]:
    """Of a dataclass of settings, the variables of an inventory that it reads."""
    hints = {field.name: field.type for field in dataclasses.fields(made)}
    from typing import get_type_hints

    kinds = get_type_hints(made, include_extras=True)
    found = {
        (name, kind) for name in hints for kind in getattr(kinds[name], "__metadata__", ()) if isinstance(kind, Kind)
    }
    return {kind.variable or name for name, kind in found}


def test_every_variable_of_an_inventory_has_a_counterpart_or_says_why_not() -> None:
    roles = [role for role in load_roles(["app"], ROOT / "roles") if role.name in ("app", "nginx")]
    known = {name for role in roles for name in role.defaults}
    for made in (AppSettings, HostSettings, Policy, SiteSettings, EdgeSettings, PeerSettings):
        known |= variables_of(made)
    assert known - {"env_name"} - {*VARIABLES} == set()


def test_what_becomes_nothing_says_why() -> None:
    rows = [*KEYS.items(), *VARIABLES.items()]
    assert [key for key, row in rows if not row.becomes or (row.is_left and len(row.difference) < 16)] == []


@pytest.mark.parametrize(("rows", "head"), [(KEYS, "Key"), (VARIABLES, "Variable")])
def test_the_page_has_the_table_of_the_code(rows: Any, head: str) -> None:
    assert as_table(rows, head) in PAGE.read_text(), f"put this table into {PAGE.name}:\n{as_table(rows, head)}"


def test_the_page_explains_every_setting() -> None:
    text = PAGE.read_text()
    assert [key for key in SETTINGS if f"| `{key}` |" not in text] == []


def test_what_is_left_is_told_for_the_apps_and_variables_that_have_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    api = {
        **API,
        "log_keep": 3,
        "watch": ["src"],
        "user": "nobody",
        "listen": "127.0.0.1:9000",
        "env": {"API_KEY": "abc-123456"},
    }
    jobs = [
        {"name": "last", "script": "app.py", "cron": "0 0 L * *"},
        {"name": "q", "script": "app.py", "cron": "5 0 0 * * *", "overlap": "queue"},
    ]
    scope = write_project(
        tmp_path,
        {"apps": [api, WORKER], "jobs": jobs},
        nginx_gzip=True,
        hooks={"failed": "true"},
        roles=["app", "redis"],
    )
    verb.write_manifests(scope, Report(), check=False, with_secrets=False)
    told = capsys.readouterr().out
    for text in (
        "log_keep of api: there are no log files",
        "watch of api: the files of an image do not change",
        "api: user and group: the image has one user",
        "api: listen 127.0.0.1:9000: reached in the pod alone",
        "API_KEY: written in the process file, and so in the image as well",
        "worker: runs on each of 2 hosts today, and once in the cluster -> kubernetes.apps.worker.replicas makes more",
        "last: no CronJob is written, Kubernetes cannot say '0 0 L * *'",
        "q: begins at the minute: Kubernetes knows no seconds",
        "q: overlap: `queue` has no counterpart",
        "nginx_gzip: it is a setting of the controller",
        "hooks: they run on the control machine",
        "roles redis: what roles set up on hosts is not there",
        "cpu and memory of api, worker, last, q are percore's own guess",
    ):
        assert f"not the same: {text}" in told


# -- servers -------------------------------------------------------------------------------------------------------------


def test_a_cluster_is_a_deployment_that_never_has_fewer_pods_than_wanted(tmp_path: Path) -> None:
    found = render(write_project(tmp_path, [{**API, "kill_timeout": 8000}], hosts=3, soak_seconds=20))
    spec = found["Deployment api"]["spec"]
    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": "25%"}
    assert (spec["replicas"], spec["minReadySeconds"]) == (3, 20)
    assert pod_of(found["Deployment api"])["terminationGracePeriodSeconds"] == 5 + 8 + 5
    assert container_of(found["Deployment api"])["lifecycle"] == {"preStop": {"sleep": {"seconds": 5}}}
    assert found["PodDisruptionBudget api"]["spec"]["maxUnavailable"] == 1
    assert found["Service api"]["spec"]["ports"][0] == {
        "name": "http", "port": 5000, "targetPort": "http", "protocol": "TCP",
    }  # fmt: skip
    assert {each["topologyKey"] for each in pod_of(found["Deployment api"])["topologySpreadConstraints"]} == {
        "kubernetes.io/hostname", "topology.kubernetes.io/zone",
    }  # fmt: skip


def selectors_in(value: Any) -> list[dict[str, str]]:
    """Wherever they are in an object."""
    if isinstance(value, list):
        return [found for entry in value for found in selectors_in(entry)]
    if not isinstance(value, dict):
        return []
    own = [value[key] for key in ("matchLabels",) if key in value]
    own += (
        [value["selector"]]
        if isinstance(value.get("selector"), dict) and "matchLabels" not in value["selector"]
        else []
    )
    return own + [found for entry in value.values() for found in selectors_in(entry)]


def test_no_selector_has_what_changes_with_a_release_and_each_one_finds_its_pods(tmp_path: Path) -> None:
    wished = {"autoscale": {"max": 9}, "metrics": "podmonitor"}
    found = render(write_project(tmp_path, [{**API, "app_metrics": "/metrics"}, WORKER], kubernetes=wished))
    chosen = [each for name in found for each in selectors_in(found[name])]
    assert len(chosen) == 7  # Deployment, two of its spread, Service, budget, PodMonitor, StatefulSet
    assert {frozenset(each) for each in chosen} == {frozenset(("app.kubernetes.io/name", "app.kubernetes.io/instance"))}
    for name in ("Deployment api", "StatefulSet worker"):
        labels = found[name]["spec"]["template"]["metadata"]["labels"]
        assert found[name]["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_with_an_autoscaler_nobody_else_sets_the_number_of_pods(tmp_path: Path) -> None:
    found = render(write_project(tmp_path, [API, WORKER], kubernetes={"autoscale": {"min": 3, "max": 9, "cpu": 60}}))
    assert "replicas" not in found["Deployment api"]["spec"]
    spec = found["HorizontalPodAutoscaler api"]["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (3, 9)
    assert "HorizontalPodAutoscaler worker" not in found


def test_workers_of_a_pod_are_one_for_each_cpu_of_its_limit_or_as_many_as_are_wished(tmp_path: Path) -> None:
    scope = write_project(tmp_path, [API, {**API, "name": "web"}], kubernetes={"apps": {"web": {"workers_per_pod": 3}}})
    found = render(scope)
    assert not any("instances" in word for word in container_of(found["Deployment api"])["args"])
    assert "--instances=3" in container_of(found["Deployment web"])["args"]


def test_workers_with_ports_of_their_own_are_alone_in_their_pods(tmp_path: Path) -> None:
    found = render(write_project(tmp_path, [{**API, "port": 5000, "port_per_worker": True}]))
    assert "--instances=1" in container_of(found["Deployment api"])["args"]


def test_memory_leaves_room_for_the_supervisor_to_act_before_the_kernel(tmp_path: Path) -> None:
    apps = [{**API, "instances": 3, "max_memory_restart": "200M"}]
    resources = container_of(render(write_project(tmp_path, apps))["Deployment api"])["resources"]
    assert resources["limits"]["memory"] == "1072Mi"  # four workers of 200 MiB and a quarter more, and the supervisor
    assert resources["requests"]["memory"] == "672Mi"
    kubernetes = {"memory_limit": "512Mi", "cpu": "1500m"}
    resources = container_of(render(write_project(tmp_path, apps, kubernetes=kubernetes))["Deployment api"])[
        "resources"
    ]
    assert resources["limits"] == {"cpu": "1500m", "memory": "512Mi"}


# -- what must never run twice -------------------------------------------------------------------------------------------


def test_a_singleton_is_a_stateful_set_of_one_whatever_is_wished_for_servers(tmp_path: Path) -> None:
    wished = {"replicas": 5, "autoscale": {"max": 9}, "workers_per_pod": 4}
    found = render(write_project(tmp_path, [API, WORKER], hosts=3, kubernetes=wished))
    spec = found["StatefulSet worker"]["spec"]
    assert (spec["replicas"], spec["podManagementPolicy"]) == (1, "Parallel")
    assert container_of(found["StatefulSet worker"])["args"] == ["--only", "worker"]
    assert not {"Deployment worker", "PodDisruptionBudget worker", "Service worker"} & {*found}
    own = {"apps": {"worker": {"replicas": 3}}}
    assert render(write_project(tmp_path, [API, WORKER], kubernetes=own))["Deployment worker"]["spec"]["replicas"] == 3


def test_placement_on_one_host_is_a_singleton_also_for_a_cluster(tmp_path: Path) -> None:
    found = render(write_project(tmp_path, [API, {**API, "name": "one"}], hosts=3, placement={"one": "one"}))
    assert found["StatefulSet one"]["spec"]["replicas"] == 1
    assert "Deployment api" in found


# -- what runs and ends ----------------------------------------------------------------------------------------------------


def test_a_job_is_a_cron_job_that_percore_runs_at_once_in_its_pod(tmp_path: Path) -> None:
    job = {"name": "backup", "script": "app.py", "cron": "30 4 * * 7", "timezone": "Europe/Berlin", "timeout": "1h"}
    nightly = {"name": "nightly", "script": "app.py", "cron_restart": "0 3 * * *", "autorestart": False}
    found = render(write_project(tmp_path, {"apps": [API, nightly], "jobs": [job]}))
    spec = found["CronJob backup"]["spec"]
    assert (spec["schedule"], spec["timeZone"], spec["concurrencyPolicy"]) == ("30 4 * * 0", "Europe/Berlin", "Forbid")
    assert spec["jobTemplate"]["spec"]["activeDeadlineSeconds"] == 3600
    assert spec["jobTemplate"]["spec"]["backoffLimit"] == 0
    assert container_of(found["CronJob backup"])["args"] == ["--only", "backup", "--run-jobs"]
    assert found["CronJob nightly"]["spec"]["concurrencyPolicy"] == "Replace"


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("30 4 * * *", "30 4 * * *"), ("@daily", "@daily"), ("*/5 1-3 * JAN,jul MON", "*/5 1-3 * JAN,jul MON"),
        ("0 30 4 * * *", "30 4 * * *"), ("7 30 4 * * *", "30 4 * * *"), ("0 0 * * 1-7", "0 0 * * 0,1,2,3,4,5,6"),
        ("0 0 1 * 0-7", "0 0 1 * 0,1,2,3,4,5,6"), ("0 0 * * 5,7", "0 0 * * 0,5"), ("0 0 * * 5-7/2", "0 0 * * 0,5"),
        ("0 0 * * FRI-SUN", "0 0 * * 0,5,6"), ("0 0 * * MON-FRI", "0 0 * * MON-FRI"), ("? 4 ? * 1", "* 4 * * 1"),
        ("0 0 1-3,*/15 * 1", "0 0 1,2,3,16,31 * 1"), ("0 0 1 * */3", "0 0 1 * 0,3,6"), ("0 0 30 2 *", None),
        ("*/10 * * * * *", None), ("0 0 L * *", None),
        ("0 0 * * 5L", None), ("0 0 * * MON#2", None), ("0 0 1 jul ?", "0 0 1 jul *"), ("@reboot", None),
    ],
)  # fmt: skip
def test_times_are_said_as_kubernetes_reads_them_or_not_at_all(written: str, wanted: str | None) -> None:
    assert kubernetes_schedule(written) == wanted


def test_what_runs_before_a_release_is_no_part_of_what_is_applied_at_once(tmp_path: Path) -> None:
    api = {**API, "depends_on": ["migrate", "worker", "db"]}
    migrate = {"name": "migrate", "script": "app.py", "autorestart": False}
    db = {"name": "db", "script": "app.py", "port": 5000}
    command = {"run": "echo $(date) && npm run migrate", "app": "api"}
    scope = write_project(tmp_path, [api, migrate, WORKER, db], release_command=command, **WITH_SECRET)
    found = render(scope)
    listed = yaml.safe_load(files_of(scope)["kustomization.yaml"])["resources"]
    assert listed == ["api.yaml", "db.yaml", "shop-ingress.yaml", "worker.yaml"]
    job = container_of(found["Job shop-release"])
    assert job["command"][-1].endswith("; echo $$(date) && npm run migrate")  # $(...) is the shell's, not the kubelet's
    assert "envFrom" not in job  # it needs no ConfigMap of the release
    assert {"name": "PORT", "value": "5000"} in job["env"]
    assert pod_of(found["Deployment api"])["initContainers"][0]["command"] == ["percore", "ready", "--wait-for=db:5000"]
    assert "--depends-on=null" in container_of(found["Deployment api"])["args"]
    readme = files_of(scope)["README.md"].decode()
    first, second = (readme.index(f"kubectl apply -f {name}.yaml") for name in ("migrate", "shop-release"))
    assert first < second < readme.index("kubectl apply -k .")


# -- probes ----------------------------------------------------------------------------------------------------------------


def test_probes_have_the_numbers_of_the_process_file(tmp_path: Path) -> None:
    api = {**API, "health": "/up", "listen_timeout": 50_000, "health_interval": 4000, "liveness_timeout": 60_000}
    probes = container_of(render(write_project(tmp_path, [api]))["Deployment api"])
    check = {
        "path": "/up",
        "port": "http",
        "scheme": "HTTP",
        "httpHeaders": [{"name": "Host", "value": "shop.example.com"}],
    }
    assert probes["startupProbe"]["httpGet"] == check
    assert probes["startupProbe"]["periodSeconds"] * probes["startupProbe"]["failureThreshold"] == 60
    assert probes["readinessProbe"]["periodSeconds"] == 4
    assert probes["livenessProbe"]["periodSeconds"] * probes["livenessProbe"]["failureThreshold"] == 120


def test_without_an_http_check_the_supervisor_says_what_is_ready(tmp_path: Path) -> None:
    """Its sockets are open before a worker is: a connection would say that a broken release is ready."""
    apps = [{**API, "liveness_timeout": 0}, WORKER, {**API, "name": "grpc", "health": "h2c://localhost/"}]
    found = render(write_project(tmp_path, apps))
    for name in ("Deployment api", "StatefulSet worker", "Deployment grpc"):
        app = name.split()[1]
        for probe in ("startupProbe", "readinessProbe"):
            assert container_of(found[name])[probe]["exec"]["command"] == ["percore", "ready", app]
    assert "livenessProbe" not in container_of(found["Deployment api"])
    assert container_of(found["Deployment grpc"])["livenessProbe"]["tcpSocket"] == {"port": "http"}


# -- the environment -------------------------------------------------------------------------------------------------------


def test_the_arguments_of_a_pod_give_the_supervisor_what_a_deploy_gives_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = {**API, "port": 3000, "depends_on": ["worker"], "watch": True, "heap_snapshots": 2, "env": {"LEVEL": "file"}}
    wished = {"workers_per_pod": 2}
    scope = write_project(tmp_path, [api, WORKER], health_path="/up", env={"LEVEL": "debug"}, kubernetes=wished)
    container = container_of(render(scope)["Deployment api"])
    arguments = container["args"]
    for name, value in {
        "LEVEL": "debug",
        "PORT": "5000",
        **{each["name"]: each["value"] for each in container["env"]},
    }.items():
        monkeypatch.setenv(name, value)
    options = make_runtime_parser().parse_args([str(tmp_path / "app" / "ecosystem.yml"), *arguments])
    (config,) = read_apps(options)
    assert (config.name, config.port, config.health, config.health_host) == ("api", 5000, "/up", "shop.example.com")
    assert (config.instances, config.depends_on, config.watch, config.heap_snapshots) == (2, (), (), 0)
    assert config.env["LEVEL"] == "debug"  # the container's own counts


def test_a_config_map_is_another_one_when_its_content_is_and_the_same_otherwise(tmp_path: Path) -> None:
    def references(**variables: Any) -> tuple[str, str]:
        scope = write_project(tmp_path, [API, WORKER], **variables)
        render(scope)
        files = files_of(scope)
        return tuple(re.findall(r"name: (\w+-env-\w+)", files[f"{app}.yaml"].decode())[-1] for app in ("api", "worker"))  # type: ignore[return-value]

    first = references(env={"LEVEL": "info"})
    assert references(env={"LEVEL": "info"}, keep_releases=3) == first
    assert not {*references(env={"LEVEL": "debug"})} & {*first}


def test_a_secret_is_in_no_file_unless_it_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scope = write_project(tmp_path, [API, WORKER], release_command="npm run migrate", **WITH_SECRET)
    found = render(scope)
    assert not any(SECRET.encode() in content for content in files_of(scope).values())
    reference = {"secretKeyRef": {"name": "shop-secrets", "key": "DATABASE_URL"}}
    for name in ("Deployment api", "StatefulSet worker", "Job shop-release"):
        assert {"name": "DATABASE_URL", "valueFrom": reference} in container_of(found[name])["env"]
    verb.write_manifests(scope, Report(), check=False, with_secrets=True)
    told = capsys.readouterr().out
    assert "+ Secret shop-secrets" in told
    assert SECRET not in told
    path = verb.directory_of(scope) / "shop-secrets.yaml"
    assert base64.b64encode(f"postgres://shop:{SECRET}@db/shop".encode()).decode() in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "/shop-secrets.yaml" in (path.parent / ".gitignore").read_text().splitlines()
    assert f"{'0' * 64}  shop-secrets.yaml" in (path.parent / "SHA256SUMS").read_text()
    scope = write_project(tmp_path, [API, WORKER], env={"DATABASE_URL": "postgres://shop:another-one@db/shop"})
    verb.write_manifests(scope, Report(), check=False, with_secrets=True)
    told = capsys.readouterr().out
    assert "~ Secret shop-secrets: data.DATABASE_URL is another one" in told
    assert "by hand" not in told
    render(scope)
    assert not path.exists()  # what is not wished any more goes


def test_a_secret_can_go_to_the_cluster_by_a_pipe_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    scope = write_project(
        tmp_path, [{**API, "env": {"TOKEN": "one-1234"}}, {**WORKER, "env": {"TOKEN": "two-1234"}}], **WITH_SECRET
    )
    verb.print_secrets(scope)
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["metadata"]["name"] == "shop-secrets"
    assert {key: base64.b64decode(value).decode() for key, value in printed["data"].items()} == {
        "DATABASE_URL": f"postgres://shop:{SECRET}@db/shop", "TOKEN": "one-1234", "worker.TOKEN": "two-1234",
    }  # fmt: skip
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    with pytest.raises(UsageError, match="not printed on a terminal"):
        verb.print_secrets(scope)


def test_a_release_command_with_a_secret_in_it_is_refused(tmp_path: Path) -> None:
    scope = write_project(tmp_path, [API], release_command=f"migrate --password {SECRET}", **WITH_SECRET)
    with pytest.raises(UsageError, match="release_command holds a secret"):
        render(scope)


# -- the way in ------------------------------------------------------------------------------------------------------------


def test_what_nginx_was_told_is_said_to_ingress_nginx(tmp_path: Path) -> None:
    scope = write_project(
        tmp_path, [API], server_name="shop.example.com .example.org _", nginx_certificate="/etc/tls.pem", nginx_body_size="50m",
        nginx_read_timeout=90, nginx_rate_limits={"/": "40r/s", "/login": "30r/m"}, nginx_rate_burst=80,
        kubernetes={"ingress_annotations": {"example.com/own": "yes"}},
    )  # fmt: skip
    found = render(scope)
    ingress = found["Ingress shop"]
    notes = {name.rpartition("/")[2]: value for name, value in ingress["metadata"]["annotations"].items()}
    assert notes == {
        "proxy-body-size": "50m", "proxy-connect-timeout": "5", "proxy-read-timeout": "90", "proxy-send-timeout": "90",
        "ssl-redirect": "true", "limit-rps": "40", "limit-burst-multiplier": "2", "own": "yes",
    }  # fmt: skip
    names = ["shop.example.com", "example.org", "*.example.org"]
    assert [rule["host"] for rule in ingress["spec"]["rules"]] == names
    assert ingress["spec"]["tls"] == [{"hosts": names, "secretName": "shop-tls"}]
    (login,) = (each for name, each in found.items() if name.startswith("Ingress shop-login"))
    assert login["spec"]["rules"][0]["http"]["paths"][0]["path"] == "/login"
    assert login["metadata"]["annotations"]["nginx.ingress.kubernetes.io/limit-rpm"] == "30"


def test_a_gateway_gets_a_route_and_one_that_leads_to_https(tmp_path: Path) -> None:
    wished = {"gateway": "infra/web", "tls_secret": "shop-tls"}
    found = render(
        write_project(tmp_path, [API], nginx_certificate="/c.pem", nginx_hsts="max-age=60", kubernetes=wished)
    )
    route = found["HTTPRoute shop"]["spec"]
    assert route["parentRefs"] == [{"name": "web", "namespace": "infra", "sectionName": "https"}]
    assert route["rules"][0]["backendRefs"] == [{"name": "api", "port": 5000}]
    assert route["rules"][0]["filters"][0]["responseHeaderModifier"]["set"][0]["value"] == "max-age=60"
    redirect = found["HTTPRoute shop-redirect"]["spec"]
    assert redirect["rules"][0]["filters"][0]["requestRedirect"] == {"scheme": "https", "statusCode": 301}
    assert not any(name.startswith("Ingress") for name in found)


def test_without_nginx_nothing_leads_in_from_outside(tmp_path: Path) -> None:
    assert not any(
        name.startswith(("Ingress", "HTTPRoute")) for name in render(write_project(tmp_path, [API], nginx=False))
    )


# -- pods ------------------------------------------------------------------------------------------------------------------


def test_every_pod_fits_the_restricted_profile_and_says_what_it_may_write(tmp_path: Path) -> None:
    job = {"name": "backup", "script": "app.py", "cron": "@daily"}
    once = {"name": "once", "script": "app.py", "autorestart": False}
    scope = write_project(
        tmp_path, {"apps": [{**API, "depends_on": ["once", "api2"]}, {**API, "name": "api2"}, WORKER, once], "jobs": [job]},
        release_command="true", shared=["uploads"], kubernetes={"writable": ["/app/.next/cache"], "create_namespace": True},
    )  # fmt: skip
    found = render(scope)
    pods = [pod_of(each) for each in found.values() if each["kind"] in ("Deployment", "StatefulSet", "Job", "CronJob")]
    assert len(pods) == 6
    for pod in pods:
        assert pod["securityContext"].items() >= {"runAsNonRoot": True, "runAsUser": 10001, "runAsGroup": 10001}.items()
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
        for container in (*pod["containers"], *pod.get("initContainers", ())):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
            }  # fmt: skip
            assert container["resources"]["limits"].keys() == {"cpu", "memory"}
            assert {mount["name"] for mount in container["volumeMounts"]} <= {each["name"] for each in pod["volumes"]}
        paths = [mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]]
        assert paths == ["/run/percore", "/tmp", "/app/.next/cache", "/app/uploads"]
        assert pod["volumes"][-1]["persistentVolumeClaim"] == {"claimName": "shop-uploads"}
    assert found["Namespace shop"]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_a_low_port_needs_no_capability(tmp_path: Path) -> None:
    found = render(write_project(tmp_path, [API], port=80))
    sysctls = pod_of(found["Deployment api"])["securityContext"]["sysctls"]
    assert sysctls == [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]


# -- measured --------------------------------------------------------------------------------------------------------------


def test_requests_come_from_what_is_measured_unless_the_inventory_says_them(tmp_path: Path) -> None:
    figures = [("web1 7", size << 20, 20.0) for size in range(1, 101)]
    use = use_of(figures)
    assert use == Use(95 << 20, 100 << 20, 0.2, 100, 1)
    scope = write_project(tmp_path, [{**API, "instances": 2}])
    resources = container_of(render(scope, uses={"api": use})["Deployment api"])["resources"]
    assert resources["requests"] == {"cpu": "400m", "memory": "256Mi"}
    assert resources["limits"] == {"cpu": "1", "memory": "464Mi"}
    scope = write_project(tmp_path, [API], kubernetes={"apps": {"api": {"cpu": "2", "memory": "1Gi"}}})
    resources = container_of(render(scope, uses={"api": use})["Deployment api"])["resources"]
    assert resources["requests"] == {"cpu": "2", "memory": "1Gi"}


# -- files -----------------------------------------------------------------------------------------------------------------


def times(scope: Scope) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in verb.directory_of(scope).iterdir()}


def test_the_same_input_gives_the_same_bytes_and_what_changed_is_told_by_its_meaning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scope = write_project(tmp_path, [API, WORKER])
    render(scope)
    before = files_of(scope), times(scope)
    render(scope)
    assert (files_of(scope), times(scope)) == before
    other = write_project(tmp_path / "elsewhere", [API, WORKER])
    render(other)
    assert files_of(other).keys() == before[0].keys()
    (verb.directory_of(scope) / "mine.yaml").write_text("kind: Mine\n")
    scope = write_project(tmp_path, [API, {"name": "other", "script": "app.py"}], hosts=4, env={"LEVEL": "debug"})
    with pytest.raises(ChangesPending) as pending:
        verb.write_manifests(scope, Report(quiet=True), check=True, with_secrets=False)
    assert pending.value.exit_code == 8
    assert "worker.yaml" in files_of(scope)  # nothing was written
    capsys.readouterr()
    verb.write_manifests(scope, Report(), check=False, with_secrets=False)
    told = [line.strip() for line in capsys.readouterr().out.splitlines()]
    for line in (
        "- StatefulSet worker", "+ StatefulSet other", "~ Deployment api: spec.replicas 2 -> 4",
        "~ ConfigMap api-env: data.LEVEL (nothing) -> 'debug'", "left as it is: mine.yaml, which percore did not write",
    ):  # fmt: skip
        assert line in told
    assert "worker.yaml" not in files_of(scope)
    assert (verb.directory_of(scope) / "mine.yaml").exists()


def test_entries_of_a_list_are_compared_by_their_names_not_by_their_places() -> None:
    def deployment(*names: str) -> dict[str, bytes]:
        entries = [{"name": name, "value": name.upper()} for name in names]
        return {"a.yaml": yaml.safe_dump({"kind": "Deployment", "metadata": {"name": "a"}, "env": entries}).encode()}

    assert compare.changes(deployment("one", "two"), deployment("two", "one")) == []
    assert compare.changes(deployment("one"), deployment("zero", "one")) == [
        "~ Deployment a: env[zero].name (nothing) -> 'zero'", "~ Deployment a: env[zero].value (nothing) -> 'ZERO'",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    ["1e3", "0o17", "0x1f", "1_000", "12:30", "y", "No", "null", "~", "2026-01-01", "", " a", "a: b", "#x", "-", "é", "a\nb",
     "a\n\n b\t", "{{ x }}", "*a", "&a", "%", "@x", "`", "a #b", "NaN", ".5", "=", "<<", "\x85", "\u2028", "a:"],
)  # fmt: skip
def test_a_text_stays_a_text_for_every_parser(text: str) -> None:
    written = yaml_text({"key": text, text: "value"})
    assert yaml.safe_load(written) == {"key": text, text: "value"}
    scalar = written.splitlines()[0].removeprefix("key: ")
    assert scalar[:1] in ('"', "|") or re.fullmatch(r"[A-Za-z/][\w./-]+", scalar)


@given(st.lists(st.text(min_size=1, max_size=80), unique=True, max_size=12))
def test_each_name_of_an_app_is_another_name_of_objects(names: list[str]) -> None:
    found = object_names(names)
    assert len({*found.values()}) == len(names)
    assert all(re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", name) and len(name) <= MOST for name in found.values())
    assert object_name("boltlink-api") == "boltlink-api"


# -- settings --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "fault"),
    [
        ({"namespase": "x"}, "key 'kubernetes.namespase' is not known -> did you mean 'namespace'?"),
        ({"namespace": "Shop"}, "'kubernetes.namespace' should be a name of lower-case letters, digits and dashes and is 'Shop'"),
        ({"cpu": "1 core"}, "'kubernetes.cpu' should be an amount of CPU such as 500m, 1 or 1.5 and is '1 core'"),
        ({"memory": "512MB"}, "'kubernetes.memory' should be an amount of memory such as 512Mi, at least 32Mi and is '512MB'"),
        ({"memory": 512}, "at least 32Mi and is 512"),
        ({"cpu_limit": 0}, "such as 500m, 1 or 1.5 and is 0"),
        ({"cpu": 1.5, "apps": {"api": {"cpu_limit": 1}}}, "'kubernetes.apps.api': cpu 1.5 is more than cpu_limit 1 -> "),
        ({"memory": "1Gi", "memory_limit": "1000M"}, "'kubernetes': memory 1Gi is more than memory_limit 1000M"),
        ({"writable": ["/app/cache", "/app/"]}, "'kubernetes.writable' should be an absolute path that hides neither the app"),
        ({"writable": "/usr"}, "hides neither the app nor what it runs with, or a list of them and is '/usr'"),
        ({"volumes": {"uploats": "x"}}, "names 'uploats', which is no directory of 'shared' -> did you mean 'uploads'?"),
        ({"autoscale": {"min": 5, "max": 2}}, "'kubernetes.autoscale' should be a mapping such as {min: 2, max: 10, cpu: 70}"),
        ({"expose": "loadbalancer"}, "'kubernetes.expose' should be ingress or gateway or none and is 'loadbalancer'"),
        ({"expose": "gateway"}, "kubernetes.gateway is not set -> name the Gateway: NAMESPACE/NAME"),
        ({"apps": {"api": {"replicas": 0}}}, "'kubernetes.apps.api.replicas' should be a whole number from 1 to 1000 and is 0"),
        ({"apps": {"api": {"image": "x"}}}, "key 'kubernetes.apps.api.image' is not known"),
        ({"apps": {"apy": {}}}, "'kubernetes.apps' names 'apy', which is no app of shop -> its apps: api"),
        ("yes", "variable 'kubernetes' should be a mapping and is 'yes'"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_one_line_with_its_key_and_place(tmp_path: Path, written: Any, fault: str) -> None:
    scope = write_project(tmp_path, [API], kubernetes=written, shared=["uploads"])
    with pytest.raises(UsageError) as error:
        render(scope)
    assert fault in str(error.value)
    assert "\n" not in str(error.value)
    assert re.match(
        rf"{re.escape(os.path.relpath(tmp_path))}.*eu\.yml:[0-9]+, host web1: |.*eu\.yml:[0-9]+, host web1: ",
        str(error.value),
    )
