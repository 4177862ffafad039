"""From hosts that hold sshd and Python alone to a site with Redis and PostgreSQL behind it; judged by what was installed."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from percore.lab import Lab
from percore.lab.host import LabHost
from tests.hosts.conftest import ROOT, Project, set_variables, wait_for
from tests.hosts.test_sandbox import MOST_EXPOSURE, exposure

POSTGRESQL_PASSWORD = "it's a: 'secret' \\ \"word\"/%"
REDIS_PASSWORD = 'red is "quoted" \\ /%'
WEB_TOKEN = "a-token-of-the-vault-00"
APP_HOST, EDGE_HOST = "node1", "node2"
SERVER = """\
const http = require('http'), { Client } = require('pg'), { createClient } = require('redis');
(async () => {
  const redis = createClient({ url: process.env.REDIS_URL });
  redis.on('error', () => {});
  await redis.connect();
  const answer = async (request, response) => {
    const { 'x-forwarded-proto': scheme, 'x-forwarded-for': client } = request.headers;
    const sql = new Client({ connectionString: process.env.DATABASE_URL });
    await sql.connect();
    const { rows } = await sql.query('SELECT current_database() AS database, current_user AS user');
    await sql.end();
    const visits = await redis.incr('visits');
    response.end(JSON.stringify({ visits, scheme, client, node: process.version, ...rows[0] }));
  };
  const fail = (response) => (error) => { response.statusCode = 500; response.end(String(error)); };
  http.createServer((request, response) => answer(request, response).catch(fail(response))).listen(process.env.PORT);
})();
"""
PACKAGE = {"name": "shop", "private": True, "engines": {"node": ">=22"}, "dependencies": {"pg": "8", "redis": "4"}}
PROCESSES = {"apps": [{"name": "shop", "script": "./server.js", "instances": 2, "exec_mode": "cluster"}]}


def bare_project(folder: Path, lab: Lab) -> Project:
    made = Project(folder, lab)
    shutil.copy(ROOT / "tasks.py", folder)
    for name in ("roles", "templates"):
        shutil.copytree(ROOT / name, folder / name)
    app = folder / "app"
    app.mkdir()
    (app / "server.js").write_text(SERVER)
    (app / "package.json").write_text(json.dumps(PACKAGE))
    (app / "ecosystem.json").write_text(json.dumps(PROCESSES))
    set_variables(
        made, app_name="shop", app_path="app", health_path="/", redis_password=REDIS_PASSWORD,
        postgresql_password=POSTGRESQL_PASSWORD, tls_self_signed=True, canary=0, web_token=WEB_TOKEN,
    )  # fmt: skip
    return made


def give_roles(made: Project, **of_app: Any) -> None:
    """An app's host with its servers, and a load balancer before it."""
    app, edge = made.lab.host(APP_HOST).address, made.lab.host(EDGE_HOST).address
    set_variables(
        made, APP_HOST, roles=["base", "node", "python", "redis", "postgresql", "tls", "firewall", "app", "monitoring"],
        load_balancers=[edge], **{"nginx_certificate": "", **of_app},
    )  # fmt: skip
    set_variables(
        made, EDGE_HOST, roles=["tls", "loadbalancer", "firewall"], loadbalancer_servers=[app],
        loadbalancer_certificate="{{ tls_path }}",
    )  # fmt: skip


def set_up_and_deploy(site: Project, *words: str, expected: int = 0) -> str:
    return set_up(site, "deploy", *words, expected=expected)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """All of it installed by one command."""
    folder = tmp_path_factory.mktemp("bare")
    lab = Lab.up(2, bare=True, name=f"bare{os.getpid()}", project=folder)
    try:
        made = bare_project(folder, lab)
        give_roles(made, base_sysctl={"net.core.somaxconn": 1024})
        set_up_and_deploy(made)
        yield made
    finally:
        lab.down()


