"""What the agent finds with root's eyes: rules of a firewall, and NGINX that runs with other files than there are."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from percore.common.procfs import boot_time
from percore.host.diagnosis import nginx
from percore.host.diagnosis.diagnose import SaidFinding, _believed
from percore.host.diagnosis.firewall import closed_ports

PERCORES = """
table inet percore_firewall {
	chain input {
		type filter hook input priority filter; policy drop;
		ct state established,related accept
		iif "lo" accept
		meta l4proto { icmp, ipv6-icmp } accept
		tcp dport { 22 } accept
		ip saddr 10.0.0.1 tcp dport { 80, 443 } accept
		tcp dport 8000-8010 accept
	}
}
"""


def test_a_port_that_no_rule_names_is_closed_where_the_rest_is_dropped() -> None:
    assert closed_ports(PERCORES, [22, 80, 443, 8005, 5000]) == [5000]


@pytest.mark.parametrize(
    "rules",
    [
        "",
        PERCORES.replace("policy drop", "policy accept"),
        PERCORES.replace("tcp dport { 22 }", "tcp dport @web"),
        PERCORES.replace("tcp dport { 22 } accept", "ip saddr 10.0.0.0/8 accept"),
        PERCORES.replace("tcp dport { 22 } accept", "jump ufw-user-input"),
        PERCORES.replace("{ 22 }", "{ 22, commplex-main }"),
    ],
)
def test_rules_that_may_let_a_port_in_are_no_finding(rules: str) -> None:
    assert closed_ports(rules, [5000]) == []


@pytest.fixture
def looking(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """NGINX with one site, its workers a process of ours."""
    site = tmp_path / "shop"
    site.write_text("server { server_name shop.example.org; }")

    def look(sites: list[str], *, code: int = 0, error: str = "", workers: bool = True) -> nginx.NginxLook:
        said = f"# configuration file {site}:\n{site.read_text()}\n"
        monkeypatch.setattr(nginx, "find_program", lambda _: "/usr/sbin/nginx")
        monkeypatch.setattr(nginx, "_ask", lambda _: subprocess.CompletedProcess([], code, said, error))
        monkeypatch.setattr(nginx, "workers_if_any", lambda: {(1, look.ticks)} if workers else set())  # type: ignore[attr-defined]
        return nginx.look_at_nginx(sites)

    look.site = site  # type: ignore[attr-defined]
    look.ticks = int((time.time() - boot_time()) * os.sysconf("SC_CLK_TCK"))  # type: ignore[attr-defined]
    return look


def told(look: nginx.NginxLook) -> list[str]:
    return [finding.what for finding in look.findings]


def test_nginx_that_runs_with_its_files_is_no_finding_and_one_that_has_others_is(looking: Any) -> None:
    site = str(looking.site)
    assert told(looking([site])) == []
    os.utime(site, (0, 0))  # as `cp -p` or `mv` puts back a file of before
    looking.ticks -= 60 * os.sysconf("SC_CLK_TCK")
    (found,) = told(looking([site]))
    assert found.startswith(f"NGINX runs with what it read before {site} was changed")


def test_a_site_that_nginx_does_not_read_refuses_or_does_not_run_is_told(looking: Any) -> None:
    site = str(looking.site)
    assert told(looking([site, "/etc/nginx/sites-enabled/other"])) == [
        "NGINX does not read the site /etc/nginx/sites-enabled/other"
    ]
    assert told(looking([site], workers=False)) == ["NGINX does not run"]
    assert told(looking([], workers=False)) == [], "it is none of ours, and does not run"
    (refused,) = told(
        looking([site], code=1, error='nginx: [emerg] 681#681: unknown directive "x" in /etc/nginx/a:1\nfailed')
    )
    assert refused.endswith('would not start again: unknown directive "x" in /etc/nginx/a:1')


def test_of_a_certificates_file_the_first_certificate_leaves_the_host_and_never_the_key(looking: Any) -> None:
    block = "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n"
    key = "-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----\n"
    pair = looking.site.with_name("pair.pem")
    pair.write_text(key + block.format("own") + block.format("chain"))
    looking.site.write_text(f"server {{\n server_name shop.example.org;\n ssl_certificate {pair};\n}}\n")
    (found,) = looking([str(looking.site)]).certificates
    assert found.pem == block.format("own").strip()
    assert found.names == ["shop.example.org"]


def test_a_severity_that_a_supervisor_invents_is_a_warning() -> None:
    assert _believed(SaidFinding("a", "b", "c", "\x1b[31m")).severity == "warning"
    assert _believed(SaidFinding("a", "b", "c", "note")).severity == "note"
