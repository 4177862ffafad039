"""Refusals before anything is touched, with the figures in them."""

from __future__ import annotations

import dataclasses
import tarfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from percore.deploy.build.artifact import Artifact
from percore.deploy.connection.address import read_address
from percore.deploy.report import Report
from percore.deploy.rollout.choose import Choice
from percore.deploy.rollout.inspect import Seen, _unfit
from percore.deploy.rollout.inspect import _unit_that_needs_them as unit_of_programs
from percore.deploy.rollout.preflight import preflight
from percore.deploy.rollout.preflight import refusal as refuse
from percore.deploy.rollout.wanted import WantedApp, WantedHost
from percore.errors import PreflightError

SEEN = {
    "versions": {"node": "20.1.0"}, "disk_free_bytes": 10**9, "inodes_free": 10**6, "memory_free_bytes": 10**9,
    "status": {"apps": [{"mode": "cluster", "workers": [{"memory_bytes": 200_000_000}, {"memory_bytes": 90_000_000}]},
                        {"mode": "fork", "workers": [{"memory_bytes": 900_000_000}]}]},
}  # fmt: skip


RECORD: dict[str, Any] = {"apps": [{"name": "web"}, {"name": "many", "reload_workers": 8}]}


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "package.json").write_text('{"engines": {"node": ">= 18 <21"}}')
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(tree, arcname=".")
    return Artifact(
        "0" * 64, path, 1_000_000, 5_000_000, tree, "ecosystem.config.js", is_node=True, was_built=True, digest="0" * 64
    )


def choice(host: Any, artifact: Artifact, **seen: Any) -> Choice:
    """What a deploy chose for a host that has never had the release."""
    reply: Any = {**SEEN, **seen}
    app = WantedApp(artifact, record=RECORD, fingerprint="")
    state: Any = SimpleNamespace(before=(), after=(), select=lambda _: state)
    found = Seen(host, WantedHost(host, state, package=state, app=app), reply, known_release=None, is_up_to_date=False)
    return Choice(host, "r1", None, reply["status"], gives_up_app=False, seen=found, is_staged=False, reason="")


def refusal(
    artifact: Artifact, *, skew: float = 0.0, facts: dict[str, str] | None = None,
    port_owners: dict[str, str] | None = None, conflicts: Sequence[dict[str, str]] = (), **seen: Any,
) -> str:  # fmt: skip
    import platform

    site = SimpleNamespace(port=80, ports=(80, 443), upstream="shared")
    known = {"python": "3.11.2", "system": platform.system(), "machine": platform.machine(), **(facts or {})}
    host: Any = SimpleNamespace(
        name="web1", agent=SimpleNamespace(facts=known, clock_skew=skew),
        settings=SimpleNamespace(deploy_to="/srv/shop", max_clock_skew_seconds=60, port=5000, site=site),
    )  # fmt: skip
    others: Any = {"strangers": port_owners or {}, "conflicts": conflicts}
    return str(refuse(choice(host, artifact, **seen), others) or "")


def test_a_host_with_room_for_all_is_not_refused(artifact: Artifact) -> None:
    assert refusal(artifact) == ""


def test_the_memory_of_all_workers_that_switch_at_once_is_needed(artifact: Artifact) -> None:
    workers = [{"memory_bytes": 100_000_000}] * 4
    one = {"apps": [{"name": "web", "mode": "cluster", "workers": workers}]}
    many = {"apps": [{"name": "many", "mode": "cluster", "workers": workers}]}
    assert refusal(artifact, memory_free_bytes=250_000_000, status=one) == ""
    text = refusal(artifact, memory_free_bytes=250_000_000, status=many)
    assert "367 MB needed (300 MB for 3 more of its largest worker, 67 MB to spare), 250 MB available" in text


def test_disk_inodes_and_memory_are_refused_with_the_arithmetic(artifact: Artifact) -> None:
    assert refusal(artifact, disk_free_bytes=70_000_000).startswith(
        "web1: not enough disk space below /srv/shop: 73 MB needed "
        "(6 MB for the release and its archive, 67 MB to spare), 70 MB free"
    )
    assert "1002 needed (2 files of the release, 1000 to spare), 7 free" in refusal(artifact, inodes_free=7)
    assert refusal(artifact, inodes_free=None) == ""
    text = refusal(artifact, memory_free_bytes=250_000_000)
    assert "267 MB needed (200 MB for one more of its largest worker, 67 MB to spare), 250 MB available" in text
    assert refusal(artifact, memory_free_bytes=250_000_000, status={"apps": []}) == ""


def test_node_in_the_path_of_a_login_alone_is_refused_with_the_reason(artifact: Artifact) -> None:
    text = refusal(artifact, versions={"node": ""}, facts={"node": "/root/.nvm/v22/bin/node"})
    assert "Node.js is in the PATH of a login there (/root/.nvm/v22/bin/node) and not in that of services -> " in text
    assert text.endswith("ln -s /root/.nvm/v22/bin/node /usr/local/bin/node")


