"""Manifests that a server takes, also at a second apply, and what they promise in each detail."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from percore.deploy.kubernetes import verb
from percore.deploy.kubernetes.measured import use_of
from percore.deploy.kubernetes.objects.pods import literal
from percore.deploy.report import Report
from percore.deploy.rollout.scope import Scope
from percore.errors import UsageError
from percore.supervisor.commands.runtime import make_runtime_parser, read_apps
from tests.manifests import API, WORKER, container_of, files_of, pod_of, render, write_project

WITH_SECRET: dict[str, Any] = {
    "env": {"DATABASE_URL": "postgres://shop:geheim-4711@db/shop"},
    "secrets": ["DATABASE_URL"],
}


# -- what is refused -------------------------------------------------------------------------------------------------------


def test_wrong_settings_are_refused_before_anything_is_built(tmp_path: Path) -> None:
    marker = tmp_path / "built"
    wrongs: list[dict[str, Any]] = [
        {"kubernetes": {"cpu": "much"}},
        {"kubernetes": {"volumes": {"x": "y"}}},
        {"kubernetes": {"cluster_issuer": "le"}, "server_name": "_ 10.0.0.1"},
        {"app_name": "Shop"},
    ]
    for wrong in wrongs:
        scope = write_project(tmp_path, [API], build_command=f"touch {marker}", **wrong)
        with pytest.raises(UsageError):
            render(scope)
    assert not marker.exists()
    render(write_project(tmp_path, [API], build_command=f"touch {marker}"))
    assert marker.exists()


@pytest.mark.parametrize(
    ("app", "wished", "fault"),
    [
        ({**API, "name": "one"}, {"replicas": 3}, "apps.one.replicas' cannot be set: 'placement' says that the app runs"),
        ({**API, "name": "one"}, {"autoscale": {"max": 3}}, "kubernetes.apps.one.autoscale' cannot be set"),
        ({**WORKER, "autorestart": False}, {"replicas": 2}, "apps.worker.replicas' cannot be set: the app runs and ends"),
        ({**WORKER, "autorestart": False}, {"port": 80}, "apps.worker.port' cannot be set"),
    ],
)  # fmt: skip
def test_what_an_app_cannot_have_is_refused_and_not_left_out_in_silence(
    tmp_path: Path, app: Any, wished: Any, fault: str
) -> None:
    scope = write_project(tmp_path, [API, app], placement={"one": "one"}, kubernetes={"apps": {app["name"]: wished}})
    with pytest.raises(UsageError, match=re.escape(fault)):
        render(scope)


# -- what a server would refuse --------------------------------------------------------------------------------------------

LONG = "a-very-long-name-of-an-app-of-forty-chrs"


def test_no_name_is_longer_than_the_labels_that_are_made_of_it(tmp_path: Path) -> None:
    once = {"name": f"m{LONG[1:]}", "script": "app.py", "autorestart": False}
    job = {"name": f"j{LONG[1:]}", "script": "app.py", "cron": "@daily"}
    apps = {"apps": [{**API, "name": LONG, "depends_on": [once["name"]]}, once], "jobs": [job]}
    render(write_project(tmp_path, apps, app_name=LONG, release_command="true"))
    made = [
        each
        for name, text in files_of(Scope("eu", tmp_path)).items()
        if name.endswith(".yaml")
        for each in yaml.safe_load_all(text)
    ]
    lengths = {(each["kind"], len(each["metadata"]["name"])) for each in made if each["kind"] != "Kustomization"}
    assert {kind for kind, _ in lengths} >= {"Job", "CronJob", "Deployment"}
    assert max(length for _, length in lengths) == 63
    assert max(length for kind, length in lengths if kind == "CronJob") <= 52


def test_other_content_of_a_job_is_another_job_as_it_cannot_be_changed(tmp_path: Path) -> None:
    migrate = {"name": "migrate", "script": "app.py", "autorestart": False}

    def names(**variables: Any) -> set[str]:
        scope = write_project(
            tmp_path, [{**API, "depends_on": ["migrate"]}, migrate], release_command="true", **variables
        )
        return {each["metadata"]["name"] for each in render(scope).values() if each["kind"] == "Job"}

    first = names(env={"LEVEL": "info"})
    assert len(first) == 2
    assert names(env={"LEVEL": "info"}) == first
    assert not names(env={"LEVEL": "debug"}) & first


def test_an_app_is_never_written_over_by_what_belongs_to_the_whole_project(tmp_path: Path) -> None:
    names = ["shop-ingress", "shop-secrets", "shop-release", "shop-gateway"]
    scope = write_project(
        tmp_path, [API, *({**API, "name": name} for name in names)], release_command="true", **WITH_SECRET
    )
    found = render(scope, with_secrets=True)
    deployments = {container_of(each)["args"][1]: each for each in found.values() if each["kind"] == "Deployment"}
    assert {*deployments} == {"api", *names}
    assert {"Secret shop-secrets", "Ingress shop", "Job shop-release"} <= {*found}
    release = found["Job shop-release"]["spec"]["template"]["metadata"]["labels"]
    for each in deployments.values():
        assert not each["spec"]["selector"]["matchLabels"].items() <= release.items()


def test_each_path_is_mounted_once_and_each_shared_directory_has_a_claim_of_its_own(tmp_path: Path) -> None:
    shared = ["data.d", "data-d", "uploads"]
    wished = {"writable": ["/tmp", "/app/cache", "/app/cache/", "/app/uploads"]}
    pod = pod_of(render(write_project(tmp_path, [API], shared=shared, kubernetes=wished))["Deployment api"])
    paths = [mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]]
    assert paths == ["/run/percore", "/tmp", "/app/cache", "/app/data.d", "/app/data-d", "/app/uploads"]
    volumes = pod["volumes"]
    assert len({each["name"] for each in volumes}) == len(volumes) == len(paths)
    claims = [each["persistentVolumeClaim"]["claimName"] for each in volumes if "persistentVolumeClaim" in each]
    assert len({*claims}) == 3


def test_a_rollout_may_take_longer_than_a_pod_must_be_ready(tmp_path: Path) -> None:
    spec = render(write_project(tmp_path, [API], soak_seconds=3600))["Deployment api"]["spec"]
    assert spec["progressDeadlineSeconds"] > spec["minReadySeconds"] == 3600


def test_only_names_of_hosts_become_rules(tmp_path: Path) -> None:
    found = render(write_project(tmp_path, [API], server_name="10.0.0.1 shop.example.com ~^x$"))
    assert [rule["host"] for rule in found["Ingress shop"]["spec"]["rules"]] == ["shop.example.com"]


def test_requests_are_never_more_than_the_limits_that_the_inventory_sets(tmp_path: Path) -> None:
    app = [{**API, "instances": 4}]
    limits = {"memory_limit": "200Mi", "cpu_limit": "500m"}
    measured = use_of([("web1 7", 300 << 20, 90.0)])
    for uses in ({}, {"api": measured}):
        scope = write_project(tmp_path, app, kubernetes=limits)
        found = container_of(render(scope, uses=uses)["Deployment api"])["resources"]
        assert found["limits"] == {"cpu": "500m", "memory": "200Mi"}
        assert found["requests"] == {"cpu": "500m", "memory": "200Mi"}


def test_a_variable_that_a_pod_cannot_have_is_refused_by_its_name(tmp_path: Path) -> None:
    for name in ("1A", "..", "a b"):
        with pytest.raises(UsageError, match=f"'{re.escape(name)}' of app 'api' cannot be a variable of a pod"):
            render(write_project(tmp_path, [{**API, "env": {name: "x"}}]))


def expanded(text: str, known: dict[str, str]) -> str:
    """As the kubelet does it with commands, arguments and variables: `$$` is a `$`, `$(NAME)` its value if it is known."""
    return re.sub(r"\$\$|\$\(([^)]*)\)", lambda found: "$" if found[0] == "$$" else known.get(found[1], found[0]), text)


@given(st.text(alphabet="$()Aa ", max_size=12))
def test_the_kubelet_leaves_every_text_as_it_was_written(text: str) -> None:
    assert expanded(literal(text), {"A": "changed", "": "changed"}) == text


# -- what runs in a pod ----------------------------------------------------------------------------------------------------


def test_a_pod_runs_its_own_app_alone_whatever_others_are_called(tmp_path: Path) -> None:
    apps = [
        {**API, "name": "Express App"}, {**API, "namespace": "b"}, {**API, "namespace": "a"}, {**API, "name": "x,y"},
        {**API, "name": "y"},
    ]  # fmt: skip
    found = render(write_project(tmp_path, apps))
    started = []
    for each in found.values():
        if each["kind"] == "Deployment":
            options = make_runtime_parser().parse_args(
                [str(tmp_path / "app" / "ecosystem.yml"), *container_of(each)["args"]]
            )
            started.append([(app.namespace, app.name.rpartition(":")[2]) for app in read_apps(options)])
    wanted = [("default", "Express App"), ("b", "api"), ("a", "api"), ("default", "x,y"), ("default", "y")]
    assert sorted(started) == sorted([each] for each in wanted)


def test_what_nobody_starts_has_no_pods_until_somebody_scales_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quiet = {"autostart": False}
    apps = [
        API,
        {**API, **quiet, "name": "spare"},
        {**WORKER, **quiet},
        {**WORKER, **quiet, "name": "m", "autorestart": False},
    ]
    scope = write_project(tmp_path, apps, kubernetes={"autoscale": {"max": 3}})
    found = render(scope)
    assert found["Deployment spare"]["spec"]["replicas"] == found["StatefulSet worker"]["spec"]["replicas"] == 0
    assert not {"HorizontalPodAutoscaler spare", "PodDisruptionBudget spare", "Job m"} & {*found}
    assert (
        "--autostart" in container_of(found["StatefulSet worker"])["args"]
    )  # otherwise a pod that is scaled up would end
    assert "--autostart" not in container_of(found["Deployment api"])["args"]
    verb.write_manifests(scope, Report(), check=False, with_secrets=False)
    told = capsys.readouterr().out
    assert "worker: has no pods, as autostart is false -> kubectl scale, or kubernetes.apps.worker.replicas" in told
    assert "m: no Job is written, as autostart is false" in told
    found = render(write_project(tmp_path, apps, kubernetes={"apps": {"worker": {"replicas": 1}}}))
    assert found["Deployment worker"]["spec"]["replicas"] == 1


def test_of_several_clusters_that_all_get_port_none_is_restarted_for_not_listening(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    queue = {**API, "name": "queue"}
    scope = write_project(tmp_path, [API, queue], kubernetes={"apps": {"api": {"port": 5000}}})
    found = render(scope)
    assert "livenessProbe" in container_of(found["Deployment api"])
    assert "livenessProbe" not in container_of(found["Deployment queue"])
    verb.write_manifests(scope, Report(), check=False, with_secrets=False)
    assert (
        "queue: is taken to listen on 5000, and is not restarted if it does not -> kubernetes.apps.queue.port"
        in capsys.readouterr().out
    )
    found = render(write_project(tmp_path, [API, queue], kubernetes={"apps": {"queue": {"port": "none"}}}))
    assert "Service queue" not in found


def test_an_address_that_no_other_pod_reaches_is_no_port_of_the_service(tmp_path: Path) -> None:
    api = {**API, "listen": ["127.0.0.1:9000", "[::1]:9001", "/run/percore/x.sock", "0.0.0.0:443"]}
    found = render(write_project(tmp_path, [api]))
    assert [port["port"] for port in found["Service api"]["spec"]["ports"]] == [5000, 443]
    assert pod_of(found["Deployment api"])["securityContext"]["sysctls"]  # 443 is a low one


def test_times_without_a_zone_are_in_utc_and_that_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = [
        {"name": name, "script": "app.py", "cron": cron}
        for name, cron in (("night", "0 3 * * *"), ("often", "*/5 * * * *"))
    ]
    scope = write_project(tmp_path, {"apps": [API], "jobs": jobs})
    assert render(scope)["CronJob night"]["spec"]["timeZone"] == "Etc/UTC"
    verb.write_manifests(scope, Report(), check=False, with_secrets=False)
    told = capsys.readouterr().out
    assert "night: its times are in UTC, and not in the time zone of hosts -> set timezone" in told
    assert "often: its times" not in told


def test_settings_for_another_way_in_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wished = {"gateway": "infra/web", "cluster_issuer": "le", "ingress_class": "traefik"}
    verb.write_manifests(write_project(tmp_path, [API], kubernetes=wished), Report(), check=False, with_secrets=False)
    told = capsys.readouterr().out
    for text in ("ingress_class: no Ingress is written (expose: gateway)", "cluster_issuer: a certificate belongs to the Gateway",
                 "nodes look for the image 'shop' in their default registry -> set image_repository"):  # fmt: skip
        assert f"not the same: {text}" in told or text in told


# -- a second apply --------------------------------------------------------------------------------------------------------


def second(tmp_path: Path, capsys: pytest.CaptureFixture[str], app: Any, **variables: Any) -> list[str]:
    """What a run warns of that finds the manifests of an earlier one."""
    capsys.readouterr()
    verb.write_manifests(write_project(tmp_path, app, **variables), Report(), check=False, with_secrets=False)
    shown = capsys.readouterr()
    return [line.strip() for line in (shown.out + shown.err).splitlines() if line.startswith("warning")]


def test_what_apply_leaves_in_the_cluster_is_told_with_the_command_that_deletes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    render(write_project(tmp_path, [API, WORKER], **WITH_SECRET))
    server = {**WORKER, "exec_mode": "cluster"}
    told = second(tmp_path, capsys, [API, server])
    assert len(told) == 1
    assert "kubectl apply deletes nothing: StatefulSet worker ->" in told[0]
    assert told[0].endswith("-> kubectl delete --namespace shop statefulset/worker")
    assert second(tmp_path, capsys, [API, server]) == []
    told = second(tmp_path, capsys, [API, server], kubernetes={"namespace": "other"})
    assert any("kubectl delete --namespace shop deployment/api service/api" in line for line in told)
    assert not any("configmap" in line for line in told)


def test_a_change_that_a_server_refuses_is_told_before_it_is_applied(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = {"namespace": "shop"}
    render(write_project(tmp_path, [API, WORKER], kubernetes=space))
    told = second(tmp_path, capsys, [API, WORKER], kubernetes=space, app_name="store")
    for kind, name in (("Deployment", "api"), ("StatefulSet", "worker")):
        command = f"kubectl delete --namespace shop {kind.lower()}/{name}"
        wanted = f"{kind} {name}: spec.selector cannot be changed -> {command}, then apply"
        assert any(wanted in line for line in told)
    assert second(tmp_path, capsys, [API, WORKER], kubernetes=space, app_name="store", keep_releases=9) == []


# -- each detail -----------------------------------------------------------------------------------------------------------

ONCE = {"name": "migrate", "script": "app.py", "autorestart": False}
NIGHTLY = {"name": "nightly", "script": "app.py", "cron_restart": "0 3 * * *", "autorestart": False}
TLS = {
    **API, "name": "tls", "port": 8443, "health": "https://in.example.com/up", "app_metrics": "https://localhost/m",
    "app_metrics_port": 9100, "log_type": "json", "listen_timeout": 300_000, "memory_max": "100M", "instances": -1,
}  # fmt: skip
RICH: dict[str, Any] = {
    "apps": [
        {
            **API, "depends_on": ["worker", "tls", "migrate"], "increment_var": "PORT",
            "env": {"API_KEY": "", "TOKEN": "one-12345"},
        },
        TLS, {**WORKER, "env": {"TOKEN": "two-12345"}}, ONCE, NIGHTLY, {"name": "solo", "script": "app.py", "port": 7000},
    ],
    "jobs": [
        {"name": "sweep", "script": "app.py", "cron": "*/5 * * * *"},
        {"name": "two", "script": "app.py", "cron": "@daily", "where": "one"},
    ],
}  # fmt: skip
SETTINGS: dict[str, Any] = {
    "health_path": "/health", "shared": ["uploads"], "keep_releases": 0, "nginx_sticky": "address",
    "nginx_upstream": "per_worker", "release_command": "true",
    "secrets": ["QUIET"], "env": {"QUIET": "not-called-so", "AGAIN": "Bearer one-12345"},
    "kubernetes": {
        "create_namespace": True, "image_pull_secret": "pull", "volumes": {"uploads": "files"},
        "apps": {"worker": {"drain_seconds": 7}, "nightly": {"cpu": "100m"}},
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> tuple[Scope, dict[str, Any]]:
    scope = write_project(tmp_path_factory.mktemp("rich"), RICH, **SETTINGS)
    return scope, render(scope)


Rich = tuple[Scope, dict[str, Any]]


def test_servers_are_two_at_least_and_others_as_many_as_they_were(rich: Rich, tmp_path: Path) -> None:
    assert {name for name in rich[1] if name.startswith(("Deployment", "StatefulSet"))} == {
        "Deployment api", "Deployment tls", "Deployment solo", "StatefulSet worker",
    }  # fmt: skip
    found = render(write_project(tmp_path, [API, {"name": "solo", "script": "app.py", "port": 7000}], hosts=1))
    assert found["Deployment api"]["spec"]["replicas"] == 2
    assert found["StatefulSet solo"]["spec"]["replicas"] == 1
    assert "PodDisruptionBudget solo" not in found
    scaled = {"replicas": 5, "autoscale": {"min": 1, "max": 4}}
    found = render(write_project(tmp_path, [API], kubernetes=scaled))
    assert "PodDisruptionBudget api" not in found  # it may be a single one
    target = found["HorizontalPodAutoscaler api"]["spec"]["metrics"][0]["resource"]["target"]
    assert target == {"type": "Utilization", "averageUtilization": 70}


def test_arguments_are_what_the_environment_wants_otherwise(rich: Rich) -> None:
    assert container_of(rich[1]["Deployment api"])["args"] == [
        "--only", "api", "--instances=1", "--health=/health", "--health-host=shop.example.com",
        "--depends-on=null",
    ]  # fmt: skip
    assert container_of(rich[1]["Deployment tls"])["args"] == [
        "--only", "tls", "--json", "--health-host=shop.example.com",
    ]  # fmt: skip


def test_a_pod_waits_for_what_can_be_waited_for(rich: Rich) -> None:
    (first,) = pod_of(rich[1]["Deployment api"])["initContainers"]
    assert first["command"] == ["percore", "ready", "--wait-for=tls:8443"]


def test_deployments_give_a_rollout_its_time_and_keep_a_release_to_go_back_to(rich: Rich) -> None:
    spec = rich[1]["Deployment tls"]["spec"]
    assert (spec["progressDeadlineSeconds"], spec["revisionHistoryLimit"]) == (1200, 1)
    assert rich[1]["PodDisruptionBudget tls"]["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    for each in pod_of(rich[1]["Deployment tls"])["topologySpreadConstraints"]:
        assert (each["whenUnsatisfiable"], each["matchLabelKeys"]) == ("ScheduleAnyway", ["pod-template-hash"])


def test_pods_are_pulled_ended_and_given_files_as_the_settings_say(rich: Rich) -> None:
    for name in (
        "Deployment api",
        "StatefulSet worker",
        "CronJob nightly",
        "CronJob sweep",
        "Job migrate",
        "Job shop-release",
    ):
        pod, container = pod_of(rich[1][name]), container_of(rich[1][name])
        assert pod["imagePullSecrets"] == [{"name": "pull"}]
        assert pod["securityContext"]["fsGroup"] == 10001
        assert container["imagePullPolicy"] == "IfNotPresent"
        volumes = {each["name"]: each for each in pod["volumes"]}
        assert volumes["percore-home"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "16Mi"}
        assert volumes["shared-uploads"]["persistentVolumeClaim"] == {"claimName": "files"}
        is_kept = name in ("Deployment api", "StatefulSet worker")
        assert pod.get("restartPolicy", "Always") == ("Always" if is_kept else "Never")
        assert ("lifecycle" in container, "readinessProbe" in container) == (is_kept, is_kept)
    assert container_of(rich[1]["StatefulSet worker"])["lifecycle"]["preStop"]["sleep"] == {"seconds": 7}
    assert container_of(rich[1]["Job shop-release"])["workingDir"] == "/app"


def test_probes_over_https_ask_the_name_that_the_process_file_says(rich: Rich) -> None:
    assert container_of(rich[1]["Deployment tls"])["readinessProbe"]["httpGet"] == {
        "path": "/up", "port": "http", "scheme": "HTTPS", "httpHeaders": [{"name": "Host", "value": "in.example.com"}],
    }  # fmt: skip
    assert container_of(rich[1]["Deployment api"])["readinessProbe"]["httpGet"]["path"] == "/health"
    assert container_of(rich[1]["Deployment solo"])["readinessProbe"]["exec"]["command"] == ["percore", "ready", "solo"]


@pytest.mark.parametrize(
    ("own", "ready", "alive"),
    [
        ({"health_interval": 200}, 3, 3), ({"health_interval": 200, "health": "/up"}, 1, 3), ({"health_interval": 0}, 10, 3),
        ({"health_interval": 900_000, "liveness_timeout": 1000}, 60, 3), ({"liveness_timeout": 60_000}, 10, 12),
    ],
)  # fmt: skip
def test_probes_are_neither_too_often_nor_too_rare(tmp_path: Path, own: Any, ready: int, alive: int) -> None:
    container = container_of(
        render(write_project(tmp_path, [{"liveness_timeout": 10_000, **API, **own}]))["Deployment api"]
    )
    assert container["readinessProbe"]["periodSeconds"] == ready
    assert container["livenessProbe"]["failureThreshold"] == alive


def test_secrets_are_told_by_declaration_name_password_and_what_they_hold(rich: Rich) -> None:
    def keys(name: str) -> dict[str, str]:
        env = container_of(rich[1][name])["env"]
        return {each["name"]: each["valueFrom"]["secretKeyRef"]["key"] for each in env if "valueFrom" in each}

    assert keys("Deployment api") == {"QUIET": "QUIET", "TOKEN": "TOKEN", "AGAIN": "AGAIN"}
    assert keys("StatefulSet worker") == {"QUIET": "QUIET", "TOKEN": "worker.TOKEN", "AGAIN": "AGAIN"}
    config = rich[1]["ConfigMap api-env"]
    assert config["data"] == {"API_KEY": "", "PORT": "5000"}
    assert config["immutable"] is True
    assert "app.kubernetes.io/version" not in config["metadata"]["labels"]  # the same content is the same object
    overrides = {each["name"]: each.get("value") for each in container_of(rich[1]["Deployment api"])["env"]}
    assert overrides["PERCORE_OVERRIDES"] == "AGAIN,API_KEY,PORT,QUIET,TOKEN"


def test_a_secret_of_several_lines_is_one_under_every_name(tmp_path: Path) -> None:
    key = "-----BEGIN KEY-----\nMIIEvQ1234567890\n-----END KEY-----"
    found = render(write_project(tmp_path, [{**API, "env": {"PRIVATE_KEY": key, "PEM": key, "BOTH": f"a\n{key}\nb"}}]))
    assert {*found["ConfigMap api-env"]["data"]} == {"PORT"}


def test_jobs_that_end_are_neither_repeated_nor_kept_for_ever(rich: Rich) -> None:
    for name in ("Job migrate", "Job shop-release"):
        spec = rich[1][name]["spec"]
        assert (spec["backoffLimit"], spec["ttlSecondsAfterFinished"]) == (0, 7 * 86400)
    sweep, nightly = rich[1]["CronJob sweep"]["spec"], rich[1]["CronJob nightly"]["spec"]
    assert sweep["startingDeadlineSeconds"] == nightly["startingDeadlineSeconds"] == 120
    assert (sweep["concurrencyPolicy"], nightly["concurrencyPolicy"]) == ("Forbid", "Replace")
    assert "--run-jobs" in container_of(rich[1]["CronJob nightly"])["args"]


def test_the_release_command_finds_its_tools_and_argo_and_helm_run_it_first(rich: Rich) -> None:
    job, container = rich[1]["Job shop-release"], container_of(rich[1]["Job shop-release"])
    assert container["command"][-1].startswith('PATH="/app/node_modules/.bin:/app/python_packages/bin:$PATH"; ')
    values = {each["name"]: each.get("value") for each in container["env"]}
    assert re.fullmatch("[0-9]{14}-[0-9a-f]{8}", values["PERCORE_RELEASE"])
    assert job["metadata"]["annotations"] == {
        "argocd.argoproj.io/hook": "PreSync", "argocd.argoproj.io/hook-delete-policy": "BeforeHookCreation",
        "helm.sh/hook": "pre-install,pre-upgrade", "helm.sh/hook-delete-policy": "before-hook-creation",
    }  # fmt: skip


def test_prometheus_finds_the_metrics_where_the_process_file_says(rich: Rich, tmp_path: Path) -> None:
    assert rich[1]["Deployment tls"]["spec"]["template"]["metadata"]["annotations"] == {
        "prometheus.io/scrape": "true", "prometheus.io/scheme": "https", "prometheus.io/path": "/m", "prometheus.io/port": "9100",
    }  # fmt: skip
    job = {**NIGHTLY, "app_metrics": "/m", "app_metrics_port": 9100}
    found = render(write_project(tmp_path, [{**API, "app_metrics": "/m"}, job], kubernetes={"metrics": "podmonitor"}))
    assert found["PodMonitor api"]["spec"]["podMetricsEndpoints"] == [
        {"portNumber": 5000, "path": "/m", "scheme": "http"}
    ]
    assert "PodMonitor nightly" not in found


def test_visitors_come_back_to_their_pod_where_nginx_did_so(rich: Rich, tmp_path: Path) -> None:
    assert rich[1]["Service api"]["spec"]["sessionAffinity"] == "ClientIP"
    notes = rich[1]["Ingress shop"]["metadata"]["annotations"]
    assert notes["nginx.ingress.kubernetes.io/upstream-hash-by"] == "$remote_addr"
    found = render(write_project(tmp_path, [API], nginx_sticky="cookie", nginx_upstream="per_worker"))
    notes = found["Ingress shop"]["metadata"]["annotations"]
    assert (notes["nginx.ingress.kubernetes.io/affinity"], notes["nginx.ingress.kubernetes.io/affinity-mode"]) == (
        "cookie",
        "persistent",
    )
    assert "sessionAffinity" not in found["Service api"]["spec"]


def test_the_way_in_leads_to_the_app_at_the_port_of_the_inventory(tmp_path: Path) -> None:
    apps = [{**API, "name": "first", "port": 3000}, {**API, "name": "second", "port": 5000, "health": "https://x/"}]
    issuer = {"cluster_issuer": "le"}
    scope = write_project(
        tmp_path, apps, port=5000, nginx_rate_limits={"/": "9r/s"}, nginx_rate_burst=1, kubernetes=issuer
    )
    ingress = render(scope)["Ingress shop"]
    assert ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["name"] == "second"
    notes = ingress["metadata"]["annotations"]
    assert notes["cert-manager.io/cluster-issuer"] == "le"
    short = {name.rpartition("/")[2]: value for name, value in notes.items()}
    assert (short["backend-protocol"], short["limit-burst-multiplier"], short["ssl-redirect"]) == ("HTTPS", "1", "true")
    assert ingress["spec"]["tls"] == [{"hosts": ["shop.example.com"], "secretName": "shop-tls"}]
    assert "kubectl create secret tls" not in files_of(scope)["README.md"].decode()  # cert-manager does it
    scope = write_project(tmp_path, apps, port=5000, kubernetes={**issuer, "ingress_class": "traefik"})
    assert render(scope)["Ingress shop"]["metadata"]["annotations"] == {"cert-manager.io/cluster-issuer": "le"}
    scope = write_project(tmp_path, apps, port=5000, nginx_redirect=False, kubernetes={"tls_secret": "own"})
    assert (
        render(scope)["Ingress shop"]["metadata"]["annotations"]["nginx.ingress.kubernetes.io/ssl-redirect"] == "false"
    )
    assert "kubectl create secret tls own --namespace shop" in files_of(scope)["README.md"].decode()
    scope = write_project(
        tmp_path, apps, port=5000, nginx_redirect=False, kubernetes={"tls_secret": "own", "gateway": "web"}
    )
    assert "HTTPRoute shop-redirect" not in render(scope)
    assert render(scope)["HTTPRoute shop"]["spec"]["hostnames"] == ["shop.example.com"]


def test_the_readme_names_what_must_be_there_and_what_is_waited_for(rich: Rich) -> None:
    text = files_of(rich[0])["README.md"].decode()
    for wanted in ("PersistentVolumeClaim `files`", "statefulset/worker", "deployment/tls", "worker: when the node is un",
                   "kubectl apply -f namespace.yaml", "must have AGAIN, QUIET, TOKEN, worker.TOKEN"):  # fmt: skip
        assert wanted in text
    listed = yaml.safe_load(files_of(rich[0])["kustomization.yaml"])["resources"]
    assert listed[0] == "namespace.yaml"
    assert "migrate.yaml" not in listed


def test_memory_and_cpu_follow_the_workers_and_what_is_said_of_them(rich: Rich, tmp_path: Path) -> None:
    assert (
        container_of(rich[1]["Deployment tls"])["resources"]["limits"]["memory"] == "320Mi"
    )  # two of 100 MB, a quarter, itself
    found = render(write_project(tmp_path, [{**API, "instances": -1}], kubernetes={"cpu": 3, "memory": "1Gi"}))
    assert container_of(found["Deployment api"])["resources"]["limits"]["cpu"] == "3"


def test_an_environment_that_no_config_map_holds_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="environment of app 'api' is larger than a ConfigMap may be"):
        render(write_project(tmp_path, [{**API, "env": {"BIG": "x" * 950_000}}]))


def test_two_projects_of_one_environment_do_not_write_over_each_other(tmp_path: Path) -> None:
    scope = write_project(tmp_path, [API])
    inventory = yaml.safe_load(scope.inventory_path.read_text())
    inventory["all"]["children"]["app"]["hosts"]["web2"] = {"app_name": "store"}
    scope.inventory_path.write_text(yaml.safe_dump(inventory))
    with pytest.raises(UsageError, match=r"two apps of environment 'eu' would be written to api.yaml -> rename one"):
        render(scope)


def test_the_only_app_listens_at_the_port_of_the_inventory_whatever_its_mode(tmp_path: Path) -> None:
    found = render(write_project(tmp_path, [WORKER], hosts=1))
    assert found["Service worker"]["spec"]["ports"][0]["port"] == 5000


def test_hosts_that_disagree_about_the_settings_are_refused(tmp_path: Path) -> None:
    scope = write_project(tmp_path, [API])
    inventory = yaml.safe_load(scope.inventory_path.read_text())
    inventory["all"]["children"]["app"]["hosts"]["web2"] = {"kubernetes": {"replicas": 3}}
    scope.inventory_path.write_text(yaml.safe_dump(inventory))
    with pytest.raises(UsageError, match="kubernetes"):
        render(scope)


def test_what_differs_in_the_cluster_is_told_app_by_app(
    rich: Rich, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verb.write_manifests(rich[0], Report(), check=False, with_secrets=False)
    told = capsys.readouterr().out
    for text in (
        "api: does not wait for worker, which has no port",
        "nightly: starts at its times alone, and not with each release",
        "sweep: runs on each of 2 hosts today, and once in the cluster",
    ):
        assert f"not the same: {text}" in told
    assert "two: runs on each" not in told
    api = {**API, "instances": 3, "max_memory_restart": "200M", "cron_restart": "@hourly", "app_metrics": "/m"}
    wished = {"memory_limit": "512Mi", "ingress_class": "traefik"}
    scope = write_project(tmp_path, [api], server_name="~^x$ a.example.com", nginx_body_size="5m", kubernetes=wished)
    verb.write_manifests(scope, Report(), check=False, with_secrets=False)
    told = capsys.readouterr().out
    for text in (
        "the pod's limit 512Mi is reached before max_memory_restart of 3 workers",
        "cron_restart: all 2 pods at the same times, in UTC",
        "a scrape of app_metrics reaches one worker of a pod",
        "server_name ~^x$: only names of hosts can be rules",
        "nginx_body_size: an Ingress of the class 'traefik' has nothing for it",
    ):
        assert text in told


def test_a_file_that_was_changed_by_hand_is_told_also_where_it_is_no_yaml_any_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scope = write_project(tmp_path, [API, WORKER])
    render(scope)
    for name, text in (("api.yaml", "a: [b"), ("worker.yaml", "kind: Mine\nmetadata: 3\n")):
        (verb.directory_of(scope) / name).write_text(text)
    capsys.readouterr()
    verb.write_manifests(scope, Report(), check=False, with_secrets=False)
    told = capsys.readouterr()
    assert "api.yaml was changed by hand, and is written anew" in told.out + told.err
