"""The example app with real servers behind it: state that all workers share in Redis, facts in PostgreSQL."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from percore.supervisor.config.process_file import resolve_for_release
from tests.supervisor.conftest import Supervisor
from tests.waiting import free_port, wait_for

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "boltlink"


def programs(name: str) -> str:
    """Debian keeps PostgreSQL's own programs out of PATH."""
    found = shutil.which(name) or next(map(str, Path("/usr/lib/postgresql").glob(f"*/bin/{name}")), None)
    assert found, f"{name} is missing -> apt install redis-server postgresql"
    return found


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    server = subprocess.Popen([programs("redis-server"), *options], stdout=subprocess.DEVNULL)
    yield f"redis://127.0.0.1:{port}"
    server.terminate()
    server.wait()


@pytest.fixture
def database_url() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:  # not below pytest's own folders, which only we may enter
        yield from serve_database(Path(folder))


def serve_database(folder: Path) -> Iterator[str]:
    port, as_user = free_port(), []
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        shutil.chown(folder, "postgres")
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    data = folder / "data"
    subprocess.run(
        [*as_user, programs("initdb"), "-D", str(data), "-U", "boltlink", "-A", "trust", "--no-sync"], check=True, cwd=folder,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    options = ["-p", str(port), "-h", "127.0.0.1", "-k", str(folder), "-F"]
    server = subprocess.Popen(
        [*as_user, programs("postgres"), "-D", str(data), *options], stderr=subprocess.DEVNULL, cwd=folder
    )
    ready = [programs("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
    wait_for(lambda: subprocess.run(ready, check=False).returncode == 0, "PostgreSQL")
    yield f"postgresql://boltlink@127.0.0.1:{port}/postgres"
    server.send_signal(signal.SIGINT)  # SIGTERM would wait for every client to leave
    server.wait()


@pytest.fixture
def tree(supervisor: Supervisor) -> Path:
    """The example, built."""
    made = supervisor.folder / "boltlink"
    shutil.copytree(EXAMPLE, made, ignore=shutil.ignore_patterns("node_modules", "dist"))
    for command in (["npm", "ci", "--no-audit", "--no-fund"], ["npm", "run", "build"]):
        subprocess.run(command, cwd=made, check=True, stdout=subprocess.DEVNULL)
    return made


def test_workers_share_a_counter_in_redis_and_singletons_write_to_postgresql(
    supervisor: Supervisor, tree: Path, redis_url: str, database_url: str
) -> None:
    record = resolve_for_release(
        str(tree / "ecosystem.config.js"), release_id="r1", release_path=str(tree),
        extra_env={"PORT": str(supervisor.port), "REDIS_URL": redis_url, "DATABASE_URL": database_url},
    )  # fmt: skip
    supervisor.apply(*({**app, "instances": 2} if app.get("mode") == "cluster" else app for app in record["apps"]))

    counts = [supervisor.get("/count", source=f"127.77.0.{slot + 1}")["count"] for slot in (0, 1, 0, 1)]
    assert counts == [1, 2, 3, 4]
    assert supervisor.get("/health") == {"status": "ok"}

    def services() -> set[str]:
        query = [programs("psql"), database_url, "-tAc", "SELECT DISTINCT service FROM ticks"]
        return set(subprocess.run(query, capture_output=True, text=True, check=True).stdout.split())

    wait_for(lambda: services() == {"boltlink-aggregator", "boltlink-worker"}, "ticks of both singletons")


def test_the_variables_of_its_environment_change_what_it_does(supervisor: Supervisor, tree: Path) -> None:
    """The two that name servers are seen in the other test."""
    env = {
        "PORT": str(supervisor.port), "LOG_LEVEL": "debug", "NODE_ENV": "production",
        "ALLOWED_ORIGINS": "https://a.example, https://b.example",
    }  # fmt: skip
    record = resolve_for_release(
        str(tree / "ecosystem.config.js"), release_id="r1", release_path=str(tree), extra_env=env
    )
    [api, *_] = record["apps"]
    supervisor.apply({**api, "instances": 1})
    assert allowed_origin(supervisor.port, "https://b.example") == "https://b.example"
    assert allowed_origin(supervisor.port, "https://c.example") is None
    wait_for(lambda: "GET /version" in supervisor.run("logs", "--nostream").stdout, "requests in the log")


def allowed_origin(port: int, origin: str) -> str | None:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/version", headers={"Origin": origin})
    with urllib.request.urlopen(request, timeout=5) as answer:
        found: str | None = answer.headers["Access-Control-Allow-Origin"]
        return found