@pytest.mark.parametrize(
    ("app", "unit"),
    [
        ({"interpreter": "node"}, "percore.service"),
        ({"interpreter": "/opt/node/22/bin/node"}, None),
        ({"interpreter": "node", "env": {"PATH": "/opt/bin"}}, None),
    ],
)
def test_programs_are_looked_for_where_the_apps_processes_look(app: dict[str, Any], unit: str | None) -> None:
    settings = SimpleNamespace(unit="percore.service")
    wanted: Any = SimpleNamespace(app=SimpleNamespace(record={"apps": [app]}), host=SimpleNamespace(settings=settings))
    assert unit_of_programs(wanted) == unit


def test_versions_are_compared_with_what_the_app_declares(artifact: Artifact) -> None:
    assert "Node.js is missing there -> set roles: [node, app], or" in refusal(artifact, versions={})
    assert "it has Node 16.20.2, and package.json asks for >= 18 <21" in refusal(artifact, versions={"node": "16.20.2"})
    (artifact.tree / "package.json").write_text('{"engines": {"node": "whatever runs"}}')
    assert refusal(artifact, versions={"node": "16.20.2"}) == ""
    (artifact.tree / "pyproject.toml").write_text('[project]\nrequires-python = ">=3.12"\n')
    assert "it has Python 3.11.2, and pyproject.toml asks for >=3.12" in refusal(artifact)


@pytest.mark.parametrize(("skew", "words"), [(3600.0, "3600 s ahead of ours"), (-61.0, "61 s behind ours"), (59.0, "")])
def test_a_wrong_clock_is_told(artifact: Artifact, skew: float, words: str) -> None:
    assert words in refusal(artifact, skew=skew)
    assert bool(words) == bool(refusal(artifact, skew=skew))


def test_native_modules_of_another_machine_are_refused(artifact: Artifact) -> None:
    native = dataclasses.replace(artifact, path=artifact.path.with_name("native.tar.gz"))
    (artifact.tree / "fast.node").touch()
    with tarfile.open(native.path, "w:gz") as tar:
        tar.add(artifact.tree, arcname=".")
    assert "native modules" in refusal(native, facts={"machine": "riscv64"})
    assert refusal(artifact, facts={"machine": "riscv64"}) == ""


def test_the_owner_of_a_port_is_named_and_nginx_is_no_conflict(artifact: Artifact) -> None:
    assert refusal(artifact, port_owners={"80": "nginx (pid 7)"}) == ""
    assert "port 5000 is in use by node (pid 8) -> stop it there, or set another 'port'" in refusal(
        artifact, port_owners={"5000": "node (pid 8)"}
    )
    for port, name in (("80", "nginx_port"), ("443", "nginx_tls_port")):
        refused = refusal(artifact, port_owners={port: "apache2 (pid 9)"})
        assert f"port {port} is in use by apache2 (pid 9) -> stop it there, or set another '{name}'" in refused


def test_what_another_project_has_is_refused_first_with_what_to_type(artifact: Artifact) -> None:
    conflict = {"what": "'web' is of 'shop' in environment 'production'", "next": "give one another name"}
    told = refusal(artifact, port_owners={"5000": "x (pid 9)"}, conflicts=[conflict])
    assert told == "web1: 'web' is of 'shop' in environment 'production' -> give one another name"


def test_every_host_that_cannot_be_is_named(artifact: Artifact, capsys: pytest.CaptureFixture[str]) -> None:
    hosts: list[Any] = [
        SimpleNamespace(
            name=name, agent=SimpleNamespace(facts={"python": "3.11.2"}, clock_skew=0), forks=2,
            settings=SimpleNamespace(port=5000, site=None), ask=lambda op, **_: {"strangers": {}},
            absent_apps=frozenset(), scope=SimpleNamespace(selection=None),
        )
        for name in ("web1", "web2")
    ]  # fmt: skip
    with pytest.raises(PreflightError, match=r"web1: Node\.js is missing"):
        preflight([choice(host, artifact, versions={}) for host in hosts], Report())
    assert "web2  Node.js is missing" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("become", "told"),
    [
        ({}, "user 'ann' may not set up services -> set ansible_become: true"),
        (
            {"ansible_become": True, "ansible_become_user": "percore"},
            "user 'percore' may not set up services -> leave out ansible_become_user, or set it to root",
        ),
    ],
)
def test_the_user_who_may_not_set_up_services_is_the_one_that_works_there(become: dict[str, Any], told: str) -> None:
    host: Any = SimpleNamespace(
        name="web1",
        agent=SimpleNamespace(facts={"python": "3.11.2", "systemd": True, "uid": 999, "user": "ann"}),
        basics=SimpleNamespace(has_systemd=True),
        address=read_address("web1", {"ansible_user": "ann", **become}),
    )
    assert str(_unfit(host)) == f"web1: {told}"
