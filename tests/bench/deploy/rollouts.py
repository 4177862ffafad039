"""What a rollout costs the visitors, and where a bad version ends up: requests and hosts, counted."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.bench.deploy.tools import APP, ROOT, SERVICE_TASKS, Ansible, Percore, Place, Work, inside

BROKEN = "throw new Error('this release is broken');\n"
SERVICE = Work(files=0, service=True)


def count_lost(folder: Path, places: Sequence[Place]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(what, `requests`, `lost` and `bad_hosts`) of a rolling deploy, a rollback, and a deploy of a broken version.

    Clients ask every host all the while, directly and through NGINX, over kept connections and new ones.
    """
    percore = Percore(folder / "rollouts", places, SERVICE)
    inventory = percore.folder / "inventories" / "bench.yml"
    content = yaml.safe_load(inventory.read_text())
    content["all"]["vars"].update(serial=1, canary=1)
    inventory.write_text(yaml.safe_dump(content, width=1000))
    percore.run()
    good = _releases(percore)
    server = percore.folder / "app" / "server.js"

    with load(places) as counts:
        server.write_text(APP + "// the second release\n")
        _invoke(percore, "deploy")
    yield "a rolling deploy, host by host", {**counts, "bad_hosts": 0}
    with load(places) as counts:
        _invoke(percore, "rollback")
    assert _releases(percore) == good
    yield "a rollback, host by host", {**counts, "bad_hosts": 0}
    with load(places) as counts:
        server.write_text(BROKEN)
        _invoke(percore, "deploy", expected=4)
    bad = sum(release not in good for release in _releases(percore, each=True))
    yield "a broken version, taken back", {**counts, "bad_hosts": bad}


def count_bad_with_ansible(folder: Path, places: Sequence[Place]) -> int:
    """Hosts on the broken version after a playbook with `serial: 1` brought it: a service that was started counts as well."""
    ansible = Ansible(folder / "rollouts", places, SERVICE)
    ansible.run()
    (ansible.folder / "app" / "server.js").write_text(BROKEN)
    subprocess.run(["tar", "czf", "../app.tar.gz", "."], cwd=ansible.folder / "app", check=True)
    tasks = json.loads(json.dumps(SERVICE_TASKS).replace("releases/1", "releases/2"))
    (play,) = ansible.playbook()
    (ansible.folder / "playbook.yml").write_text(
        yaml.safe_dump([{**play, "serial": 1, "tasks": tasks}], sort_keys=False)
    )
    with contextlib.suppress(RuntimeError):
        ansible.run()
    return sum(place.host.run("readlink /opt/bench/current").strip() == "releases/2" for place in places)


@contextlib.contextmanager
def load(places: Sequence[Place]) -> Iterator[dict[str, int]]:
    """Afterwards the mapping holds `requests` and `lost`."""
    urls = [f"http://{place.address}:{port}/" for place in places for port in (80, 5000)]
    client = subprocess.Popen(
        inside(places[0].host, [sys.executable, str(ROOT / "tests/hosts/load.py"), *urls]),
        stdout=subprocess.PIPE,
        text=True,
    )
    counts: dict[str, int] = {}
    try:
        assert client.stdout
        client.stdout.readline()
        yield counts
    finally:
        client.send_signal(signal.SIGTERM)
        found = json.loads(client.communicate(timeout=60)[0])
        counts.update(requests=found["ok"] + found["lost"] + found["bad"], lost=found["lost"] + found["bad"])


def _invoke(percore: Percore, *words: str, expected: int = 0) -> str:
    done = subprocess.run(
        inside(percore.places[0].host, [sys.executable, "-m", "invoke", *words, "--env", "bench"]), cwd=percore.folder,
        env=percore.environment(), capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, timeout=300,
    )  # fmt: skip
    if done.returncode != expected:
        raise RuntimeError(f"{words[0]} ended with {done.returncode}, not {expected}:\n{done.stdout}{done.stderr}")
    return done.stdout


def _releases(percore: Percore, *, each: bool = False) -> Any:
    found = [host["release"] for host in json.loads(_invoke(percore, "status", "--json"))]
    return found if each else set(found)
