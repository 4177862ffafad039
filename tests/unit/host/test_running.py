"""What runs on a host, beside what its release says."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from percore.common.records.hashes import record_hashes
from percore.host.release.releases import Releases
from percore.host.release.running import find_deviations, find_missing, own_part, ports_of_app

RELEASE, OTHER = "20260101120000-aaaaaaaa", "20260102120000-bbbbbbbb"
API: dict[str, Any] = {"name": "api", "instances": 2, "env": {"A": "1"}}
JOB: dict[str, Any] = {"name": "job", "autorestart": False, "env": {}}


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    made = Releases(str(tmp_path))
    os.makedirs(made.path(RELEASE))
    Path(made.record_path(RELEASE)).write_text(json.dumps({"apps": [API, JOB]}))
    return made


def worker(slot: int = 0, state: str = "running", release: str = RELEASE, **more: Any) -> dict[str, Any]:
    return {"slot": slot, "pid": 7, "state": state, "release": release, **more}


def status(api: list[dict[str, Any]], *, wanted: int = 2, job: dict[str, Any] | None = None) -> dict[str, Any]:
    done = [job or worker(state="exited", finished=True, failure="exited with code 0")]
    return {
        "apps": [
            {"name": "api", "wanted": wanted, "workers": api},
            {"name": "job", "wanted": 1, "workers": done},
        ]
    }


def test_what_runs_as_the_release_says_is_not_missing(releases: Releases) -> None:
    both = status([worker(0), worker(1)])
    assert find_missing(releases, RELEASE, both) == find_deviations(releases, RELEASE, both) == []
    assert find_missing(releases, None, {"apps": []}) == []


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ({"apps": []}, ["app api does not run", "app job does not run"]),
        (status([worker(0), worker(1, "fatal")]), ["api: 1 of 2 workers run"]),
        (status([worker(0), worker(1, "backoff")]), ["api: 1 of 2 workers run"]),
        (status([], wanted=0), ["app api is stopped"]),
        (status([worker(0), worker(1)], job=worker(state="exited", failure="exited with code 3")),
         ["job: 0 of 1 workers run (exited with code 3)"]),
    ],
)  # fmt: skip
def test_what_should_run_and_does_not_is_missing(releases: Releases, found: dict[str, Any], told: list[str]) -> None:
    assert find_missing(releases, RELEASE, found) == told


def test_what_runs_otherwise_deviates_and_is_not_missing(releases: Releases) -> None:
    config, env = record_hashes(API)
    other = status([
        worker(0, release=OTHER), worker(1, config_hash="0", env_hash=env),
        worker(2, config_hash=config, env_hash="0"), worker(3, config_hash=config, env_hash=env),
    ], wanted=4)  # fmt: skip
    other["apps"].append({"name": "old", "wanted": 1, "workers": []})
    assert find_missing(releases, RELEASE, other) == []
    assert find_deviations(releases, RELEASE, other) == [
        "api has 4 workers, and 2 in the release",
        f"api worker 0 (pid 7) runs release {OTHER}",
        "api worker 1 (pid 7) runs with another configuration",
        "api worker 2 (pid 7) runs with other variables",
        "app old runs, and the release does not have it",
    ]


def app(name: str, *workers: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "wanted": 1, "workers": [worker(release=release) for release in workers], **more}


PRUNED = "20250101120000-cccccccc"


@pytest.mark.parametrize(
    "found",
    [
        app("api", RELEASE),  # as an older supervisor says it
        app("job", PRUNED, release=PRUNED, source="HERE"),  # it runs for longer than its release is kept
        app("by-hand", "", release=None, source="/home/me/ecosystem.config.js"),  # drift is to name it
    ],
)
def test_what_a_project_deployed_and_what_nobody_deployed_is_its_own(releases: Releases, found: dict[str, Any]) -> None:
    found["source"] = releases.deploy_to if found.get("source") == "HERE" else found.get("source", "")
    assert own_part(releases, {"apps": [found]})["apps"] == [found]


@pytest.mark.parametrize(
    "found",
    [
        app("web", OTHER),
        app("web", OTHER, release=OTHER, source="/srv/other"),
        app(
            "nightly", release=OTHER, source="/srv/other", job={"scheduled": True}
        ),  # between its runs it has no worker
    ],
)
def test_the_apps_of_other_projects_are_no_part_of_a_projects_status(releases: Releases, found: dict[str, Any]) -> None:
    whole = {"daemon": True, "apps": [app("api", RELEASE), found]}
    assert own_part(releases, whole) == {"daemon": True, "apps": whole["apps"][:1]}


def test_the_ports_of_an_app_are_those_it_shares_those_of_its_workers_and_the_one_it_will_have() -> None:
    addresses = ["[::]:6411", "127.0.0.1:80", "/run/web:90"]
    assert ports_of_app({"addresses": addresses, "workers": []}) == {6411, 80}
    assert ports_of_app({"workers": [{"pid": None}], "port": 5000}) == {5000}
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert server.getsockname()[1] in ports_of_app({"workers": [{"pid": os.getpid()}]})


def test_an_app_of_a_namespace_is_called_as_in_its_release(releases: Releases) -> None:
    record = {"apps": [{"name": "a:api", "namespace": "a"}, {"name": "web", "namespace": "a"}, {"name": "api"}]}
    Path(releases.record_path(RELEASE)).write_text(json.dumps(record))
    here = [
        app("api", RELEASE, release=RELEASE, namespace="a"),  # so it was called before there were two
        app("a:web", RELEASE, release=RELEASE, namespace="a"),  # another project has one of that name
        app("default:api", RELEASE, release=RELEASE, namespace="default"),
    ]
    assert [each["name"] for each in own_part(releases, {"apps": here[:2]})["apps"]] == ["a:api", "web"]
    assert find_missing(releases, RELEASE, own_part(releases, {"apps": here})) == []
