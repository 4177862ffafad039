"""The site that percore writes for NGINX, judged by NGINX itself, by other readers of its language, and by what it does."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from percore.deploy.plan.nginx_names import nginx_id
from percore.deploy.plan.site import SiteSettings, upstream_fault
from percore.deploy.schema import read_fields
from percore.errors import UsageError
from tests.nginx import (
    PROJECT,
    App,
    Nginx,
    ask,
    make_pair,
    needs_nginx,
    render_site,
    running_apps,
    serving,
    text_of,
    unverified,
)
from tests.waiting import free_port, wait_for

FORWARDED = {
    "X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "www.example.com",
    "X-Forwarded-Port": "8443", "X-Real-IP": "203.0.113.9", "Forwarded": "for=203.0.113.8;proto=https",
    "X-Forwarded-Prefix": "/shop",
}  # fmt: skip


@pytest.fixture
def app() -> Iterator[ThreadingHTTPServer]:
    with running_apps() as [server]:
        yield server


def asked(server: ThreadingHTTPServer) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = server.asked  # type: ignore[attr-defined]
    return found


def settings_of(**variables: Any) -> SiteSettings:
    settings = render_site(Path("/srv"), **variables).settings
    assert settings is not None
    assert settings.site is not None
    return settings.site


# -- variables ----------------------------------------------------------------------------------------------------------


def test_a_variable_that_an_older_role_does_not_know_has_the_default_of_the_role() -> None:
    class Without(dict[str, Any]):
        def where(self, name: str = "") -> str:
            return name

    shipped = yaml.safe_load((PROJECT / "roles" / "nginx" / "role.yml").read_text())["defaults"]
    needed = {"server_name": "_", "nginx_port": 80}
    assert read_fields(SiteSettings, Without(needed)) == read_fields(SiteSettings, Without(shipped))
    assert {field.name for field in dataclasses.fields(SiteSettings)} == {*read_fields(SiteSettings, Without(shipped))}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (
            "nginx_read_timeout",
            "60s",
            "variable 'nginx_read_timeout' should be a whole number from 1 to 604800 and is '60s'",
        ),
        ("nginx_read_timeout", 0, "should be a whole number from 1"),
        ("nginx_connect_timeout", -1, "variable 'nginx_connect_timeout'"),
        ("nginx_websocket_timeout", True, "variable 'nginx_websocket_timeout'"),
        ("nginx_body_size", "10 MB", "should be a size such as 10m"),
        ("nginx_body_size", "1; }", "should be a size such as 10m"),
        ("nginx_gzip", "on", "should be true or false"),
        ("nginx_http2", 2, "should be true or false"),
        ("nginx_static", ["public"], "should be a mapping of paths to directories of the release"),
        ("nginx_static", {"/a": "../etc"}, "should be a mapping of paths"),
        ("nginx_static", {"assets": "public"}, "should be a mapping of paths"),
        ("nginx_static", {"/a;b": "public"}, "should be a mapping of paths"),
        ("nginx_rate_limits", {"/": 10}, "should be a mapping of paths to rates"),
        ("nginx_rate_limits", {"/": "10/s"}, "should be a mapping of paths to rates"),
        ("nginx_upstream", "own", "should be shared or per_worker"),
        ("nginx_upstream_workers", 0, "should be a whole number from 1 to 1000, or max"),
        ("nginx_sticky", "ip", "should be cookie or address"),
        (
            "nginx_sticky",
            "cookie",
            "nginx_sticky: visitors come back to the same worker only where each worker has a port",
        ),
        ("nginx_hsts", "yes", "should be a value such as 'max-age=31536000; includeSubDomains'"),
        ("nginx_hsts", "max-age=1", "nginx_hsts: https is served neither here nor by a load balancer"),
        ("nginx_redirect", True, "nginx_redirect: https is served neither here nor by a load balancer"),
        ("nginx_certificate_key", "/etc/k.pem", "there is a key without a certificate"),
        ("nginx_certificate", "etc/c.pem", "should be an absolute path"),
        ("nginx_acme", "http://10.0.0.1", "should be HOST:PORT"),
        ("load_balancers", ["lb.example.com"], "should be a list of addresses and networks"),
        ("load_balancers", ["10.0.0.0/33"], "should be a list of addresses and networks"),
        ("nginx_real_ip_header", "X Real", "should be the name of a header"),
        ("health_host", "a b", "should be a name such as shop.example.com"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_in_one_line_that_names_it(name: str, value: Any, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        settings_of(**{name: value})
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(UsageError, match="http and https need different ports"):
        settings_of(nginx_certificate="/etc/c.pem", nginx_tls_port=80)
    with pytest.raises(UsageError, match="a path of static files has no rate limit"):
        settings_of(nginx_static={"/assets": "a"}, nginx_rate_limits={"/assets": "1r/s"})


def test_networks_are_written_as_nginx_and_nft_want_them() -> None:
    site = settings_of(load_balancers=["10.1.2.3/8", "2001:db8::5", "192.0.2.1"])
    assert site.load_balancers == ("10.0.0.0/8", "2001:db8::5", "192.0.2.1")


NAMES = ["shop", "shop-a", "shop.a", "shop_a", "Shop", "3dshop", "http", "x" * 100, f"{'x' * 99}y", "SHOP-A"]


def test_every_app_has_a_short_id_of_its_own() -> None:
    ids = [nginx_id(name) for name in NAMES]
    assert len({*ids}) == len(NAMES)
    assert max(map(len, ids)) <= 16
    assert all(found == found.lower() and found.startswith("app_") for found in ids)


@pytest.mark.parametrize(
    ("app", "upstream", "said"),
    [
        ({"port_per_worker": True, "instances": 2}, {}, "nginx_upstream: per_worker"),
        ({"increment_var": "PORT", "instances": "max"}, {}, "nginx_upstream: per_worker"),
        ({"port_per_worker": True, "instances": 1}, {}, ""),
        ({"instances": 4}, {}, ""),
        ({"instances": 2}, {"nginx_upstream": "per_worker"}, "port_per_worker: true in the process file"),
        ({"port_per_worker": True, "instances": "max"}, {"nginx_upstream": "per_worker"}, ""),
        ({"port_per_worker": True, "instances": -1}, {"nginx_upstream": "per_worker"}, "nginx_upstream_workers: 3"),
        (
            {"port_per_worker": True, "instances": 2},
            {"nginx_upstream": "per_worker", "nginx_upstream_workers": 2}, "",
        ),
    ],
)  # fmt: skip
def test_a_site_that_reaches_other_workers_than_there_are_is_told(
    app: dict[str, Any], upstream: dict[str, Any], said: str
) -> None:
    record = {"apps": [{"name": "worker"}, {"name": "web", "port": 5000, **app}]}
    found = upstream_fault(settings_of(**upstream), 5000, record, 4)
    assert said in found
    assert bool(found) == bool(said)


# -- judges ---------------------------------------------------------------------------------------------------------------

EVERYTHING: dict[str, Any] = {
    "nginx_tls_port": 8443, "load_balancers": ["10.0.0.0/8", "2001:db8::5"], "nginx_hsts": "max-age=31536000",
    "nginx_gzip": True, "nginx_sticky": "cookie", "nginx_upstream": "per_worker", "nginx_acme": "127.0.0.1:8402",
    "nginx_rate_limits": {"/": "100r/s", "/login": "30r/m"}, "nginx_upstream_keepalive": 8, "server_name": "_",
    "nginx_http_snippet": "map $uri $own { default 1; }", "nginx_server_snippet": "location /own {\n  return 204;\n}",
    "nginx_location_snippet": "proxy_set_header X-Own $own;\nadd_header X-Own $own;",
}  # fmt: skip
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "everything": EVERYTHING,
    "behind": {"load_balancers": ["10.0.0.5"], "nginx_redirect": True},
    "address": {"nginx_upstream": "per_worker", "nginx_sticky": "address", "nginx_upstream_workers": 3},
    "static": {"nginx_static": {"/": "public", "/assets": "dist/assets"}},
}


def whole(folder: Path, variant: str, *, is_alone: bool = False, **variables: Any) -> Nginx:
    """An NGINX with the site of this variant, and mostly with one of another app."""
    made, more = Nginx(folder / "nginx"), dict(VARIANTS[variant])
    if variant == "everything":
        (folder / "pair.pem").write_text("".join(make_pair()))
        more["nginx_certificate"] = f"{folder}/pair.pem"
    made.write(text_of(render_site(folder, **{**more, **variables})))
    if not is_alone:
        made.write(text_of(render_site(folder, app_name=f"other-{'x' * 90}", server_name="x.example.com")), "other")
    return made


@needs_nginx
@pytest.mark.parametrize("variant", VARIANTS)
def test_nginx_takes_the_site_without_a_word_of_warning_beside_that_of_another_app(
    tmp_path: Path, variant: str
) -> None:
    assert "[warn]" not in whole(tmp_path, variant).judge()


@needs_nginx
@pytest.mark.parametrize("name", NAMES)
def test_nginx_takes_the_site_of_an_app_of_any_name(tmp_path: Path, name: str) -> None:
    assert "test is successful" in whole(tmp_path, "everything", app_name=name).judge()


@pytest.mark.parametrize(
    ("version", "listens"), [("1.18.0", "ssl http2"), ("1.25.0", "ssl http2"), ("1.26.3", "ssl"), ("", "ssl http2")]
)
def test_http2_is_asked_for_as_the_version_of_nginx_wants_it(version: str, listens: str) -> None:
    site = settings_of(nginx_certificate="/etc/c.pem")
    assert site.has_http2_directive({"nginx_version": version}) == (listens == "ssl")
    assert site.has_http2_directive({"nginx_version": "", "os_codename": "trixie"})


@pytest.mark.parametrize("variant", VARIANTS)
def test_crossplane_reads_the_site_and_gixy_finds_nothing(
    tmp_path: Path, variant: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    crossplane = pytest.importorskip("crossplane")
    gixy = pytest.importorskip("gixy.cli.main")
    conf = whole(tmp_path, variant, is_alone=True).folder / "nginx.conf"
    parsed = crossplane.parse(str(conf))
    assert parsed["status"] == "ok", parsed["errors"]
    # That a site is checked for a file, and that http has no HSTS, is as wanted.
    skipped = "try_files_is_evil_too,hsts_header,error_log_off,worker_rlimit_nofile_vs_connections"
    monkeypatch.setattr(sys, "argv", ["gixy", "--skips", skipped, str(conf)])
    with contextlib.suppress(SystemExit):
        gixy.main()
    assert "Problem:" not in capsys.readouterr().out


# -- what the app is told -------------------------------------------------------------------------------------------------


@needs_nginx
def test_host_and_port_reach_the_app_as_the_client_sent_them(tmp_path: Path, app: ThreadingHTTPServer) -> None:
    with serving(tmp_path, port=app.server_port, server_name="_") as (_, port):
        for sent, seen in (
            ("shop.example.com:8080", "shop.example.com:8080"), ("Shop.Example.com", "shop.example.com"),
            ("[::1]:8080", "[::1]:8080"), ("10.0.0.4", "10.0.0.4"),
        ):  # fmt: skip
            reply = ask(port, headers={"Host": sent})
            assert (reply.seen["host"], reply.seen["x-forwarded-host"]) == (seen, seen)
        other = ask(port, "http://real.example.com/", headers={"Host": "spoofed.example.com"})
        assert other.seen["host"] == "real.example.com"


@needs_nginx
def test_what_a_trusted_proxy_says_is_kept_and_what_others_say_is_set_anew(
    tmp_path: Path, app: ThreadingHTTPServer
) -> None:
    with serving(tmp_path, port=app.server_port, load_balancers=["127.0.0.8/31"]) as (_, port):
        trusted = ask(port, headers=FORWARDED, source="127.0.0.9").seen
        assert (trusted["x-real-ip"], trusted["x-forwarded-for"]) == ("203.0.113.7", "203.0.113.7")
        assert (trusted["x-forwarded-proto"], trusted["x-forwarded-port"]) == ("https", "8443")
        assert trusted["x-forwarded-host"] == "www.example.com"
        assert trusted["forwarded"] == FORWARDED["Forwarded"]
        assert trusted["x-forwarded-prefix"] == "/shop"
        chain = {"X-Forwarded-For": "198.51.100.1, 203.0.113.7, 127.0.0.8", "X-Forwarded-Proto": "https, http"}
        behind_two = ask(port, headers=chain, source="127.0.0.9").seen
        assert (behind_two["x-forwarded-for"], behind_two["x-forwarded-proto"]) == ("203.0.113.7", "https")
        silent = ask(port, source="127.0.0.9").seen
        assert (silent["x-forwarded-proto"], silent["x-forwarded-host"]) == ("http", "shop.example.com")
        for_itself = ask(port, headers=FORWARDED).seen
        assert (for_itself["x-real-ip"], for_itself["x-forwarded-for"]) == ("127.0.0.1", "127.0.0.1")
        assert (for_itself["x-forwarded-proto"], for_itself["x-forwarded-port"]) == ("http", str(port))
        assert for_itself["x-forwarded-host"] == "shop.example.com"
        assert not {"forwarded", "x-forwarded-prefix"} & for_itself.keys()


@needs_nginx
def test_without_proxies_nobody_is_believed(tmp_path: Path, app: ThreadingHTTPServer) -> None:
    with serving(tmp_path, port=app.server_port) as (_, port):
        seen = ask(port, headers=FORWARDED).seen
        assert (seen["x-real-ip"], seen["x-forwarded-for"], seen["x-forwarded-proto"]) == (
            "127.0.0.1",
            "127.0.0.1",
            "http",
        )
        assert not {"forwarded", "x-forwarded-prefix"} & seen.keys()


# -- once, and for how long -----------------------------------------------------------------------------------------------


@needs_nginx
@pytest.mark.parametrize("upstream", ["shared", "per_worker"])
def test_a_request_that_takes_too_long_is_sent_once(tmp_path: Path, upstream: str) -> None:
    with (
        running_apps(2) as apps,
        serving(
            tmp_path, port=apps[0].server_port, nginx_upstream=upstream, nginx_upstream_workers=2, nginx_read_timeout=1,
        ) as (_, port),
    ):  # fmt: skip
        assert ask(port, "/slow/2").status == 504
        assert [each for server in apps for each in asked(server)] == [("GET", "/slow/2")]


@needs_nginx
def test_a_worker_that_is_gone_is_not_noticed_where_each_has_a_port(tmp_path: Path) -> None:
    with (
        running_apps(2) as apps,
        serving(tmp_path, port=apps[0].server_port, nginx_upstream="per_worker", nginx_upstream_workers=3) as (_, port),
    ):
        for method in ("GET", "POST"):
            found = Counter(ask(port, method=method, body=b"x").worker for _ in range(12))
            assert {*found} == {each.server_port for each in apps}


def upgrade(port: int, protocol: str, path: str = "/upgrade") -> socket.socket:
    link = socket.create_connection(("127.0.0.1", port), timeout=20)
    lines = f"GET {path} HTTP/1.1\r\nHost: shop.example.com\r\nUpgrade: {protocol}\r\nConnection: Upgrade\r\n\r\n"
    link.sendall(lines.encode())
    return link


def read_head(link: socket.socket) -> bytes:
    found = b""
    while b"\r\n\r\n" not in found:
        part = link.recv(4096)
        if not part:
            break
        found += part
    return found


@needs_nginx
def test_a_silent_websocket_lives_longer_than_a_silent_answer(tmp_path: Path, app: ThreadingHTTPServer) -> None:
    with serving(tmp_path, port=app.server_port, nginx_read_timeout=1, nginx_websocket_timeout=3) as (_, port):
        link = upgrade(port, "websocket")
        assert read_head(link).startswith(b"HTTP/1.1 101")
        time.sleep(1.5)  # longer than an answer may be silent
        link.sendall(b"hello")
        assert link.recv(100) == b"hello"
        assert link.recv(100) == b""  # cut after three silent seconds
        link.close()


@needs_nginx
def test_an_offer_to_speak_http2_in_the_clear_is_not_passed_on(tmp_path: Path, app: ThreadingHTTPServer) -> None:
    with serving(tmp_path, port=app.server_port) as (_, port):
        link = upgrade(port, "h2c", "/")
        head = read_head(link)
        assert head.startswith(b"HTTP/1.1 200")
        body = head.rpartition(b"\r\n\r\n")[2] or link.recv(4096)
        assert "upgrade" not in json.loads(body)["headers"]
        link.close()


@needs_nginx
def test_what_is_too_large_is_refused_and_texts_are_compressed(tmp_path: Path, app: ThreadingHTTPServer) -> None:
    with serving(tmp_path, port=app.server_port, nginx_body_size="1k", nginx_gzip=True) as (_, port):
        assert ask(port, method="POST", body=b"x" * 2000).status == 413
        assert ask(port, method="POST", body=b"x" * 900).status == 200
        long = ask(port, f"/{'x' * 2000}", headers={"Accept-Encoding": "gzip"})
        assert long.headers["content-encoding"] == "gzip"


# -- https ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    path = tmp_path / "pair.pem"
    path.write_text("".join(make_pair()))
    return path


@needs_nginx
def test_https_is_served_by_both_versions_of_http_and_http_leads_there(
    tmp_path: Path, app: ThreadingHTTPServer, pair: Path
) -> None:
    tls_port = free_port()
    with serving(
        tmp_path, port=app.server_port, nginx_certificate=str(pair), nginx_tls_port=tls_port,
        nginx_hsts="max-age=600; includeSubDomains",
    ) as (_, port):  # fmt: skip
        secure = ask(tls_port, tls=True, headers={"Host": f"shop.example.com:{tls_port}"})
        assert secure.headers["strict-transport-security"] == "max-age=600; includeSubDomains"
        assert secure.seen["x-forwarded-proto"] == "https"
        assert secure.seen["host"] == f"shop.example.com:{tls_port}"
        for source in ("127.0.0.1", "127.0.0.9"):
            plain = ask(port, "/a?b=c", source=source, method="POST", body=b"x")
            assert plain.status == 308
            assert plain.headers["location"] == f"https://shop.example.com:{tls_port}/a?b=c"
            assert "strict-transport-security" not in plain.headers
        context = unverified()
        context.set_alpn_protocols(["h2"])
        with socket.create_connection(("127.0.0.1", tls_port)) as link, context.wrap_socket(link) as wrapped:
            assert wrapped.selected_alpn_protocol() == "h2"


@needs_nginx
def test_a_key_in_a_file_of_its_own_and_no_redirect_by_choice(tmp_path: Path, app: ThreadingHTTPServer) -> None:
    certificate, key = make_pair()
    (tmp_path / "c.pem").write_text(certificate)
    (tmp_path / "k.pem").write_text(key)
    tls_port = free_port()
    with serving(
        tmp_path, port=app.server_port, nginx_certificate=f"{tmp_path}/c.pem", nginx_certificate_key=f"{tmp_path}/k.pem",
        nginx_tls_port=tls_port, nginx_redirect=False, nginx_http2=False,
    ) as (_, port):  # fmt: skip
        assert ask(port).status == 200
        assert ask(tls_port, tls=True).status == 200


@needs_nginx
def test_behind_a_load_balancer_that_serves_https_plain_http_leads_there_by_choice(
    tmp_path: Path, app: ThreadingHTTPServer
) -> None:
    with serving(
        tmp_path, port=app.server_port, load_balancers=["127.0.0.9"], nginx_redirect=True, nginx_hsts="max-age=600"
    ) as (_, port):
        plain = ask(port, "/a", headers={"X-Forwarded-Proto": "http"}, source="127.0.0.9")
        assert (plain.status, plain.headers["location"]) == (308, "https://shop.example.com/a")
        secure = ask(port, "/a", headers={"X-Forwarded-Proto": "https"}, source="127.0.0.9")
        assert (secure.status, secure.headers["strict-transport-security"]) == (200, "max-age=600")


# -- static files, limits, lines of one's own -----------------------------------------------------------------------------


@needs_nginx
def test_static_files_come_from_the_release_and_what_is_not_there_from_the_app(
    tmp_path: Path, app: ThreadingHTTPServer
) -> None:
    release = tmp_path / "shop" / "releases" / "one"
    for name in ("public/index.html", "public/robots.txt", "dist/assets/a.js"):
        (release / name).parent.mkdir(parents=True, exist_ok=True)
        (release / name).write_text(name)
    (tmp_path / "shop" / "current").symlink_to(release)
    static = {"/": "public", "/assets": "dist/assets"}
    with serving(tmp_path, port=app.server_port, nginx_static=static) as (_, port):
        for path, name in (
            ("/", "public/index.html"),
            ("/robots.txt", "public/robots.txt"),
            ("/assets/a.js", "dist/assets/a.js"),
        ):
            assert ask(port, path).body == name.encode()
        for path in ("/api", "/assets/old.js", "/public", "/assets", "/assets/%2e%2e/secret", "/404"):
            assert b'"port"' in ask(port, path).body, path
        assert ask(port, "/api", method="POST", body=b"x").status == 200
        link = upgrade(port, "websocket")
        assert read_head(link).startswith(b"HTTP/1.1 101")
        link.close()


@needs_nginx
def test_who_asks_too_often_gets_429_for_that_path_alone(tmp_path: Path, app: ThreadingHTTPServer) -> None:
    with serving(tmp_path, port=app.server_port, nginx_rate_limits={"/login": "1r/m"}, nginx_rate_burst=2) as (_, port):
        assert [ask(port, "/login").status for _ in range(5)] == [200, 200, 200, 429, 429]
        assert ask(port, "/login", source="127.0.0.9").status == 200
        assert [ask(port).status for _ in range(5)] == [200] * 5


@needs_nginx
def test_lines_of_ones_own_take_nothing_away(tmp_path: Path, app: ThreadingHTTPServer) -> None:
    own = {
        "nginx_http_snippet": "map $uri $own { default told; }", "nginx_server_snippet": "location = /own { return 204; }",
        "nginx_location_snippet": "proxy_set_header X-Own $own;",
    }  # fmt: skip
    with serving(tmp_path, port=app.server_port, **own) as (_, port):
        seen = ask(port, headers={"X-Forwarded-For": "203.0.113.7"}).seen
        assert (seen["x-own"], seen["host"], seen["x-forwarded-for"]) == ("told", "shop.example.com", "127.0.0.1")
        assert ask(port, "/own").status == 204


# -- sticky sessions ------------------------------------------------------------------------------------------------------


class Sessions(App):
    """As Socket.IO's polling: a session lives in the worker that began it; another one knows nothing of it."""

    known: ClassVar[dict[int, set[str]]] = {}

    def do_GET(self) -> None:
        own = self.known.setdefault(self.server.server_port, set())  # type: ignore[attr-defined]
        name = self.path[1:]
        if self.command == "POST":
            own.add(name)
        body = str(self.server.server_port).encode()  # type: ignore[attr-defined]
        self.send_response(200 if name in own else 400)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@needs_nginx