@pytest.fixture
def app_host(site: Project) -> Iterator[LabHost]:
    """The host, set up as the fixture says; afterwards it is so again."""
    inventory = site.folder / "inventories" / f"{site.env}.yml"
    text = inventory.read_text()
    yield site.lab.host(APP_HOST)
    inventory.write_text(text)
    set_up(site)


def set_up(site: Project, *words: str, expected: int = 0) -> str:
    done = site.invoke("setup", "--env", site.env, *words)
    assert done.returncode == expected, done.stdout
    return done.stdout


def get(site: Project, url: str) -> dict[str, object]:
    answer = site.lab.inside(["curl", "-ksf", "-m", "5", url])
    assert answer.returncode == 0, f"{url}: {answer.returncode} {answer.stderr}"
    found: dict[str, object] = json.loads(answer.stdout)
    return found


def is_served(site: Project) -> bool:
    """The app's workers find their servers again by themselves, after a moment."""
    url = f"http://{site.lab.host(APP_HOST).address}/"
    return '"user":"shop"' in site.lab.inside(["curl", "-ksf", "-m", "5", url]).stdout


def is_open(site: Project, host: LabHost, port: int) -> bool:
    return (
        site.lab.inside(["curl", "-s", "-m", "2", "-o", "/dev/null", f"http://{host.address}:{port}/"]).returncode == 0
    )


def test_the_app_finds_its_database_and_its_cache_through_both_web_servers(site: Project) -> None:
    app, edge = site.lab.host(APP_HOST), site.lab.host(EDGE_HOST)
    first, second = get(site, f"http://{app.address}/"), get(site, f"https://{edge.address}/")
    assert (first["database"], first["user"]) == ("shop", "shop")
    assert str(first["node"]).startswith("v22.")
    assert int(str(second["visits"])) > int(str(first["visits"]))
    assert (first["scheme"], second["scheme"]) == ("http", "https")
    assert first["client"] == second["client"]


def ask_web(host: LabHost, path: str, token: str) -> str:
    """The status and the text, as a program on the host gets them."""
    words = f"import http.client as h; c = h.HTTPConnection('127.0.0.1', 9615); c.request('GET', '{path}', headers="
    words += f"{{'Authorization': 'Bearer {token}'}}); r = c.getresponse(); print(r.status, r.read().decode())"
    return host.run(f"python3 -c {shlex.quote(words)}")


def test_metrics_and_health_are_read_with_a_token_from_a_unit_that_may_do_little(site: Project) -> None:
    host = site.lab.host(APP_HOST)
    assert ask_web(host, "/health", "").strip() == '200 {"status": "ok"}'
    assert ask_web(host, "/metrics", "another").startswith("401 ")
    metrics = ask_web(host, "/metrics", WEB_TOKEN)
    assert 'percore_app_workers{app="shop",state="running"} 2.0' in metrics
    assert 'percore_worker_accept_queue_connections{app="shop",worker="1"} 0.0' in metrics
    assert ask_web(host, "/status", WEB_TOKEN).startswith("200 ")
    assert host.run("stat -c '%a %U' /etc/percore/web-token").split() == ["600", "percore"]
    assert exposure(host, "percore-web.service") <= MOST_EXPOSURE


def test_a_second_run_of_both_has_nothing_to_do(site: Project) -> None:
    for words in ((), ("--check",)):
        output = set_up_and_deploy(site, *words)
        assert "nothing to set up: 2 hosts" in output
        assert "nothing to change: 1 host" in output


