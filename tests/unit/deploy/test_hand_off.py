"""What ops get for a load balancer: all hosts, the same bytes for the same input, and what changed by its meaning."""

from __future__ import annotations

import hashlib
import json
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from percore.deploy.hand_off.compare import changes, read_meaning
from percore.deploy.plan.peers import EdgePeer, read_servers, weigh
from percore.deploy.report import Report
from percore.deploy.rollout.edge.hand_off import hand_over, hand_over_at_the_end
from percore.deploy.rollout.edge.load_balancers import find_load_balancers
from percore.deploy.rollout.hosts import load_hosts, plan_hosts
from percore.deploy.rollout.peers import find_peers, note_cores, read_cores
from percore.deploy.rollout.scope import Scope
from percore.errors import UsageError

HOSTS: dict[str, Any] = {
    "web1": {"ansible_host": "10.0.0.1"},
    "web2": {"ansible_host": "2001:db8::2"},
    "web3": {"ansible_host": "10.0.0.3", "nginx": False, "port": 7000},
}


def write_inventory(project: Path, hosts: dict[str, Any] = HOSTS, **variables: Any) -> Scope:
    (project / "inventories").mkdir(exist_ok=True)
    content = {
        "all": {"children": {"app": {"hosts": hosts}}, "vars": {"app_name": "my-shop", "app_path": ".", **variables}}
    }
    (project / "inventories" / "eu.yml").write_text(yaml.safe_dump(content, sort_keys=False))
    return Scope("eu", project)


def read(project: Path, name: str = "my-shop.conf") -> str:
    return (project / "build" / "nginx" / "eu" / name).read_text()


