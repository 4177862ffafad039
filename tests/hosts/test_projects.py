"""Two projects on the hosts of a lab: one unit, one NGINX, and neither takes anything of the other."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.hosts.rehearsal import Rehearsal

SERVER = "require('http').createServer((_, answer) => answer.end('blog')).listen(process.env.PORT);"


class Blog:
    """Another project on the first host of the rehearsal."""

    def __init__(self, web: Rehearsal) -> None:
        self.web, self.host = web, web.lab.hosts[0]
        self.path = web.folder / "inventories" / "blog.yml"
        shutil.copy(web.folder / "inventories" / f"{web.env}.yml", self.path)
        app = web.folder / "blog"
        app.mkdir()
        process = {"name": "blog", "script": "./blog.js", "instances": 1, "exec_mode": "cluster"}
        (app / "ecosystem.json").write_text(json.dumps({"apps": [process]}))
        (app / "package.json").write_text('{"name": "blog"}')
        (app / "blog.js").write_text(SERVER)
        self.set(app_name="blog", app_path="blog", port=5001, roles=["app"], health_path="/")

    def set(self, **variables: Any) -> None:
        content = yaml.safe_load(self.path.read_text())
        content["all"]["vars"].update(variables)
        self.path.write_text(yaml.safe_dump(content))

    def run(self, verb: str, *words: str, code: int = 0) -> str:
        done = self.web.invoke(verb, "--env", "blog", "--limit", self.host.name, *words)
        assert done.returncode == code, done.stdout
        return done.stdout

    def answer(self, port: int) -> str:
        done = self.web.lab.inside(["curl", "-s", "-m", "5", f"http://{self.host.address}:{port}/"])
        return done.stdout

    def pids_of_web(self) -> list[int]:
        apps = json.loads(self.host.run("runuser -u percore -- percore status --json"))["apps"]
        return [worker["pid"] for app in apps if app["name"] == "web" for worker in app["workers"]]


@pytest.fixture
def blog(rehearsal: Rehearsal) -> Iterator[Blog]:
    rehearsal.deployed()
    made = Blog(rehearsal)
    yield made
    rehearsal.invoke("remove", "--env", "blog", "--limit", made.host.name, "--yes")
    made.path.unlink()
    shutil.rmtree(rehearsal.folder / "blog")


def test_two_projects_share_a_host_and_one_of_them_gets_another_name(blog: Blog) -> None:
    web = "'web' in environment '" + blog.web.env + "'"
    told = blog.run("deploy", code=3)
    assert (
        "the site of 'web' (/etc/nginx/sites-enabled/web) is the default server on port 80, as 'blog' would be" in told
    )
    blog.set(nginx_port=8080, unit_options="CPUWeight=50")
    told = blog.run("deploy", code=3)
    assert f"is shared with {web} (/srv/web), which sets it up otherwise: unit_options" in told
    blog.set(
        unit_options="", percore_home="/var/lib/blog", package_path="/opt/blog", launcher_path="/usr/local/bin/blog"
    )
    assert f"percore.service on this host has percore_home /var/lib/percore, for {web}" in blog.run("deploy", code=3)
    blog.set(percore_home="/var/lib/percore", package_path="/opt/percore", launcher_path="/usr/local/bin/percore")
    blog.set(app_name="web", deploy_to="/srv/blog")
    assert f"/etc/nginx/sites-available/web is a file of {web} (/srv/web) as well" in blog.run("deploy", code=3)
    blog.set(app_name="blog")

    blog.run("deploy")
    assert blog.answer(8080) == "blog"
    pids = blog.pids_of_web()
    blog.set(app_name="journal", deploy_to="/srv/blog", renamed_from="blog")
    (blog.web.folder / "blog" / "blog.js").write_text(SERVER.replace("'blog'", "'journal'"))
    blog.run("deploy")
    assert blog.answer(8080) == "journal"
    assert blog.host.run("ls /etc/nginx/sites-enabled /etc/nginx/sites-available").split().count("blog") == 0
    blog.run("rollback", "--yes")
    assert blog.answer(8080) == "blog", "with the site of its former name"
    blog.run("stop")
    assert "journal" not in blog.run("status", code=9)
    blog.run("remove", "--yes")
    assert blog.answer(8080) == ""
    assert blog.pids_of_web() == pids
    assert blog.web.settled(blog.web.wanted)