def test_what_was_installed_judges_itself_well(site: Project) -> None:
    app, edge = site.lab.host(APP_HOST), site.lab.host(EDGE_HOST)
    assert "accepting connections" in app.run("pg_isready -h 127.0.0.1")
    login = 'psql -w -h 127.0.0.1 -U shop -d "dbname=shop passfile=/etc/percore/postgresql/shop.pass"'
    assert app.run(f"{login} -Atc 'SHOW server_encoding'").strip() == "UTF8"
    asked = f"REDISCLI_AUTH='{REDIS_PASSWORD}' redis-cli --no-auth-warning ping"
    assert app.run(asked).strip() == "PONG"
    assert "NOAUTH" in app.run("redis-cli ping")
    assert app.run("cat /proc/sys/net/core/somaxconn").strip() == "1024"
    app.run("nft --check --file /etc/percore-firewall.nft")
    edge.run("haproxy -c -f /etc/haproxy/haproxy.cfg")
    for host in (app, edge):
        assert host.run("dpkg --audit") == ""
        assert host.run("systemctl list-units --failed --no-legend") == ""
        host.run("systemd-analyze verify --man=no percore-firewall.service")
    secrets = "/etc/percore/postgresql/shop.pass /etc/percore/tls/shop.pem /etc/redis/percore-password.conf"
    assert app.run(f"stat -c %a%U {secrets}").split() == ["600root", "600root", "640redis"]
    assert app.run("""grep -rl -e "a: '*secret" -e "red is" /var/log /run/log || true""") == ""


def test_the_app_port_is_open_to_the_load_balancer_alone(site: Project) -> None:
    app, edge = site.lab.host(APP_HOST), site.lab.host(EDGE_HOST)
    assert is_open(site, app, 80)
    assert not is_open(site, app, 5000)
    reached = "python3 -c \"import urllib.request; print(urllib.request.urlopen('http://%s:5000/', timeout=5).status)\""
    assert edge.run(reached % app.address).strip() == "200"


def test_a_check_names_every_difference_shows_no_secret_and_touches_nothing(site: Project, app_host: LabHost) -> None:
    set_variables(site, redis_maxmemory="64mb", postgresql_password="another secret word", redis_password="new word")
    before = app_host.run("sha256sum /etc/redis/redis.conf /etc/percore/postgresql/*; nft list ruleset")
    output = set_up(site, "--check", "--diff", "--limit", APP_HOST, expected=8)
    assert "+maxmemory 64mb" in output
    assert "change /etc/percore/postgresql/shop.sql" in output
    assert "then restart redis-server.service" in output
    for secret in (POSTGRESQL_PASSWORD, REDIS_PASSWORD, "another secret word", "new word"):
        assert secret not in output
    assert app_host.run("sha256sum /etc/redis/redis.conf /etc/percore/postgresql/*; nft list ruleset") == before


def test_a_new_password_reaches_the_database_and_the_app(site: Project, app_host: LabHost) -> None:
    set_variables(site, postgresql_password="another secret word")
    assert "set up the database shop and its user" in set_up_and_deploy(site)
    assert get(site, f"http://{app_host.address}/")["database"] == "shop"
    set_variables(site, postgresql_password=POSTGRESQL_PASSWORD)
    assert "nothing to change" not in set_up_and_deploy(site)
    assert get(site, f"http://{app_host.address}/")["database"] == "shop"


def test_what_was_broken_by_hand_is_set_right(site: Project, app_host: LabHost) -> None:
    app_host.run(
        "systemctl stop redis-server; nft delete table inet percore_firewall; systemctl stop percore-firewall || true"
    )
    app_host.run("runuser -u postgres -- psql -qc 'ALTER ROLE shop NOLOGIN'")
    output = set_up(site)
    for told in ("start redis-server.service", "set up the database shop", "start percore-firewall.service"):
        assert told in output
    wait_for(lambda: is_served(site), "the app")
    assert not is_open(site, app_host, 5000)


def test_a_firewall_that_shuts_the_operator_out_is_rolled_back(site: Project, app_host: LabHost) -> None:
    before = app_host.run("nft list ruleset")
    set_variables(site, firewall_ssh_from=["192.0.2.1"])
    output = set_up(site, "--limit", APP_HOST, expected=4)
    assert f"{APP_HOST}: no new connection is possible since it was set up" in output
    assert "files and services are as before" in output
    assert app_host.run("nft list ruleset") == before