def hand(scope: Scope, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What it says."""
    hand_over(scope, Report())
    return [line.strip() for line in capsys.readouterr().out.splitlines()]


def test_every_host_is_a_peer_whatever_the_run_is_limited_to(tmp_path: Path) -> None:
    scope = write_inventory(tmp_path)
    hand_over(Scope("eu", tmp_path, limit="web1"), Report(quiet=True))
    peers = [name for path in read_meaning(read(tmp_path).encode()) if (name := path[-1]).startswith("peer")]
    assert peers == ["peer 10.0.0.1:80", "peer [2001:db8::2]:80", "peer 10.0.0.3:7000"]
    assert [peer.endpoint for peer in find_peers(plan_hosts(scope))] == [name[5:] for name in peers]


def test_the_same_input_gives_the_same_bytes_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scope = write_inventory(tmp_path)
    assert hand(scope, capsys)[-1].endswith("build/nginx/eu/ changed")
    before = {
        path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in (tmp_path / "build/nginx/eu").iterdir()
    }
    assert hand(scope, capsys)[-1].endswith("build/nginx/eu/ unchanged")
    after = {
        path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in (tmp_path / "build/nginx/eu").iterdir()
    }
    assert after == before
    assert set(after) == {"my-shop.conf", "my-shop.upstream.conf", "my-shop.haproxy.cfg", "README.md", "SHA256SUMS"}
    for line in read(tmp_path, "SHA256SUMS").splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256(after[name][0]).hexdigest() == digest


def test_what_changed_is_told_by_its_meaning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scope = write_inventory(tmp_path)
    hand(scope, capsys)
    others = {"web1": {**HOSTS["web1"], "edge_weight": 4}, "web3": {"ansible_host": "10.0.0.4", "edge_weight": 8}}
    scope = write_inventory(tmp_path, others, edge_read_seconds=60, server_name="shop.example.com")
    told = hand(scope, capsys)
    for line in (
        "- peer [2001:db8::2]:80",
        "+ peer 10.0.0.4:80",
        "~ proxy_read_timeout 3600s -> 60s (server 80 > location /)",
        "~ server_name _ -> shop.example.com (server 80)",
        "~ listen 80 default_server -> (nothing) (server 80)",
    ):
        assert line in told
    assert not [line for line in told if line.startswith(("~ my-shop", "~ README"))]


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("a 1;", "a   1; # why\n", []),
        ("upstream u { server a:1 m=2; }", "upstream u { server a:1 m=2 down; }", ["~ peer a:1 m=2 -> m=2 down"]),
        ("server { listen 80; }", "server { listen 80; } server { listen 443 ssl; root /a; }", ["+ server 443"]),
        ("map $a $b { x 1; y 2; }", "map $a $b { x 1; y 3; }", ["~ y 2 -> 3 (map $a $b)"]),
        ("add_header A 1; add_header B 1;", "add_header B 2; add_header A 1;", ["~ add_header B 1 -> 2"]),
        ("location / { deny all; deny b; }", "location / { deny all; }", ["- deny (2) b (location /)"]),
    ],
)  # fmt: skip
def test_layout_and_order_of_headers_are_no_difference(before: str, after: str, told: list[str]) -> None:
    assert changes(before.encode(), after.encode()) == told


def test_what_is_no_configuration_is_told_as_a_changed_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scope = write_inventory(tmp_path)
    hand(scope, capsys)
    path = tmp_path / "build/nginx/eu/my-shop.conf"
    path.write_text("upstream {{{")
    hand_over(scope, Report())
    shown = capsys.readouterr()
    assert "~ my-shop.conf" in shown.out
    assert "my-shop.conf was changed by hand, and is written anew" in shown.err
    assert "upstream app_my_shop {" in path.read_text()


def test_files_of_an_app_that_is_gone_go_and_others_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scope = write_inventory(tmp_path)
    hand(scope, capsys)
    (tmp_path / "build/nginx/eu/notes.txt").write_text("ours")
    scope = write_inventory(tmp_path, app_name="store")
    assert "~ my-shop.conf" in hand(scope, capsys)
    names = {path.name for path in (tmp_path / "build/nginx/eu").iterdir()}
    assert names == {"store.conf", "store.upstream.conf", "store.haproxy.cfg", "README.md", "SHA256SUMS", "notes.txt"}


def test_a_program_that_prints_the_inventory_runs_once_in_a_run(tmp_path: Path) -> None:
    scope = write_inventory(tmp_path)
    found = tmp_path / "inventories" / "eu.yml"
    program = tmp_path / "inventories" / "eu"
    hosts = {name: {"ansible_host": f"10.0.0.{number}"} for number, name in enumerate(("web1", "web2"), 1)}
    groups = {"all": {"vars": {"app_name": "my-shop", "app_path": "."}}, "app": {"hosts": [*hosts]}}
    answer = json.dumps({**groups, "_meta": {"hostvars": hosts}})
    program.write_text(f"#!/bin/sh\necho run >>{tmp_path}/runs\ncat <<'END'\n{answer}\nEND\n")
    program.chmod(0o755)
    found.unlink()
    scope = replace(scope, inventory=str(program), limit="web1")
    load_hosts(scope)
    find_load_balancers(scope)
    hand_over(scope, Report(quiet=True))
    assert (tmp_path / "runs").read_text() == "run\n"
    load_hosts(Scope("eu", tmp_path, inventory=str(program)))  # another run
    assert (tmp_path / "runs").read_text() == "run\nrun\n"


def test_weights_are_those_of_the_cores_when_all_are_known() -> None:
    peers = [EdgePeer(name, name, 80) for name in "abc"]
    assert [peer.weight for peer in weigh(peers, {"a": 4, "b": 8, "c": 12})] == [1, 2, 3]
    assert [peer.weight for peer in weigh(peers, {"a": 8, "b": 8, "c": 8})] == [1, 1, 1]
    assert [peer.weight for peer in weigh(peers, {"a": 4, "b": 8})] == [1, 1, 1]
    assert [peer.weight for peer in weigh(peers, {"a": 1, "b": 4096, "c": 16})] == [1, 256, 1]


def test_cores_that_a_deploy_heard_are_known_to_later_runs_and_nonsense_is_not(tmp_path: Path) -> None:
    class Heard:
        def __init__(self, name: str, cores: int, *, local: bool = False) -> None:
            self.name, self.remote = name, type("", (), {"facts": {"cores": cores}})
            self.address = type("", (), {"local": local})

    scope = write_inventory(tmp_path)
    note_cores(scope, [Heard("web1", 4), Heard("web2", 8), Heard("here", 2, local=True)])  # type: ignore[list-item]
    note_cores(scope, [Heard("web3", 12)])  # type: ignore[list-item]
    hand_over(scope, Report(quiet=True))
    assert "server [2001:db8::2]:80 weight=2 " in read(tmp_path)
    note_cores(scope, [Heard("web3", 10**9)])  # type: ignore[list-item]
    assert read_cores(scope) == {"web1": 4, "web2": 8, "web3": 4096}
    (tmp_path / ".percore/cores/eu.json").write_text('{"web1": "many", "web2": -1}')
    assert read_cores(scope) == {}


def test_what_is_not_taken_over_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hosts = {**HOSTS, "web4": {"nginx": False, "port": ""}, "fe": {"ansible_host": "fe80::1"}}
    scope = write_inventory(tmp_path, hosts, nginx_upstream_keepalive=8, nginx_client_max_body_size="5m")
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "nginx-site.conf.j2").write_text("server {}")
    told = " | ".join(hand(scope, capsys))
    for word in (
        "https: set edge_certificate",
        "nginx_upstream_keepalive: they hold on the hosts alone",
        "what templates/nginx-site.conf.j2 of this project adds",
        "web4: no port",
        "fe: the address holds on this machine's network alone",
        "weights by cores: those of web1, web2, web3, fe are known after a deploy",
    ):
        assert f"not taken over: {word}" in told
        assert word in read(tmp_path, "README.md")
    assert "nginx_client_max_body_size" not in told, "no role knows it, so it holds nowhere"


def test_a_host_is_called_as_ssh_calls_it_or_as_the_inventory_says(tmp_path: Path) -> None:
    config = tmp_path / "ssh_config"
    config.write_text("Host web1\n  HostName 10.9.9.1\n")
    hosts = {"web1": {}, "web2": {"edge_address": "192.168.0.2"}, "here": {"ansible_connection": "local"}}
    scope = write_inventory(tmp_path, hosts, ansible_ssh_common_args=f"-F {config}")
    assert [peer.address for peer in find_peers(plan_hosts(scope))] == ["10.9.9.1", "192.168.0.2", "127.0.0.1"]


@pytest.mark.parametrize(
    ("variables", "word"),
    [
        ({"edge_connect_seconds": "2s"}, "variable 'edge_connect_seconds' should be a whole number from 1 to 600"),
        ({"edge_certificate": "cert.pem; evil on"}, "variable 'edge_certificate' should be an absolute path"),
        ({"edge_body_size": "10 m"}, "variable 'edge_body_size' should be a size such as 10m"),
        ({"edge_address": "10.0.0.1; deny all"}, "variable 'edge_address' should be an address or a name"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_name(tmp_path: Path, variables: dict[str, Any], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        hand_over(write_inventory(tmp_path, **variables), Report())


def test_a_fault_of_a_host_that_the_run_is_not_about_is_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_inventory(tmp_path, {**HOSTS, "web9": {"port": "{{ nobody }}"}})
    hand_over_at_the_end(Scope("eu", tmp_path, limit="web1"), Report(), [])
    assert "stays as it was: inventories/eu.yml" not in (shown := capsys.readouterr().err)
    assert "build/nginx/eu stays as it was: " in shown
    assert "'nobody' is not defined" in shown


def test_a_deploy_to_this_machine_alone_writes_nothing_for_a_load_balancer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = {"ansible_connection": "local", "nginx": False, "port": 5000}
    for hosts, has_files in (({"localhost": here}, False), ({"localhost": here, **HOSTS}, True)):
        scope = write_inventory(tmp_path, hosts)
        hand_over_at_the_end(scope, Report(), plan_hosts(scope))
        assert ("load balancer: " in capsys.readouterr().out) == has_files
        assert (tmp_path / "build").exists() == has_files


def test_lines_to_drain_by_hand_do_it_once_and_undo_it(tmp_path: Path) -> None:
    hand_over(write_inventory(tmp_path), Report(quiet=True))
    path, text = tmp_path / "build/nginx/eu/my-shop.conf", read(tmp_path)
    lines = [line for line in read(tmp_path, "README.md").splitlines() if line.startswith("sed -i")]
    assert len(lines) == 6
    for drain, undrain in zip(lines[::2], lines[1::2], strict=True):
        for line, downs in ((drain, 1), (drain, 1), (undrain, 0), (undrain, 0)):
            *words, _ = shlex.split(line)
            subprocess.run([*words, path], check=True)
            assert path.read_text().count(" down;") == downs
        assert path.read_text() == text


def test_a_role_s_list_of_servers_may_hold_addresses_of_both_families_and_ports() -> None:
    servers = ["10.0.0.1", "10.0.0.2:8080", "2001:db8::3", "[2001:db8::4]:81", EdgePeer("web5", "10.0.0.5", 82)]
    found = read_servers(servers, 80, drained=["web5", "10.0.0.2"])
    assert [peer.endpoint for peer in found] == [
        "10.0.0.1:80", "10.0.0.2:8080", "[2001:db8::3]:80", "[2001:db8::4]:81", "10.0.0.5:82",
    ]  # fmt: skip
    assert [peer.down for peer in found] == [False, True, False, False, True]
