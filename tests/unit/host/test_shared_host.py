"""Two projects on one host: each looks after its own apps, and none takes those of the other."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from percore.errors import PreflightError
from percore.host.messages import StopRequest, StreamRequest, TargetPaths
from percore.host.operations.app_control import stop
from percore.host.operations.look import ports
from percore.host.projects.messages import PortsRequest
from percore.host.release.stage import Staging
from percore.host.release.switch import Activation
from percore.host.release.target import Target
from percore.host.replies import PortsReply
from percore.host.streams import stream
from percore.host.supervisor.supervisor import Supervisor
from tests.waiting import free_port

RELEASE, OTHER = "20260101120000-aaaaaaaa", "20260102120000-bbbbbbbb"
Apps = list[dict[str, Any]]


class Shop(BaseHTTPRequestHandler):
    """The other project's app: it knows only its own health path."""

    def do_GET(self) -> None:
        self.send_response(404)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def shop_port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Shop)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def app(name: str, release: str, source: str, port: int, **more: Any) -> dict[str, Any]:
    worker = {"slot": 0, "pid": os.getpid(), "state": "running", "release": release, "port": port}
    return {
        "name": name, "mode": "cluster", "wanted": 1, "port": port, "release": release, "source": source,
        "addresses": [f"[::]:{port}"], "workers": [worker], **more,
    }  # fmt: skip


@pytest.fixture
def asked() -> list[tuple[str, ...]]:
    return []


@pytest.fixture
def target(tmp_path: Path, asked: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch) -> Target:
    monkeypatch.setattr(Supervisor, "ask", lambda _, *words: asked.append(words))
    monkeypatch.setattr(Supervisor, "kill", lambda _: asked.append(("kill",)))
    target = Target(
        TargetPaths(str(tmp_path / "web"), [str(tmp_path / "percore")], str(tmp_path / "home"), str(tmp_path))
    )
    release = Path(target.releases.path(RELEASE))
    (release / ".percore").mkdir(parents=True)
    (release / ".percore.json").write_text(json.dumps({"apps": [{"name": "web"}]}))
    Path(target.releases.link).symlink_to(f"releases/{RELEASE}")
    return target


def run(monkeypatch: pytest.MonkeyPatch, *apps: dict[str, Any]) -> None:
    status = {"release": None, "daemon": True, "apps": list(apps)}
    monkeypatch.setattr(Supervisor, "status", lambda _: status)


def web(target: Target, **more: Any) -> dict[str, Any]:
    return app("web", RELEASE, target.releases.deploy_to, free_port(), mode="fork", **more)


