"""Who gets what of the server: by token, by cookie, by the user of a connection, and not from another site."""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from percore.errors import PercoreError, UsageError
from percore.web import command
from percore.web.auth import Access, Token, read_tokens
from percore.web.health import answer_health
from percore.web.http import HttpRequest, HttpRoute, Right, as_json, text
from percore.web.peer import uid_of_client
from percore.web.server import WebSite, is_loopback, make_server
from percore.web.snapshot import Snapshot, Snapshots, _nothing
from percore.web.status import answer_status

READER, ACTOR = "r" * 24, "a" * 24
ROUTES = (
    HttpRoute("/open", lambda _: text("open"), Right.NOTHING),
    HttpRoute("/figures", lambda _: text("figures"), Right.FIGURES),
    HttpRoute("/logs", lambda _: text("logs")),
    HttpRoute("/do", lambda _: text("done"), Right.ACTIONS, "POST"),
    HttpRoute("/broken", lambda _: text(str(1 // 0)), Right.NOTHING),
    HttpRoute("/rest/*", lambda request: text(request.rest), Right.NOTHING),
)


def site(*tokens: Token, names: tuple[str, ...] = ()) -> tuple[WebSite, Access]:
    access = Access(tokens, port=9615, names=names)
    return WebSite(ROUTES, access), access


def both() -> tuple[WebSite, Access]:
    return site(Token(READER, Right.READING), Token(ACTOR, Right.ACTIONS))


def ask(
    site: WebSite, path: str, method: str = "GET", body: bytes = b"", **headers: str
) -> tuple[int, str, dict[str, str]]:
    found: dict[str, Any] = {}

    def start(status: str, fields: list[tuple[str, str]]) -> None:
        found.update(status=int(status[:3]), headers=dict(fields))

    environ = {
        "REQUEST_METHOD": method, "PATH_INFO": path.partition("?")[0], "QUERY_STRING": path.partition("?")[2],
        "wsgi.input": io.BytesIO(body), "HTTP_HOST": "localhost:9615",
        **{f"HTTP_{name.upper()}": value for name, value in headers.items()},
    }  # fmt: skip
    answer = b"".join(site(environ, start)).decode()
    return found["status"], answer, found["headers"]


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def test_a_token_opens_what_it_may_and_nothing_else() -> None:
    web, _ = both()
    assert ask(web, "/open")[0] == 200
    assert ask(web, "/figures")[0] == ask(web, "/logs")[0] == 401
    assert ask(web, "/logs", **bearer("x" * 24))[0] == 401
    assert ask(web, "/logs", **bearer(READER))[0] == 200
    assert ask(web, "/do", "POST", **bearer(READER))[:2] == (403, "this token may not do that\n")
    assert ask(web, "/do", "POST", **bearer(ACTOR))[:2] == (200, "done\n")


def test_a_browser_logs_in_and_its_cookie_alone_changes_nothing() -> None:
    web, access = both()
    status, page, headers = ask(web, "/logs", accept="text/html")
    assert (status, "<form" in page) == (401, True)
    assert ask(web, "/login", "POST", b"token=" + b"x" * 24)[0] == 401
    assert ask(web, "/login", "POST", b"token=" + ACTOR.encode(), sec_fetch_site="cross-site")[0] == 403
    status, _, headers = ask(web, "/login", "POST", b"token=" + ACTOR.encode())
    cookie, *attributes = headers["Set-Cookie"].split("; ")
    assert status == 303
    assert {"HttpOnly", "SameSite=Strict"} <= set(attributes)
    assert ACTOR not in cookie
    assert ask(web, "/logs", cookie=cookie)[0] == 200
    assert ask(web, "/do", "POST", cookie=cookie)[0] == 403
    assert ask(web, "/do", "POST", cookie=cookie, x_percore_token=access.page_token)[0] == 200
    session = json.loads(ask(web, "/session", cookie=cookie)[1])
    assert session == {"token": access.page_token, "actions": True, "logs_out": True}


@pytest.mark.parametrize("cookie", ["", "1.x", "9999999999.x", "x.y", f"9999999999.{'0' * 64}", "9" * 500])
def test_a_cookie_that_we_did_not_make_opens_nothing(cookie: str) -> None:
    web, access = both()
    assert ask(web, "/logs", cookie=f"{access.cookie}={cookie}")[0] == 401


def test_a_session_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    web, access = both()
    cookie = (access.log_in(READER) or "").partition(";")[0]
    assert ask(web, "/logs", cookie=cookie)[0] == 200
    now = time.time()
    monkeypatch.setattr("percore.web.auth.time.time", lambda: now + 13 * 3600)
    assert ask(web, "/logs", cookie=cookie)[0] == 401


@pytest.mark.parametrize(("host", "status"), [
    ("localhost", 403), ("127.0.0.1:9615", 403), ("[::1]:9615", 403), (socket.gethostname(), 403),
    ("evil.example", 421), ("127.0.0.1.evil.example", 421), ("", 421), ("shop.example.com:80", 403),
])  # fmt: skip
def test_without_a_token_only_names_of_this_machine_are_answered(host: str, status: int) -> None:
    web, _ = site(names=("shop.example.com",))
    assert ask(web, "/logs", host=host)[0] == status  # 403: whose connection it is, is not known here
    assert ask(web, "/figures", host=host)[0] == (200 if status == 403 else 421)


def test_no_answer_allows_another_origin_or_a_frame_and_a_fault_stays_inside() -> None:
    web, _ = both()
    for path in ("/open", "/logs", "/nowhere", "/broken", "/login"):
        _, answer, headers = ask(web, path, origin="https://evil.example")
        assert not [name for name in headers if name.lower().startswith("access-control")]
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "Traceback" not in answer
    assert ask(web, "/broken")[0] == 500
    assert ask(web, "/open", "POST")[0] == 405
    assert ask(web, "/rest/a/b%2e")[1] == "a/b%2e\n"
    assert ask(web, "/rest/")[0] == 404
    status, answer, headers = ask(web, "/open", "HEAD")
    assert (status, answer, headers["Content-Length"]) == (200, "", "5")


@pytest.mark.parametrize(("content", "mode", "said"), [
    (f"{READER}\n", 0o644, "others can read or change the token -> |chmod 600"),
    ("short\n", 0o600, "at least 20 characters"),
    (f"{READER} everything\n", 0o600, "'read' or 'actions'"),
    ("# nothing\n", 0o600, "there is no token in it"),
])  # fmt: skip
def test_a_file_of_tokens_that_is_not_private_or_makes_no_sense_is_refused(
    tmp_path: Path, content: str, mode: int, said: str
) -> None:
    place = tmp_path / "token"
    place.write_text(content)
    place.chmod(mode)
    with pytest.raises(PercoreError, match=said):
        read_tokens(str(place))
    with pytest.raises(PercoreError, match="the token cannot be read: No such file"):
        read_tokens(str(tmp_path / "none"))


def test_tokens_are_read_with_their_rights(tmp_path: Path) -> None:
    place = tmp_path / "token"
    place.touch(mode=0o600)
    place.write_text(f"# two\n{READER}\n{ACTOR} actions\n")
    assert read_tokens(str(place)) == [Token(READER, Right.READING), Token(ACTOR, Right.ACTIONS)]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "web1.example.com"])
def test_beyond_loopback_a_token_is_needed(host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(UsageError, match="can be reached by others, so a token is needed"):
        command._read_options(["--host", host])
    assert command._read_options(["--host", "localhost"]).host == "127.0.0.1"
    with pytest.raises(UsageError, match="must be an address of this host, not 'web1'"):
        command._read_options(["--host", "web1", "--token-file", "x"])


# -- over a real connection ----------------------------------------------------------------------------------------------


@pytest.fixture
def served() -> Iterator[int]:
    access = Access((), port=0)
    server = make_server(WebSite(ROUTES, access), "127.0.0.1", 0)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    yield server.effective_port
    server.close()
    server.task_dispatcher.shutdown()


def exchange(port: int, sent: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(sent)
        answer = b""
        with contextlib.suppress(ConnectionResetError):  # it reads no more of what is too much
            while part := client.recv(65536):
                answer += part
        return answer


def test_the_user_of_the_connection_counts_where_there_is_no_token(
    served: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = b"GET /logs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert exchange(served, request).startswith(b"HTTP/1.1 200 ")
    monkeypatch.setattr("percore.web.server.uid_of_client", lambda _: 12345)
    assert exchange(served, request).startswith(b"HTTP/1.1 403 ")


def test_the_kernel_tells_which_user_a_connection_is_of() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        host, port = client.getsockname()
        name, server_port = server.getsockname()
        environ = {"REMOTE_ADDR": host, "REMOTE_PORT": str(port), "SERVER_NAME": name, "SERVER_PORT": str(server_port)}
        assert uid_of_client(environ) == os.geteuid()
        assert uid_of_client({**environ, "SERVER_PORT": "1"}) is None
    assert uid_of_client({"REMOTE_ADDR": "10.0.0.1", "REMOTE_PORT": "1", "SERVER_PORT": "2"}) is None


def test_requests_have_bounds_on_size_and_time(served: int, monkeypatch: pytest.MonkeyPatch) -> None:
    start = b"POST /do HTTP/1.1\r\nHost: localhost\r\n"
    assert exchange(served, start + b"X: " + b"y" * 40_000 + b"\r\n\r\n")[9:12] in (b"", b"431")
    assert exchange(served, start + b"Content-Length: 999999\r\n\r\n")[9:12] in (b"", b"413")
    monkeypatch.setattr("percore.web.server._REQUEST_SECONDS", 0.2)
    with socket.create_connection(("127.0.0.1", served), timeout=10) as client:
        ended = False
        for _ in range(100):
            try:
                client.sendall(b"G")
                client.settimeout(0.05)
                ended = client.recv(1) == b""
            except TimeoutError:
                continue
            except OSError:
                ended = True
            if ended:
                break
        assert ended, "a request that comes drop by drop was not given up"


# -- state and health --------------------------------------------------------------------------------------------------


def shown(**changes: Any) -> Snapshots:
    worker = {"slot": 0, "state": "running", "failure": "", "finished": False}
    app = {"name": "shop", "wanted": 2, "workers": [worker, {**worker, "slot": 1}], **changes}
    snapshots = Snapshots(None, lambda *_: {})  # type: ignore[arg-type]
    snapshots._last = Snapshot(time.monotonic() + 60, 0.0, "", {}, {"shop": app}, [], "")
    return snapshots


def request(right: Right) -> HttpRequest:
    return HttpRequest("GET", "/health", {}, {}, b"", right)


def test_health_is_503_with_reasons_as_long_as_a_wanted_worker_is_not_ready() -> None:
    assert answer_health(shown(), request(Right.NOTHING)).status == 200
    failing = shown(workers=[{"slot": 0, "state": "backoff", "failure": "exit code 3", "finished": False}])
    answer = answer_health(failing, request(Right.FIGURES))
    assert (answer.status, json.loads(answer.body)["reasons"]) == (
        503, ["shop: 2 of 2 workers are not ready: exit code 3"],
    )  # fmt: skip
    assert json.loads(answer_health(failing, request(Right.NOTHING)).body) == {"status": "failing"}
    assert answer_health(shown(wanted=0, workers=[]), request(Right.NOTHING)).status == 200


@pytest.mark.parametrize(
    ("worker", "status"),
    [
        ({"state": "exited", "failure": "", "finished": True}, 200),  # its work is done, and it ended with success
        ({"state": "exited", "failure": "", "finished": False}, 503),
        ({"state": "running", "failure": "it accepts no connections", "finished": False}, 503),
    ],
)
def test_a_worker_that_has_done_its_work_counts_and_one_that_does_not_serve_does_not(
    worker: dict[str, Any], status: int
) -> None:
    found = shown(wanted=1, workers=[{"slot": 0, **worker}])
    assert answer_health(found, request(Right.NOTHING)).status == status


def test_two_workers_of_one_slot_are_one() -> None:
    """In a reload, the next one is ready while the one before still drains."""
    worker = {"slot": 0, "state": "running", "failure": "", "finished": False}
    assert answer_health(shown(workers=[worker, worker]), request(Right.NOTHING)).status == 503


def test_a_supervisor_that_does_not_answer_is_said() -> None:
    snapshots = shown()
    snapshots._last = _nothing("no supervisor runs", time.monotonic() + 60)
    assert json.loads(answer_health(snapshots, request(Right.FIGURES)).body)["reasons"] == ["no supervisor runs"]
    answer = answer_status(snapshots, request(Right.READING))
    assert answer.status == 503
    assert set(json.loads(answer.body)) == {"system_info", "monit", "processes", "error"}


def test_a_snapshot_is_asked_for_once_a_second_whoever_reads() -> None:
    asked: list[str] = []

    def answer(_: object, op: str, **__: object) -> dict[str, Any]:
        asked.append(op)
        return {"workers": [], "apps": [], "release": None, "faults": {}}

    snapshots = Snapshots(None, answer)  # type: ignore[arg-type]
    threads = [threading.Thread(target=snapshots.get) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert asked == ["ping", "status", "describe"]


def test_a_body_is_json_or_refused() -> None:
    assert as_json({"a": 1}).body == b'{"a": 1}'
    with pytest.raises(ValueError, match="it is no object"):
        request(Right.NOTHING)._replace(body=b"[]").json()
