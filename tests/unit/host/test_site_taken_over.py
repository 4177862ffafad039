"""A site on its way into NGINX: refused before anything changes, taken over for certain, and asked by its own name."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from percore.common.names import first_host
from percore.common.procfs import children_of
from percore.errors import RolloutError
from percore.host.messages import ProbeTarget
from percore.host.probe import _ask
from percore.host.release import health
from percore.host.resources import certificates, nginx
from percore.host.resources.registry import make
from tests.nginx import App, Nginx, make_pair, needs_nginx, render_site, running_apps, serving, text_of
from tests.waiting import free_port, wait_for

pytestmark = needs_nginx


@pytest.fixture
def app() -> Iterator[ThreadingHTTPServer]:
    with running_apps() as [server]:
        yield server


# -- refused before the switch --------------------------------------------------------------------------------------------


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Nginx:
    """What lies in /etc/nginx there."""
    monkeypatch.setattr(nginx, "ROOT", str(tmp_path / "etc"))
    return Nginx(tmp_path / "etc")


def site(host: Nginx, text: str, *, link: str = "sites-enabled/shop", **more: Any) -> nginx.Site:
    spec = {
        "kind": "site",
        "path": f"{host.folder}/sites-available/shop",
        "link": f"{host.folder}/{link}",
        "sha256": "0",
        **more,
    }
    made = make(spec, lambda _: text.encode())
    assert isinstance(made, nginx.Site)
    return made


def refusal(made: nginx.Site) -> str:
    with pytest.raises(RolloutError) as caught:
        made.verify()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def files_of(host: Nginx) -> set[str]:
    return {str(path) for path in host.folder.rglob("*")}


def test_a_good_site_passes_and_nothing_changes(host: Nginx, tmp_path: Path) -> None:
    before = files_of(host)
    site(host, text_of(render_site(tmp_path, nginx_port=free_port()))).verify()
    assert files_of(host) == before


def test_a_site_that_nginx_does_not_read_is_refused(host: Nginx, tmp_path: Path) -> None:
    conf = host.folder / "nginx.conf"
    conf.write_text(conf.read_text().replace("sites-enabled/*", "conf.d/*.conf"))
    text = text_of(render_site(tmp_path))
    said = refusal(site(host, text))
    assert said.startswith(
        "NGINX does not read /etc/nginx/sites-enabled/shop: its configuration includes no such file -> "
    )
    assert "set nginx_link" in said
    (host.folder / "conf.d").mkdir()
    site(host, text, link="conf.d/shop.conf").verify()


@pytest.mark.parametrize(("name", "more"), [("_", {}), ("_", {"nginx_upstream_keepalive": 4})])
def test_a_second_site_for_every_name_is_refused_with_the_first_one_s_name(
    host: Nginx, tmp_path: Path, name: str, more: dict[str, Any]
) -> None:
    """As an app has it that was renamed."""
    host.write(text_of(render_site(tmp_path, app_name="former", server_name=name)), "former")
    text = text_of(render_site(tmp_path, server_name=name, **more))
    said = refusal(site(host, text))
    assert said.startswith(
        "two sites answer every name on 0.0.0.0:80: /etc/nginx/sites-enabled/shop and /etc/nginx/sites-enabled/former"
    )
    assert "nginx_replaces: [/etc/nginx/sites-enabled/former]" in said
    site(host, text, without=[f"{host.folder}/sites-enabled/former"]).verify()


def test_a_directive_that_nginx_does_not_have_is_refused_with_its_line(host: Nginx, tmp_path: Path) -> None:
    said = refusal(site(host, text_of(render_site(tmp_path, nginx_http_snippet="geoo $x;"))))
    assert said.startswith("the NGINX there has no directive 'geoo' (/etc/nginx/sites-enabled/shop:3) -> ")


def test_a_second_site_of_the_same_name_is_refused_although_nginx_takes_it(host: Nginx, tmp_path: Path) -> None:
    host.write("server { listen 80; server_name www.example.com shop.example.com; }", "former")
    said = refusal(site(host, text_of(render_site(tmp_path))))
    assert "two sites answer 'shop.example.com' on 0.0.0.0:80: " in said
    assert "/etc/nginx/sites-enabled/former" in said
    host.write("server { listen 80; server_name a; }\nserver { listen 80; server_name a; }", "former")
    site(host, text_of(render_site(tmp_path))).verify()  # not about this site


@pytest.mark.parametrize(
    ("days", "said"),
    [
        ({"begins_in_days": -9, "ends_in_days": -1}, "pair.pem ended on 20"),
        ({"begins_in_days": 1}, "pair.pem begins on 20"),
    ],
)
def test_a_certificate_that_is_not_valid_now_is_refused(
    host: Nginx, tmp_path: Path, days: dict[str, Any], said: str
) -> None:
    (tmp_path / "pair.pem").write_text("".join(make_pair(**days)))
    text = text_of(render_site(tmp_path, nginx_certificate=f"{tmp_path}/pair.pem"))
    found = refusal(site(host, text))
    assert said in found
    assert "renew it, then deploy again" in found


def test_a_pair_that_does_not_fit_is_refused_in_our_words(host: Nginx, tmp_path: Path) -> None:
    certificate, key = make_pair()
    other_certificate, other_key = make_pair()
    for content, said in (
        (
            certificate + other_key,
            "is not that of the certificate -> use its own key; in the file of the certificate the host's own",
        ),
        (other_certificate + certificate + key, "is not that of the certificate"),
        (certificate, "the key TMP/pair.pem holds no key as PEM without a passphrase"),
        (key, "the certificate TMP/pair.pem holds no certificate as PEM"),
        (None, "the certificate TMP/pair.pem cannot be read"),
    ):
        path = tmp_path / "pair.pem"
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_text(content)
        found = refusal(site(host, text_of(render_site(tmp_path, nginx_certificate=str(path)))))
        assert said.replace("TMP", str(tmp_path)) in found


@pytest.mark.parametrize("days", [(-1, 1), (-30, 397), (-1, 365 * 40), (-365 * 60, 1)])
def test_the_validity_of_a_certificate_is_read_as_others_read_it(days: tuple[int, int]) -> None:
    from cryptography import x509

    pem = make_pair(begins_in_days=days[0], ends_in_days=days[1])[0]
    expected = x509.load_pem_x509_certificate(pem.encode())
    [found] = certificates._validities(b"text before\n" + pem.encode() + b"and after")
    begins, ends = expected.not_valid_before_utc.timestamp(), expected.not_valid_after_utc.timestamp()
    assert found == (begins, ends)


BEGIN, END = b"-----BEGIN CERTIFICATE-----\n", b"\n-----END"


@pytest.mark.parametrize("content", [b"", BEGIN + b"AAAA" + END, BEGIN + b"!" + END, BEGIN + b"MAIwAA==" + END])
def test_what_is_no_certificate_is_left_to_nginx(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "c.pem").write_bytes(content)
    certificates.require_valid(str(tmp_path / "c.pem"), now=time.time())


# -- taken over --------------------------------------------------------------------------------------------------------------


def take_over(monkeypatch: pytest.MonkeyPatch, made: Nginx, *, reloads: bool) -> None:
    """NGINX reads its files again, as on a host of which systemd has the unit."""

    def run(argv: list[str], **_: Any) -> str:
        assert made.process
        wait_for(lambda: made.process and children_of(made.process.pid), "its workers")
        if argv[:2] == ["systemctl", "show"]:
            return f"MainPID={made.process.pid}\n"
        if argv[0] == "systemctl" and reloads:
            made.process.send_signal(signal.SIGHUP)
        return ""

    monkeypatch.setattr(nginx, "run", run)
    nginx.NginxReload({}, lambda _: b"").apply()


def test_after_a_reload_the_new_configuration_answers_each_request(
    tmp_path: Path, app: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tmp_path, port=app.server_port) as (made, port):
        for status in (201, 202, 203):
            made.write(f"server {{ listen {port}; return {status}; }}")
            take_over(monkeypatch, made, reloads=True)
            assert {health.try_once("127.0.0.1", port, path="/").status for _ in range(30)} == {status}


def test_a_configuration_that_is_not_taken_over_is_told(
    tmp_path: Path, app: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nginx, "TAKE_OVER_SECONDS", 0.3)
    with serving(tmp_path, port=app.server_port) as (made, _), pytest.raises(RolloutError, match="did not take over"):
        take_over(monkeypatch, made, reloads=False)


# -- asked -------------------------------------------------------------------------------------------------------------------


def check_of(folder: Path, nginx_port: int, **variables: Any) -> health.SiteCheck:
    """As the plan of a release has it."""
    ask = render_site(folder, nginx_port=nginx_port, **variables).health()
    return health.SiteCheck(ask["site_port"], ask["host"], ask["path"], ask["site_token"], ask.get("tls_port"))


def fault_of(check: health.SiteCheck, *, seconds: float = 0) -> str:
    try:
        health.check_site(check, seconds=seconds)
    except health.HealthError as error:
        return str(error)
    return ""


@contextlib.contextmanager
def checked(folder: Path, **variables: Any) -> Iterator[tuple[Nginx, health.SiteCheck]]:
    with serving(folder, **variables) as (made, port):
        yield made, check_of(folder, port, **variables)


def test_any_answer_of_the_app_will_do_unless_a_path_is_asked_for(tmp_path: Path, app: ThreadingHTTPServer) -> None:
    with checked(tmp_path, port=app.server_port) as (_, check):
        for status in (200, 302, 401, 404, 500):
            assert fault_of(check._replace(path=None)) == ""
            assert bool(fault_of(check._replace(path=f"/{status}"))) == (status >= 400)


@pytest.mark.parametrize("status", [200, 400, 404, 500, 502, 503])
def test_without_a_path_what_nginx_says_in_place_of_the_app_is_no_answer(tmp_path: Path, status: int) -> None:
    class Always(App):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

    with running_apps(1, Always) as [server], checked(tmp_path, port=server.server_port) as (_, check):
        assert bool(fault_of(check)) == (status in (502, 503))


def test_an_app_that_is_gone_is_a_fault(tmp_path: Path) -> None:
    with checked(tmp_path, port=free_port()) as (_, check):
        assert "GET / answered 502" in fault_of(check)


@pytest.mark.parametrize(
    "other", ["return 200 'Welcome to nginx!';", "location / { proxy_pass http://127.0.0.1:APP; }"]
)
def test_the_answer_of_another_configuration_is_no_answer(tmp_path: Path, app: ThreadingHTTPServer, other: str) -> None:
    with checked(tmp_path, port=app.server_port) as (made, check):
        assert fault_of(check) == ""
        assert "another configuration answers GET /.percore/site there" in fault_of(
            check_of(tmp_path, check.port, nginx_read_timeout=7)
        )
        other = other.replace("APP", str(app.server_port))
        made.write(f"server {{ listen {check.port}; {other} }}")
        made.reload()
        expected = f"NGINX does not serve this site on port {check.port}: another configuration"
        wait_for(lambda: expected in fault_of(check), "the fault")


def test_https_is_asked_where_it_is_served(tmp_path: Path, app: ThreadingHTTPServer) -> None:
    (tmp_path / "pair.pem").write_text("".join(make_pair()))
    more = {"nginx_certificate": f"{tmp_path}/pair.pem", "nginx_tls_port": free_port(), "health_path": "/health"}
    with checked(tmp_path, port=app.server_port, **more) as (_, check):
        assert fault_of(check) == ""
        assert check.tls_port
        assert "port" in fault_of(check._replace(tls_port=free_port()))
        target = ProbeTarget("web1", "127.0.0.1", check.tls_port, "/health", "shop.example.com", tls=True)
        assert _ask(target) is None
        assert _ask(target._replace(tls=False)) is not None


def test_maintenance_holds_up_no_check_and_is_no_fault_of_a_rollout(tmp_path: Path, app: ThreadingHTTPServer) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "maintenance.html").write_text("soon")
    limits = {"nginx_rate_limits": {"/": "1r/m"}, "nginx_rate_burst": 1, "health_path": "/health"}
    with checked(tmp_path, port=app.server_port, **limits) as (_, check):
        assert [fault_of(check) for _ in range(5)] == [""] * 5
        target = ProbeTarget("web1", "127.0.0.1", check.port, "/health", "shop.example.com")
        assert health.try_once("127.0.0.1", check.port, path="/health").status == 503
        assert _ask(target) is None
        (tmp_path / "shop" / "maintenance.html").unlink()
        assert [_ask(target) for _ in range(3)] == [None] * 3  # too often for the limit


def test_a_site_of_several_names_is_asked_by_the_first_real_one(tmp_path: Path) -> None:
    class Picky(App):
        def do_GET(self) -> None:
            self.send_response(200 if self.headers["Host"] == "shop.example.com" else 400)
            self.send_header("Content-Length", "0")
            self.end_headers()

    names = "~^old shop.example.com www.example.com"
    with running_apps(1, Picky) as [server]:
        with checked(tmp_path / "a", port=server.server_port, server_name=names, health_path="/health") as (_, check):
            assert fault_of(check) == ""
        own = {"server_name": "_", "health_host": "shop.example.com", "health_path": "/health"}
        with checked(tmp_path / "b", port=server.server_port, **own) as (_, check):
            assert fault_of(check) == ""


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("_", ""), ("", ""), ("shop.example.com", "shop.example.com"), ("a.example.com b.example.com", "a.example.com"),
        ("*.example.com", "www.example.com"), (".example.com", "example.com"), ("shop.*", "shop.example"),
        ("~^shop\\d+$", ""), ("~^x _ *.b.example.com", "www.b.example.com"),
    ],
)  # fmt: skip
def test_the_first_name_that_a_site_answers_to(name: str, asked: str) -> None:
    assert first_host(name) == asked