def test_the_health_check_does_not_ask_the_apps_of_another_project(
    target: Target, shop_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(monkeypatch, web(target), app("shop", OTHER, "/srv/shop", shop_port))
    activation = Activation(target.releases, target.supervisor, RELEASE, lambda _: None)
    found = activation._check_health({"path": "/health", "seconds": 0})
    assert [each["name"] for each in found["apps"]] == ["web"]


def test_a_stop_ends_the_apps_of_its_project_and_no_others(
    target: Target, asked: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    request: Any = StopRequest(TargetPaths("/x", [], "/x", "/x"), "anna", unit="percore.service")
    session: Any = Mock()
    run(monkeypatch, web(target), app("shop", OTHER, "/srv/shop", 80))
    assert stop(session, request, target).changed == ["stop app web"]
    assert asked == [("stop", "web")]
    run(monkeypatch, web(target, wanted=0), app("shop", OTHER, "/srv/shop", 80))
    assert stop(session, request, target).changed == []
    run(monkeypatch, web(target))
    assert stop(session, request._replace(unit=None), target).changed == ["stop the supervisor and all its workers"]
    assert asked[-1] == ("kill",)


def test_a_port_of_another_projects_app_is_in_use(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    run(monkeypatch, web(target), app("shop", OTHER, "/srv/shop", 5000))
    paths = TargetPaths(target.releases.deploy_to, ["/none"], "/none", "/none")
    session: Any = None
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        asked = [5000, unused.getsockname()[1]]
        found = ports(session, PortsRequest(ports=asked, target=paths))
        assert found == PortsReply({"5000": "app 'shop' of another project (/srv/shop)"}, [])


def test_a_release_with_an_app_that_is_called_as_another_projects_is_refused_before_it_is_staged(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    request: Any = type("Request", (), {"release": OTHER, "record": {"apps": [{"name": "web"}]}})
    run(monkeypatch, app("web", OTHER, "/srv/shop", 5000))
    paths = TargetPaths(target.releases.deploy_to, ["/none"], "/none", "/none")
    session: Any = None
    [conflict] = ports(session, PortsRequest([], paths, apps=["default:web", "default:job"])).conflicts
    assert "there is an app 'web' of another project" in conflict.what
    with pytest.raises(PreflightError, match=r"there is an app 'web' of another project \(/srv/shop\) here, and this"):
        Staging(target, io.BytesIO(), lambda _: None).stage(request)


@pytest.mark.parametrize(
    ("others", "words", "wanted"),
    [
        (True, ["--lines", "5"], ["web", "--lines", "5"]),
        (True, ["web", "--lines", "5"], ["web", "--lines", "5"]),
        (False, ["--lines", "5"], ["--lines", "5"]),  # also what was started by hand
    ],
)
def test_the_logs_of_a_project_are_those_of_its_own_apps(
    target: Target, monkeypatch: pytest.MonkeyPatch, others: bool, words: list[str], wanted: list[str]
) -> None:
    run(monkeypatch, web(target), *([app("shop", OTHER, "/srv/shop", 80)] if others else []))
    started: list[str] = []

    def start(_: Supervisor, *said: str, errors: int) -> subprocess.Popen[bytes]:
        started.extend(said)
        return subprocess.Popen(["true"], stdout=subprocess.PIPE, stderr=errors)

    monkeypatch.setattr(Supervisor, "start", start)
    session: Any = None
    stream(session, StreamRequest(TargetPaths("/x", [], "/x", "/x"), words), target)
    assert started == ["logs", *wanted]


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("/home/me/apps.json", "there is an app 'web' here that was started from /home/me/apps.json"),
        ("", "there is an app 'web' here that was started from a script"),
        ("OWN/current/ecosystem.config.js", ""),
    ],
)
def test_an_app_that_somebody_started_by_hand_is_not_replaced(
    target: Target, monkeypatch: pytest.MonkeyPatch, source: str, told: str
) -> None:
    found = app("web", "", source.replace("OWN", target.releases.deploy_to), 5000)
    run(monkeypatch, found)
    paths = TargetPaths(target.releases.deploy_to, ["/none"], "/none", "/none")
    session: Any = None
    conflicts = ports(session, PortsRequest([], paths, apps=["default:web"])).conflicts
    assert [told in each.what for each in conflicts] == ([True] if told else [])


def test_a_stop_ends_only_the_own_apps_where_somebody_started_another_by_hand(
    target: Target, asked: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    request: Any = StopRequest(TargetPaths("/x", [], "/x", "/x"), "anna", unit="percore.service")
    session: Any = Mock()
    run(
        monkeypatch,
        web(target, namespace="a"),
        app("b:web", "", "/home/me/x.json", 80, namespace="b"),
    )
    assert stop(session, request, target).changed == ["stop app web"]
    assert asked == [("stop", "a:web")], "of two apps of one name only ours"


def test_apps_of_one_name_in_two_namespaces_are_told_apart(
    target: Target, asked: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(target.releases.record_path(RELEASE)).write_text(json.dumps({"apps": [{"name": "web", "namespace": "blog"}]}))
    place = target.releases.deploy_to
    theirs = app("web", OTHER, "/srv/shop", 80, namespace="shop")
    run(monkeypatch, theirs, app("blog:web", RELEASE, place, 81, namespace="blog"))
    assert [each["name"] for each in target.status()["apps"]] == ["web"]
    paths = TargetPaths(place, ["/none"], "/none", "/none")
    session: Any = Mock()
    assert ports(session, PortsRequest([], paths, apps=["blog:web"])).conflicts == []
    [conflict] = ports(session, PortsRequest([], paths, apps=["shop:web"])).conflicts
    assert "there is an app 'web' of another project" in conflict.what
    target.supervisor.delete(target.releases.record_path(RELEASE))
    assert asked == [("delete", "blog:web")]
    request: Any = StopRequest(TargetPaths("/x", [], "/x", "/x"), "anna", unit="percore.service")
    assert stop(session, request, target).changed == ["stop app web"]
    assert asked[-1] == ("stop", "blog:web")
    jobs = [{"name": "web"}, {"name": "blog:web"}]
    monkeypatch.setattr(
        Supervisor, "jobs", lambda _, names: [each for each in jobs if not names or each["name"] in names]
    )
    assert target.jobs([]) == target.jobs(["web"]) == [{"name": "web"}]
