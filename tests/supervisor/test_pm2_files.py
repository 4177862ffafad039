"""Process files in every form and with every need of PM2's own examples: read, started for real, listed as online."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
from pathlib import Path

import pytest

from percore.errors import UsageError
from percore.supervisor.config.process_file import load_process_file
from tests.supervisor.conftest import Supervisor
from tests.waiting import free_port, wait_for

FILES = Path(__file__).parent / "pm2files"

# What each file starts: the names of its workers.
RUNNABLE = {
    "cluster-tcp.config.js": ["tcp", "tcp"],
    "ecosystem.config.js": ["server", "server", "shell"],
    "ecosystem.json": ["server", "shell"],
    "ecosystem.yml": ["server", "shell"],
    "interpreters.yml": ["pl", "py", "sh"],
    "binary.yml": ["binary"],
    "source-maps.config.js": ["maps"],
    "wait-ready.json": ["ready"],
    "deploy.json": ["echo"],
    "bare.json": ["echo"],
    "list.json": ["echo"],
    "inside.json": ["inside"],
}


@pytest.fixture
def place(supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files, in the folder where the command is typed; FIRST and SECOND are ports that are free."""
    monkeypatch.setenv("FIRST", str(supervisor.port))
    monkeypatch.setenv("SECOND", str(free_port()))
    shutil.copytree(FILES, supervisor.folder, dirs_exist_ok=True)
    return supervisor.folder


def online(supervisor: Supervisor) -> list[str]:
    listed = json.loads(supervisor.run("jlist").stdout)
    assert {entry["pm2_env"]["status"] for entry in listed} == {"online"}, listed
    return sorted(entry["name"] for entry in listed)


def body(port: int) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=8)
    connection.request("GET", "/", headers={"Connection": "close"})
    with connection.getresponse() as response:
        return response.read()


@pytest.mark.parametrize("name", RUNNABLE)
def test_a_file_starts_what_it_names(supervisor: Supervisor, place: Path, name: str) -> None:
    supervisor.run("start", name)
    assert online(supervisor) == RUNNABLE[name]
    supervisor.run("delete", name)
    assert json.loads(supervisor.run("jlist").stdout) == []


def test_a_cluster_and_a_single_process_serve_on_two_ports(supervisor: Supervisor, place: Path) -> None:
    supervisor.run("start", "cluster-http.config.js")
    assert online(supervisor)[0] == "alone"
    assert body(supervisor.port) == b"hello"
    wait_for(lambda: body_or_nothing(int(os.environ["SECOND"])) == b"hello", "the single process to listen")


def body_or_nothing(port: int) -> bytes:
    try:
        return body(port)
    except OSError:
        return b""


def test_datagrams_are_answered(supervisor: Supervisor, place: Path) -> None:
    supervisor.run("start", "udp.config.js")
    assert online(supervisor) == ["udp"]
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.settimeout(0.2)

        def answer() -> bytes:
            client.sendto(b"ping", ("127.0.0.1", supervisor.port))
            try:
                return client.recv(100)
            except OSError:  # nobody there yet
                return b""

        assert wait_for(answer, "the echo") == b"ping"


def test_env_production_is_taken_with_env(supervisor: Supervisor, place: Path) -> None:
    supervisor.run("start", "ecosystem.yml", "--env", "production", "--only", "server")
    assert online(supervisor) == ["server"]
    assert "NODE_ENV: production" in supervisor.run("env", "0").stdout


def test_apps_may_be_one_app_and_treekill_false_leaves_the_children_to_the_program(
    supervisor: Supervisor, place: Path
) -> None:
    supervisor.run("start", "treekill.json")
    assert online(supervisor) == ["parent"]
    supervisor.run("stop", "parent")
    assert [entry["pm2_env"]["status"] for entry in json.loads(supervisor.run("jlist").stdout)] == ["stopped"]


def test_a_folder_is_served(supervisor: Supervisor, place: Path) -> None:
    supervisor.run("start", "static.config.js")
    assert set(online(supervisor)) == {"site"}
    assert body(supervisor.port) == b"<p>static</p>\n"


def test_what_is_no_process_file_is_refused_in_one_line(supervisor: Supervisor, place: Path) -> None:
    done = supervisor.run("start", "malformed.json", check=False)
    assert done.returncode != 0
    assert len(done.stderr.splitlines()) == 1
    assert "malformed.json" in done.stderr


@pytest.mark.parametrize("name", sorted(path.name for path in FILES.iterdir() if path.is_file()))
def test_every_file_is_read_but_the_malformed_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRST", "8001")
    monkeypatch.setenv("SECOND", "8002")
    if name == "malformed.json":
        with pytest.raises(UsageError, match=r"malformed\.json"):
            load_process_file(str(FILES / name))
    else:
        assert load_process_file(str(FILES / name)).apps
