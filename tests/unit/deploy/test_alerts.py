"""Alerts: what is told to whom, how a receiver knows that it is ours, and that none stops a run."""

from __future__ import annotations

import base64
import gzip
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from percore.deploy.alerts.alert import Alert, of_failure
from percore.deploy.alerts.run import Run, RunFacts
from percore.deploy.alerts.send import send
from percore.deploy.alerts.targets import AlertTarget
from percore.deploy.alerts.trace import Otel
from percore.deploy.masking import REDACTOR
from percore.deploy.report import Report
from percore.deploy.rollout.hooks import Hooks
from percore.errors import PartialError, PercoreError, PreflightError, RolloutError, UnreachableError, UsageError
from percore.supervisor.automation.webhook import sign
from tests.unit.deploy.planned import host_settings_of
from tests.unit.deploy.test_release_command import plan_with

DONE = Alert("done", "production", "deploy done on 2 hosts", "release r1 serves", ["web1", "web2"], "r1")


@contextmanager
def receiver(status: int = 200) -> Iterator[tuple[str, list[tuple[dict[str, str], bytes]]]]:
    """An address, and the headers and bodies that were posted there."""
    got: list[tuple[dict[str, str], bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "/elsewhere")
            self.end_headers()

        def do_GET(self) -> None:
            got.append(({}, b""))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}", got
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def targets_of(*written: dict[str, Any]) -> tuple[AlertTarget, ...]:
    return host_settings_of(plan_with(alerts=list(written))).alerts


def test_a_webhook_gets_the_event_as_json_with_the_signature_of_standard_webhooks(tmp_path: Path) -> None:
    with receiver() as (address, got):
        send(
            DONE,
            targets_of({"to": f"http://{address}/hook", "secret": "s3cret-of-hooks"}),
            tmp_path,
            Report(quiet=True),
        )
    headers, body = got[0]
    assert {name: json.loads(body)[name] for name in ("event", "env", "hosts", "release", "title")} == {
        "event": "done", "env": "production", "hosts": ["web1", "web2"], "release": "r1",
        "title": "production: deploy done on 2 hosts",
    }  # fmt: skip
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    digest = base64.b64encode(hmac.new(b"s3cret-of-hooks", signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{digest}"


def test_a_signature_is_that_of_the_standards_own_example() -> None:
    headers = sign(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_service_that_apprise_knows_gets_title_and_text(tmp_path: Path) -> None:
    event = of_failure(
        RolloutError("web2 is not healthy", where="web2", next="invoke logs", detail="a\nb"), "deploy", env="production"
    )
    with receiver() as (address, got):
        send(event, targets_of({"to": f"json://{address}/"}), tmp_path, Report(quiet=True))
    told = json.loads(got[0][1])
    assert told["title"] == "production: deploy failed and was rolled back"
    assert told["message"].splitlines() == ["web2: web2 is not healthy", "next: invoke logs", "| a", "| b"]


def test_a_command_gets_the_event_on_its_input_and_in_variables(tmp_path: Path) -> None:
    send(
        DONE,
        targets_of({"run": 'cat > told; echo "$PERCORE_EVENT $PERCORE_ENV" > named'}),
        tmp_path,
        Report(quiet=True),
    )
    assert json.loads((tmp_path / "told").read_text())["event"] == "done"
    assert (tmp_path / "named").read_text() == "done production\n"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RolloutError("x"), "rolled_back"),
        (PartialError("x"), "partial"),
        (UnreachableError("x"), "unreachable"),
        (PreflightError("x"), "failed"),
        (PercoreError("x"), "failed"),
    ],
)
def test_a_run_is_told_by_how_it_ended(error: PercoreError, kind: str, tmp_path: Path) -> None:
    line = 'echo "$PERCORE_EVENT" >> told'
    hooks = Hooks({}, Run("deploy", "test", tmp_path, Report(quiet=True), targets_of({"run": line})))
    with pytest.raises(PercoreError), hooks.told_of_end():
        raise error
    with hooks.told_of_end():
        hooks.run("after_confirm")
    assert (tmp_path / "told").read_text().split() == [kind, "done"]


def test_a_run_that_changed_nothing_is_not_told(tmp_path: Path) -> None:
    hooks = Hooks({}, Run("deploy", "test", tmp_path, Report(quiet=True), targets_of({"run": "touch told"})))
    with hooks.told_of_end():
        hooks.run("after_build")
    assert not (tmp_path / "told").exists()


def test_a_target_hears_of_its_own_events_alone(tmp_path: Path) -> None:
    send(DONE, targets_of({"run": "touch told", "on": ["failed", "rolled_back"]}), tmp_path, Report(quiet=True))
    assert not (tmp_path / "told").exists()