def test_a_server_that_does_not_start_is_rolled_back_to_what_it_was(site: Project, app_host: LabHost) -> None:
    set_variables(site, redis_settings={"no-such-setting": "yes"})
    output = set_up(site, "--limit", APP_HOST, expected=4)
    assert "redis-server.service" in output
    assert "files and services are as before" in output
    assert "no-such-setting" not in app_host.run("cat /etc/redis/redis.conf")
    wait_for(lambda: is_served(site), "the app")


HOLDER = """\
import fcntl, os, time
lock = open('/var/lib/dpkg/lock-frontend', 'w')
fcntl.lockf(lock, fcntl.LOCK_EX)
open('/run/held', 'w').close()
while os.path.exists('/run/held'):
    time.sleep(0.05)
"""


def test_the_lock_of_dpkg_is_waited_for_with_a_word(site: Project, app_host: LabHost) -> None:
    (app_host.root / "root/holder.py").write_text(HOLDER)
    app_host.run("apt-get remove -y -q logrotate; systemd-run --quiet --unit=holder python3 /root/holder.py")
    wait_for(lambda: app_host.run("ls /run/held", check=False) != "", "the holder")
    log = site.folder / "setup.log"
    with log.open("w") as out:
        words = [sys.executable, "-m", "invoke", "setup", "--env", site.env]
        running = subprocess.Popen(words, cwd=site.folder, stdout=out, stderr=subprocess.STDOUT)
    wait_for(lambda: "waiting for the lock of dpkg, which python3 (pid " in log.read_text(), "the word")
    app_host.run("rm /run/held")
    assert running.wait(120) == 0, log.read_text()
    assert app_host.run("dpkg-query -W -f '${Status}' logrotate") == "install ok installed"


def test_a_lock_keeps_the_set_up_away_and_history_tells_of_it(site: Project, app_host: LabHost) -> None:
    set_variables(site, redis_maxmemory="32mb")
    assert site.invoke("lock", "--env", site.env, "--why", "an audit").returncode == 0
    refused = site.invoke("setup", "--env", site.env)
    assert refused.returncode != 0
    assert ": an audit" in refused.stdout
    assert site.invoke("unlock", "--env", site.env).returncode == 0
    told = json.loads(site.invoke("history", "--env", site.env, "--json").stdout)
    assert {(entry["host"], entry["what"], entry["result"]) for entry in told} >= {
        (host, "setup", "good") for host in (APP_HOST, EDGE_HOST)
    }


@pytest.fixture(params=["bullseye", "trixie"])
def other(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Project]:
    lab = Lab.up(2, request.param, bare=True, name=f"{request.param[:5]}{os.getpid()}", project=tmp_path)
    try:
        made = bare_project(tmp_path, lab)
        give_roles(made, nginx_certificate="{{ tls_path }}")
        set_variables(made, EDGE_HOST, loadbalancer="nginx")
        yield made
    finally:
        lab.down()


def test_bare_hosts_of_debian_11_and_13_are_checked_untouched_then_set_up_and_then_need_nothing(other: Project) -> None:
    app, edge = other.lab.host(APP_HOST), other.lab.host(EDGE_HOST)
    checked = set_up_and_deploy(other, "--check", "--diff", expected=8)
    for told in (
        "install postgresql-",
        "install Node.js 22",
        "create /etc/redis/redis.conf",
        "create user percore",
    ):
        assert told in checked
    assert app.run("ls -d /etc/redis /etc/percore /opt/node /srv/shop /var/lib/percore-setup 2>/dev/null || true") == ""
    set_up_and_deploy(other)
    assert get(other, f"https://{app.address}/")["scheme"] == "https"
    assert get(other, f"https://{edge.address}/")["user"] == "shop"
    for host in (app, edge):
        told = other.lab.inside(["curl", "-s", "-o", "/dev/null", "-w", "%{redirect_url}", f"http://{host.address}/a"])
        assert told.stdout == f"https://{host.address}/a"
        assert host.run("dpkg --audit") == ""
        assert host.run("systemctl list-units --failed --no-legend") == ""
    output = set_up_and_deploy(other)
    assert "nothing to set up: 2 hosts" in output
    assert "nothing to change: 1 host" in output