@pytest.mark.parametrize("sticky", ["cookie", "address"])
def test_none_of_a_thousand_polling_sessions_is_lost_among_four_workers(tmp_path: Path, sticky: str) -> None:
    with (
        running_apps(4, Sessions) as apps,
        serving(tmp_path, port=apps[0].server_port, nginx_upstream="per_worker", nginx_sticky=sticky) as (_, port),
    ):
        lost: list[str] = []
        workers: Counter[bytes] = Counter()

        def visit(number: int) -> None:
            source = "127.0.0.1" if sticky == "cookie" else f"127.0.{1 + number // 250}.{1 + number % 250}"
            begun = ask(port, f"/{number}", method="POST", body=b"", source=source)
            cookie = {"Cookie": begun.headers["set-cookie"].split(";")[0]} if sticky == "cookie" else {}
            polled = [ask(port, f"/{number}", headers=cookie, source=source) for _ in range(3)]
            workers[begun.body] += 1
            lost.extend(str(number) for each in polled if each.status != 200 or "set-cookie" in each.headers)

        def visit_all(first: int) -> None:
            for number in range(first, 1000, 8):
                visit(number)

        threads = [threading.Thread(target=visit_all, args=(first,)) for first in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert lost == []
        assert sum(workers.values()) == 1000
        assert len(workers) == 4


@needs_nginx
def test_a_visitor_whose_worker_is_gone_is_taken_by_another_one(tmp_path: Path) -> None:
    with running_apps(4) as apps:
        variables = {"nginx_upstream": "per_worker", "nginx_sticky": "cookie", "port": apps[0].server_port}
        with serving(tmp_path, **variables) as (_, port):
            begun = ask(port)
            cookie = {"Cookie": begun.headers["set-cookie"].split(";")[0]}
            gone = next(each for each in apps if each.server_port == begun.worker)
            gone.shutdown()
            gone.server_close()
            again = ask(port, headers=cookie)
            assert again.status == 200
            assert again.worker != begun.worker
            assert "HttpOnly; SameSite=Lax" in begun.headers["set-cookie"]
            made_up = ask(port, headers={"Cookie": f"{nginx_id('shop')}=x"})
            assert "set-cookie" in made_up.headers


# -- maintenance ------------------------------------------------------------------------------------------------------------


@needs_nginx
def test_during_maintenance_visitors_see_the_page_and_percore_reaches_the_app(
    tmp_path: Path, app: ThreadingHTTPServer
) -> None:
    (tmp_path / "shop").mkdir()
    page = tmp_path / "shop" / "maintenance.html"
    with serving(tmp_path, port=app.server_port, nginx_static={"/a": "a"}, nginx_maintenance_retry=120) as (
        nginx,
        port,
    ):
        token = next(
            line.split('"')[1]
            for line in (nginx.folder / "sites-enabled" / "shop").read_text().splitlines()
            if "return 200" in line
        )
        assert ask(port).status == 200
        page.write_text("<h1>soon</h1>")
        before = nginx.process
        nginx.reload()
        assert nginx.process is before
        for path, method in (("/", "GET"), ("/a/b", "GET"), ("/any", "POST"), ("/upgrade", "GET")):
            shown = ask(port, path, method=method, headers={"Upgrade": "websocket", "Connection": "Upgrade"})
            assert (shown.status, shown.body) == (503, b"<h1>soon</h1>")
            assert (shown.headers["retry-after"], shown.headers["content-type"]) == ("120", "text/html")
        for header, status in ((token, 200), ("guessed", 503)):
            assert ask(port, headers={"X-Percore-Check": header}).status == status
        assert ask(port, headers={"X-Percore-Check": token}, source="127.0.0.9").status == 503
        assert ask(port, "/503", headers={"X-Percore-Check": token}).seen["host"] == "shop.example.com"
        page.unlink()
        wait_for(lambda: ask(port).status == 200, "the app")
