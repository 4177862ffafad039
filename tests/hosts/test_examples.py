"""The apps of examples/ as a reader copies them: four projects of their own on one bare host, deployed by percore's wheel.

What differs from the files of an example is in `group_vars/app.yml`: the way to the lab's host, and passwords.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from percore.lab import Lab
from tests.hosts.conftest import ROOT, Project, wait_for
from tests.installed import environment, install

# What comes first installs all packages and builds; on a busy machine that takes its time. If time is short, the second deploys
# and the rollbacks of Next.js and Django can go: those of the other two show the same.
pytestmark = pytest.mark.timeout(900)

MADE = ("node_modules", ".next", "dist", "staticfiles", "data", ".percore", "build")
PASSWORDS = {"postgresql_password": "of the 'lab'", "redis_password": "of the lab"}
SETTINGS = {"DJANGO_SECRET_KEY": "a secret of the lab that is long enough for it"}


class Example:
    """A copy of one example, in a repository of its own."""

    def __init__(self, name: str, lab: Lab, directory: Path, commands: Path) -> None:
        self.name, self.lab, self.directory, self.host = name, lab, directory, lab.hosts[0]
        shutil.copytree(ROOT / "examples" / name, directory, ignore=shutil.ignore_patterns(*MADE))
        self.env = {**environment(commands), "NEXT_TELEMETRY_DISABLED": "1", "POSTGRESQL_PASSWORD": "unused"}
        self._reach()
        self.variables: dict[str, Any] = yaml.safe_load((self._production / "group_vars/all.yml").read_text())
        for words in ("init -q", "add -A", "-c user.name=a -c user.email=a@example.com commit -qm first"):
            subprocess.run(["git", *words.split()], cwd=directory, check=True)

    @property
    def _production(self) -> Path:
        return self.directory / "inventories" / "production"

    def _reach(self) -> None:
        """The host of the lab in place of those of the example, and a `.env.production` as its example says."""
        known = yaml.safe_load(self.lab.inventory.read_text())["all"]["vars"]
        own = {name: value for name, value in known.items() if name.startswith("ansible_")}
        own |= {"ansible_host": self.host.address, "ansible_become": False, **PASSWORDS}
        (self._production / "hosts.yml").write_text(yaml.safe_dump({"app": {"hosts": {self.host.name: None}}}))
        (self._production / "group_vars" / "app.yml").write_text(yaml.safe_dump(own, width=1000))
        text = (self.directory / ".env.production.example").read_text()
        for name, value in SETTINGS.items():
            text = text.replace(f"{name}=\n", f"{name}='{value}'\n")
        (self.directory / ".env.production").write_text(text)

    def type(self, line: str, code: int = 0) -> str:
        done = subprocess.run(
            ["sh", "-c", line], cwd=self.directory, env=self.env, text=True, check=False, timeout=570,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == code, f"{line}: exit code {done.returncode}, wanted {code}:\n{done.stdout}"
        return done.stdout

    def invoke(self, line: str) -> str:
        return self.type(f"invoke {line} --env production")

    def change(self, file: str, old: str, new: str) -> None:
        path = self.directory / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def get(self, path: str = "/", *words: str) -> str:
        """Through NGINX, by the name of the site."""
        url = f"http://{self.host.address}{path}"
        done = self.lab.inside(
            ["curl", "-sSf", "-m", "10", "-H", f"Host: {self.variables['server_name']}", *words, url]
        )
        assert done.returncode == 0, f"{path}: {done.stderr}"
        return done.stdout

    def workers(self) -> dict[str, list[int]]:
        """pids by app."""
        status = subprocess.run(
            ["invoke", "status", "--env", "production", "--json"], cwd=self.directory, env=self.env, text=True,
            check=True, capture_output=True, timeout=60,
        )  # fmt: skip
        (host,) = json.loads(status.stdout)
        assert host["missing"] == []
        return {app["name"]: [worker["pid"] for worker in app["workers"]] for app in host["apps"]}

    def under_load(self, change: Callable[[], object], path: str = "/") -> None:
        """No request is lost meanwhile: neither of those that keep their connection nor of the others."""
        project = Project(self.directory, self.lab)
        url = f"http://{self.variables['server_name']}@{self.host.address}{path}"
        with project.client("tests.hosts.load", "--reconnect", url, url) as counts:
            change()
        assert counts["ok"] > 50, counts
        assert (counts["lost"], counts["bad"]) == (0, 0), counts["failures"]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Example]]:
    """One host for all of them: several projects on one host, which share its servers."""
    commands = install(tmp_path_factory.mktemp("installed"), "[deploy]")
    folder = tmp_path_factory.mktemp("examples")
    lab = Lab.up(1, bare=True, name=f"examples{os.getpid()}", project=folder / "lab")
    made: dict[str, Example] = {}

    def give(name: str) -> Example:
        if name not in made:
            made[name] = Example(name, lab, folder / name, commands)
        return made[name]

    try:
        yield give
    finally:
        lab.down()


def post(example: Example, path: str, **body: str) -> dict[str, Any]:
    words = ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
    answer: dict[str, Any] = json.loads(example.get(path, *words))
    return answer


def test_next_js_is_built_once_and_reloaded_without_losing_a_request(make: Callable[[str], Example]) -> None:
    shop = make("nextjs")
    shop.invoke("deploy")
    page = shop.get()
    (script, *_) = re.findall(r'/_next/static/[^"]+\.js', page)
    assert "Fresh today" in page
    assert shop.get(script)
    assert shop.get("/robots.txt").startswith("User-agent")
    assert "node_modules" not in shop.host.run("ls -a /srv/webshop/current").split()
    before = shop.workers()
    shop.under_load(lambda: shop.invoke("reload"))
    assert not set(before["webshop"]) & set(shop.workers()["webshop"])
    shop.change("app/page.tsx", "Fresh today", "Fresh tomorrow")
    shop.under_load(lambda: shop.invoke("deploy"))
    assert "Fresh tomorrow" in shop.get()
    shop.invoke("rollback --yes")
    assert "Fresh today" in shop.get()


def test_nestjs_confirms_each_order_once_while_it_is_deployed(make: Callable[[str], Example]) -> None:
    orders = make("nestjs")
    output = orders.invoke("deploy")
    assert output.count("Migration CreateOrders1780000000000 has been") == 1
    assert json.loads(orders.get())["greeting"] == "Orders, please"
    first = orders.workers()
    placed = [post(orders, "/orders", item=f"tea {number}")["id"] for number in range(3)]
    orders.change("src/orders/orders.controller.ts", "Orders, please", "What may it be?")
    orders.under_load(lambda: orders.invoke("deploy"), "/")
    second = orders.workers()
    assert len(second["orders-worker"]) == 1
    assert not set(first["orders-worker"]) & set(second["orders-worker"])
    assert json.loads(orders.get())["greeting"] == "What may it be?"
    wait_for(lambda: all('"confirmed"' in orders.get(f"/orders/{number}") for number in placed), "the confirmations")
    told = orders.invoke("logs --app orders-worker --lines 200")
    assert [told.count(f"order {number} confirmed") for number in placed] == [1, 1, 1]
    assert "has been executed" not in orders.invoke("rollback --yes")
    assert json.loads(orders.get())["greeting"] == "Orders, please"


def test_celery_ends_its_tasks_while_it_is_deployed_and_beat_runs_once(make: Callable[[str], Example]) -> None:
    pictures = make("fastapi-celery")
    pictures.invoke("deploy")
    before = pictures.workers()
    assert (len(before["thumbnails-worker"]), len(before["thumbnails-beat"])) == (1, 1)
    asked = [post(pictures, "/thumbnails", name=f"{number}.png")["id"] for number in range(6)]
    pictures.change("app/main.py", "Send me a picture", "Send me another one")
    started = time.monotonic()
    pictures.under_load(lambda: pictures.invoke("deploy"))
    assert time.monotonic() - started < 120
    wait_for(lambda: all('"SUCCESS"' in pictures.get(f"/thumbnails/{task}") for task in asked), "the thumbnails")
    assert json.loads(pictures.get())["greeting"] == "Send me another one"
    told = pictures.invoke("logs --app thumbnails-worker --lines 500")
    assert "Warm shutdown" in told
    for task in asked:
        assert len(re.findall(rf"Task app\.tasks\.make_thumbnail\[{task}\] succeeded", told)) == 1
    wait_for(lambda: "tidied" in pictures.invoke("logs --app thumbnails-worker --lines 500"), "a task of the schedule")
    assert pictures.host.run("stat -c %U /srv/thumbnails/shared/data/celerybeat-schedule*").split()[0] == "percore"
    pictures.invoke("rollback --yes")
    assert json.loads(pictures.get())["greeting"] == "Send me a picture"


def test_django_is_migrated_once_and_its_static_files_are_served_by_nginx(make: Callable[[str], Example]) -> None:
    book = make("django")
    output = book.invoke("deploy")
    assert output.count("Applying guestbook.0001_initial... OK") == 1
    assert "Who was here?" in book.get()
    head = book.get("/static/guestbook/style.css", "-i")
    assert "Content-Type: text/css" in head
    assert "gunicorn" not in head
    book.change("guestbook/views.py", "Who was here?", "Who is there?")
    book.under_load(lambda: book.invoke("deploy"))
    assert "Who is there?" in book.get()
    refused = book.lab.inside(
        ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"http://{book.host.address}:8001/"]
    )
    assert refused.stdout == "000", "NGINX alone reaches gunicorn"
    told = book.invoke("rollback --yes")
    assert "Applying" not in told
    assert "Who was here?" in book.get()


def test_the_four_projects_run_beside_each_other(make: Callable[[str], Example]) -> None:
    examples = [make(name) for name in ("nextjs", "nestjs", "fastapi-celery", "django")]
    for example in examples:
        assert example.get(example.variables["health_path"])
        assert "differs" not in example.invoke("drift")