def test_what_cannot_be_told_is_a_warning_that_shows_no_secret(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with receiver(500) as (failing, _), receiver(302) as (leading, led):
        written = (
            {"to": f"http://{failing}/hooks/T0P-s3cret"}, {"to": f"http://{leading}/hooks/T0P-s3cret"},
            {"to": f"json://{failing}/T0P-s3cret"}, {"to": "http://127.0.0.1:1/T0P-s3cret"}, {"run": "echo no >&2; exit 3"},
        )  # fmt: skip
        send(DONE, targets_of(*written), tmp_path, Report())
    said = capsys.readouterr()
    lines = [line for line in (said.out + said.err).splitlines() if "did not reach" in line]
    endings = ("the answer was 500", "the answer was 302", "the service did not take it", "refused", "exit code 3: no")
    assert len(lines) == 5
    assert all(any(ending in line for line in lines) for ending in endings)
    assert "s3cret" not in said.out + said.err
    assert len(led) == 1  # it was not followed, as urllib would do by a GET


def test_secrets_are_masked_in_what_is_told(tmp_path: Path) -> None:
    REDACTOR.hide("pa55word-of-alerts")
    event = of_failure(RolloutError("login with pa55word-of-alerts failed"), "deploy", env="test")
    with receiver() as (address, got):
        send(
            event, targets_of({"to": f"http://{address}/"}, {"to": f"json://{address}/"}), tmp_path, Report(quiet=True)
        )
    assert len(got) == 2
    assert not any(b"pa55word" in body for _, body in got)


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ({}, "alerts[0] needs either 'to' or 'run'"),
        ({"to": "https://x", "run": "y"}, "alerts[0] needs either 'to' or 'run'"),
        ({"to": "slack"}, "'alerts[0].to' should be an address"),
        (
            {"to": "slak://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"},
            "alerts[0].to is no address that a slak:// service has",
        ),
        ({"to": "slack://only-this"}, "alerts[0].to is no address that a slack:// service has"),
        ({"run": "x", "on": "rolledback"}, "'alerts[0].on' should be done or rolled_back"),
        ({"run": "x", "secret": "y"}, "alerts[0].secret is for webhooks alone"),
        ({"to": "json://localhost/", "secret": "y"}, "alerts[0].secret is for webhooks alone"),
        ({"url": "x"}, "key 'alerts[0].url' is not known"),
        ({"run": " "}, "'alerts[0].run' should be a command"),
    ],
)
def test_an_alert_that_makes_no_sense_is_refused(written: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError) as error:
        targets_of(written)
    assert told in str(error.value)


def fail_after_phases(report: Report) -> None:
    report.phase("build", "boltlink")
    report.phase("activate", "r1")
    raise RolloutError("web2 is not healthy")


def test_a_run_and_its_phases_are_a_trace(tmp_path: Path) -> None:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    report = Report(quiet=True)
    with receiver() as (address, got):
        otel = host_settings_of(plan_with(otel={"endpoint": f"http://{address}", "headers": {"x-key": "s3cret"}})).otel
        hooks = Hooks({}, Run("deploy", "production", tmp_path, report, otel=otel), hosts="web1 web2")
        with pytest.raises(RolloutError), hooks.told_of_end():
            fail_after_phases(report)
    request = ExportTraceServiceRequest()
    headers, body = got[0]
    request.ParseFromString(gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body)
    spans = {span.name: span for span in request.resource_spans[0].scope_spans[0].spans}
    assert headers["x-key"] == "s3cret"
    assert set(spans) == {"build", "activate", "deploy"}
    root = spans["deploy"]
    found = {attribute.key: attribute.value.string_value for attribute in root.attributes}
    assert found["cicd.pipeline.result"] == "failure"
    assert found["deployment.environment.name"] == "production"
    assert root.status.message == "web2 is not healthy"
    assert {spans[name].parent_span_id for name in ("build", "activate")} == {root.span_id}
    assert spans["build"].end_time_unix_nano == spans["activate"].start_time_unix_nano
    assert [spans[name].status.code for name in ("build", "activate", "deploy")] == [0, 2, 2]


def test_a_collector_that_does_not_answer_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    otel = Otel("http://127.0.0.1:1", {"x-key": "s3cret"})
    Run("deploy", "production", tmp_path, Report(quiet=True), otel=otel).done(RunFacts(["web1"]))
    assert "the trace did not reach 127.0.0.1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ({"endpoint": "collector"}, "'otel.endpoint' should be an address"),
        ({"headers": {}}, "'otel.endpoint' should be an address"),
        ({"endpoint": "http://x", "header": {}}, "key 'otel.header' is not known"),
    ],
)
def test_a_collector_that_makes_no_sense_is_refused(written: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError) as error:
        host_settings_of(plan_with(otel=written))
    assert told in str(error.value)
