"""What many hosts have in common is found out once, and who is waited for is said."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from percore.deploy.connection.openssh import config as openssh
from percore.deploy.connection.openssh.config import Wish, find_route
from percore.deploy.connection.openssh.same_for_all import tells_apart
from percore.deploy.plan.roles import load_role
from percore.deploy.rollout.host import confirm_seconds
from percore.deploy.rollout.hosts import load_hosts
from percore.deploy.rollout.parallel import on_all
from percore.deploy.rollout.scope import Scope
from percore.deploy.waiting import waiting_for, waiting_text
from percore.errors import UsageError
from percore.tasks.decorators import make_scope

PROJECT = Path(__file__).resolve().parents[3]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hosts about which ssh was asked."""
    found: list[str] = []
    ask = openssh._ask_ssh
    monkeypatch.setattr(openssh, "_ask_ssh", lambda wish: found.append(wish.host) or ask(wish))
    return found


def routes(config: Path, count: int = 20, *more: str) -> list[str]:
    return [find_route(Wish(f"web{number}", arguments=("-F", str(config), *more))).host for number in range(count)]


def test_hosts_that_the_configuration_does_not_tell_apart_are_asked_for_once(tmp_path: Path, asked: list[str]) -> None:
    config = tmp_path / "config"
    config.write_text("Port 2222\nHost *\n  User ann\n")
    assert routes(config) == [f"web{number}" for number in range(20)]
    assert len(asked) < 10
    config.write_text("Port 2223\n")
    assert find_route(Wish("web1", arguments=("-F", str(config)))).port == 2223


@pytest.mark.parametrize(
    "text",
    [
        "Host web7\n  HostName other\n",
        "Match host web7\n  HostName other\n",
        "Include {folder}/more*\n",
        "HostName %h.lan\n",
    ],
)
def test_each_host_is_asked_for_where_the_configuration_tells_them_apart(
    text: str, tmp_path: Path, asked: list[str]
) -> None:
    (tmp_path / "more.conf").write_text("host=web7\nHostName=other\n")
    config = tmp_path / "config"
    config.write_text(text.format(folder=tmp_path))
    found = routes(config)
    assert found[7] in ("other", "web7.lan")
    assert found[8] in ("web8", "web8.lan")
    assert {f"web{number}" for number in range(20)} <= {*asked}


def test_hosts_for_which_the_inventory_says_nothing_of_ssh_are_reached(asked: list[str]) -> None:
    assert len([find_route(Wish(f"web{number}")).host for number in range(10)]) == 10
    assert asked


def test_an_ssh_that_is_a_script_is_asked_for_each_host(
    tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may bring a configuration of its own, as this one does."""
    config = tmp_path / "config"
    config.write_text("Host web7\n  HostName other\n")
    script = tmp_path / "ssh"
    script.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {config} "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert [find_route(Wish(f"web{number}", port=3333)).host for number in range(10)][7] == "other"
    assert len(asked) == 10


@pytest.mark.parametrize("word", ["-oCanonicalizeHostname=yes", "-oMatch=all", "-oInclude=x"])
def test_words_that_tell_hosts_apart_are_noticed(word: str) -> None:
    assert tells_apart(["-F", "none", word], {})
    assert not tells_apart(["-F", "none", "-oHostKeyAlias=web"], {})


def test_a_role_is_read_once_for_all_hosts_and_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "roles" / "own" / "role.yml"
    path.parent.mkdir(parents=True)
    path.write_text("defaults: {greeting: hello}\n")
    assert load_role("own", tmp_path / "roles") is load_role("own", tmp_path / "roles")
    path.write_text("defaults: {greeting: hello again}\n")
    assert load_role("own", tmp_path / "roles").defaults == {"greeting": "hello again"}


def test_the_hosts_that_are_waited_for_are_named() -> None:
    with waiting_for([f"web{number}" for number in range(9)]) as waiting:
        assert waiting_text() == ""
        with waiting.on("web0"):
            assert waiting_text() == "0 of 9 hosts done, waiting for web0"
        with waiting.on("web1"), waiting.on("web2"), waiting.on("web3"), waiting.on("web4"):
            assert waiting_text() == "1 of 9 hosts done, waiting for web1, web2, web3 and 1 more"
    assert waiting_text() == ""


def test_no_more_hosts_are_worked_on_at_once_than_asked_for() -> None:
    present, most, changing = 0, 0, threading.Lock()

    def work(item: SimpleNamespace) -> str:
        nonlocal present, most
        with changing:
            present += 1
            most = max(most, present)
        threading.Event().wait(0.002)
        with changing:
            present -= 1
        return str(item.name)

    items = [SimpleNamespace(name=f"web{number}", forks=5) for number in range(60)]
    assert [*on_all(items, work).results] == [item.name for item in items]
    assert 1 <= most <= 5


def test_a_number_of_hosts_at_once_that_does_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--forks 0 works on no host -> --forks 1 or more"):
        make_scope(tmp_path, "production", "all", 0)


@pytest.mark.parametrize(("count", "seconds"), [(1, 30), (3, 31), (50, 55), (200, 130)])
def test_a_host_of_many_waits_longer_for_a_word_from_us(tmp_path: Path, count: int, seconds: int) -> None:
    (tmp_path / "inventories").mkdir()
    text = f"all: {{hosts: {{'web[1:{count}]': }}, vars: {{roles: [percore, app], app_name: shop, app_path: .}}}}\n"
    (tmp_path / "inventories/eu.yml").write_text(text)
    hosts = load_hosts(Scope("eu", tmp_path))
    assert len(hosts) == count
    assert {confirm_seconds(host) for host in hosts} == {seconds}
    assert {host.setup_target()["confirm_seconds"] for host in hosts} == {seconds}


def test_the_list_of_tasks_loads_nothing_that_only_some_tasks_need() -> None:
    code = "import percore.tasks, json, sys; print(json.dumps([name.split('.')[0] for name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    assert loaded.isdisjoint({"jinja2", "paramiko", "cryptography", "crossplane", "apprise", "waitress", "pathspec"})
