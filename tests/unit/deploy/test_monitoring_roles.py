"""The roles prometheus, grafana, datadog and newrelic: what they write is what those programs read, judged by promtool."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from percore.deploy.plan.host_plan import make_plan
from percore.deploy.plan.host_state import HostState
from percore.deploy.plan.peers import EdgePeer
from percore.web.own_metrics import METRICS
from tests.unit.deploy.planned import render_state

PROJECT = Path(__file__).resolve().parents[3]
RULES = "/etc/prometheus/percore.rules.yml"
HOSTS = [EdgePeer("web1", "10.0.0.1", 9615), EdgePeer("web2", "[fd00::2]", 9615)]
needs_promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")


def render(role: str, **variables: Any) -> HostState:
    given = {"app_name": "shop", "app_path": "examples/boltlink", "roles": [role], **variables}
    plan = make_plan("watch1", given, env="production", project=PROJECT)
    known = {
        "facts": {"user": "root"},
        "python_path": "/usr/bin/python3",
        "package_id": "abc",
        "monitored_hosts": HOSTS,
    }
    return render_state(plan, known=known)


def content_of(state: HostState, path: str) -> str:
    spec = next(spec for spec in (*state.resources(), *state.setup) if spec.get("path") == path)
    return state.files[spec["sha256"]].decode()


def promtool(folder: Path, *words: str) -> str:
    done = subprocess.run(["promtool", *words], cwd=folder, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_prometheus_scrapes_every_host_that_is_monitored_with_the_token() -> None:
    state = render("prometheus", web_token="t0ken-of-percore-web", prometheus_alertmanagers=["10.0.0.9:9093"])
    config = yaml.safe_load(content_of(state, "/etc/prometheus/prometheus.yml"))
    (job,) = config["scrape_configs"]
    assert [(one["targets"], one["labels"]) for one in job["static_configs"]] == [
        (["10.0.0.1:9615"], {"host": "web1"}),
        (["[fd00::2]:9615"], {"host": "web2"}),
    ]
    assert job["bearer_token_file"] == "/etc/prometheus/percore-token"
    assert config["global"]["external_labels"] == {"env": "production", "app_name": "shop"}
    assert config["alerting"]["alertmanagers"][0]["static_configs"] == [{"targets": ["10.0.0.9:9093"]}]
    assert "t0ken" not in content_of(state, "/etc/prometheus/prometheus.yml")


@needs_promtool
@pytest.mark.parametrize("variables", [{}, {"web_token": "t" * 20}, {"prometheus_targets": []}])
def test_promtool_accepts_what_the_role_prometheus_writes(variables: dict[str, Any], tmp_path: Path) -> None:
    more = [{"job_name": "node", "static_configs": [{"targets": ["a:9100"]}]}]
    state = render("prometheus", prometheus_more_scrapes=more, **variables)
    text = content_of(state, "/etc/prometheus/prometheus.yml").replace("/etc/prometheus", str(tmp_path))
    (tmp_path / "prometheus.yml").write_text(text)
    (tmp_path / "percore.rules.yml").write_text(content_of(state, RULES))
    (tmp_path / "percore-token").write_text("x")
    assert "1 rule files" in promtool(tmp_path, "check", "config", "prometheus.yml")


@needs_promtool
def test_a_server_that_is_configured_otherwise_gets_the_job_and_the_rules(tmp_path: Path) -> None:
    state = render("prometheus", prometheus_server=False)
    paths = {spec["path"] for spec in (*state.resources(), *state.setup) if spec["kind"] == "file"}
    assert paths == {RULES, "/etc/prometheus/percore.scrape.yml"}
    (tmp_path / "prometheus.yml").write_text(content_of(state, "/etc/prometheus/percore.scrape.yml"))
    promtool(tmp_path, "check", "config", "prometheus.yml")


SERIES = """
  - series: 'up{job="percore", host="web1"}'
    values: '1 1 1 0 0 0 0 0'
  - series: 'percore_app_wanted_workers{job="percore", host="web1", instance="a", app="api"}'
    values: '4x10'
  - series: 'percore_app_workers{job="percore", host="web1", instance="a", app="api", state="running"}'
    values: '4 4 3 3 3 3 3 3'
  - series: 'percore_app_restarts_total{job="percore", host="web1", instance="a", app="api", cause="crash"}'
    values: '0 2 4 6 8 10 12 14'
  - series: 'percore_app_kills_total{job="percore", host="web1", instance="a", app="api"}'
    values: '0 0 0 0 1 1 1 1'
  - series: 'percore_app_info{job="percore", host="web1", app="api", release="r1"}'
    values: '1x100'
  - series: 'percore_app_info{job="percore", host="web2", app="api", release="r2"}'
    values: '1x100'
"""


@needs_promtool
@pytest.mark.parametrize(
    ("minute", "alert", "labels"),
    [
        (4, "PercoreHostDown", None),
        (6, "PercoreHostDown", {"job": "percore", "host": "web1", "severity": "critical"}),
        (3, "PercoreWorkersMissing", None),
        (5, "PercoreWorkersMissing", {"severity": "critical"}),
        (7, "PercoreCrashLoop", {"severity": "critical"}),
        (3, "PercoreRequestsLost", None),
        (5, "PercoreRequestsLost", {"severity": "warning"}),
        (30, "PercoreDifferentReleases", None),
        (61, "PercoreDifferentReleases", {"severity": "warning"}),
        (7, "PercoreClientsWait", None),
    ],
)
def test_an_alert_comes_when_it_should_and_not_before(
    minute: int, alert: str, labels: dict[str, str] | None, tmp_path: Path
) -> None:
    """Of the annotations promtool wants the very text: it is taken out of the rules, and the summary has its own test."""
    rules = yaml.safe_load(content_of(render("prometheus"), RULES))
    for rule in rules["groups"][0]["rules"]:
        del rule["annotations"]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(rules))
    place = {"job": "percore", "app": "api"}
    if alert not in ("PercoreDifferentReleases", "PercoreHostDown"):
        place |= {"host": "web1", "instance": "a"}
    if alert == "PercoreCrashLoop":
        place["cause"] = "crash"
    if alert == "PercoreHostDown":
        place = {}
    expected = [{"exp_labels": {**place, **labels}}] if labels else []
    rule_test = {"eval_time": f"{minute}m", "alertname": alert, "exp_alerts": expected}
    tests = {"interval": "1m", "input_series": yaml.safe_load(SERIES), "alert_rule_test": [rule_test]}
    content = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": [tests]}
    (tmp_path / "test.yml").write_text(yaml.safe_dump(content))
    promtool(tmp_path, "test", "rules", "test.yml")


def names_in(expression: str) -> set[str]:
    return set(re.findall(r"\bpercore_\w+", expression))


def known_names() -> set[str]:
    endings = {"counter": "_total", "info": "_info"}
    return {metric.name + endings.get(metric.kind, "") for metric in METRICS}


def dashboard_expressions() -> list[str]:
    dashboard = json.loads((PROJECT / "roles/grafana/files/percore.json").read_text())
    panels = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    return [*panels, *(entry["expr"] for entry in dashboard["annotations"]["list"])]


def test_rules_and_dashboard_ask_for_metrics_that_there_are() -> None:
    rules = yaml.safe_load(content_of(render("prometheus"), RULES))["groups"][0]["rules"]
    for expression in [*(rule["expr"] for rule in rules), *dashboard_expressions()]:
        assert names_in(expression) <= known_names(), expression
    assert all(set(rule["annotations"]) == {"summary", "action"} for rule in rules)


@needs_promtool
def test_the_dashboards_expressions_are_promql(tmp_path: Path) -> None:
    plain = [
        text.replace("$__rate_interval", "1m").replace("$host", ".*").replace("$app", ".*")
        for text in dashboard_expressions()
    ]
    rules = [{"record": f"panel:{number}", "expr": text} for number, text in enumerate(plain)]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool(tmp_path, "check", "rules", "rules.yml")


def test_grafana_finds_the_dashboard_and_its_source() -> None:
    state = render("grafana", grafana_prometheus_url="http://10.0.0.9:9090")
    provider = yaml.safe_load(content_of(state, "/etc/grafana/provisioning/dashboards/percore.yml"))["providers"][0]
    assert json.loads(content_of(state, f"{provider['options']['path']}/percore.json"))["uid"] == "percore"
    source = yaml.safe_load(content_of(state, "/etc/grafana/provisioning/datasources/percore.yml"))["datasources"][0]
    assert (source["type"], source["url"]) == ("prometheus", "http://10.0.0.9:9090")
