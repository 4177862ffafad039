"""The env file of an environment on its way to the workers of a real host."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

import pytest
import yaml

from tests.hosts.conftest import Project, set_variables

SECRET = "hunter22"
ENV_FILE = f"""NODE_ENV=production
DATABASE_URL=postgresql://shop:{SECRET}@db.example.com:5432/shop
REDIS_URL=redis://redis.example.com:6379
ALLOWED_ORIGINS=https://app.example.com,https://admin.example.com
LOG_LEVEL=info
PORT=5000
"""
WANTED = dict(line.split("=", 1) for line in ENV_FILE.splitlines()) | {"LOG_LEVEL": "warn"}
SERVER = """
const names = %s;
require('http').createServer((request, response) => {
  response.end(JSON.stringify(Object.fromEntries(names.map((name) => [name, process.env[name]]))));
}).listen(process.env.PORT);
""" % json.dumps(list(WANTED))  # noqa: UP031
PROCESS_FILE = {
    "apps": [{
        "name": "boltlink-api", "script": "./server.js", "exec_mode": "cluster", "instances": 2,
        "env": {"NODE_ENV": "development", "LOG_LEVEL": "debug"}, "env_production": {"NODE_ENV": "from the block"},
    }]
}  # fmt: skip


@pytest.fixture
def production(project: Project) -> Iterator[Project]:
    """The hosts as `--env production`, with an app that answers its six variables; the inventory sets one of them."""
    app = project.folder / "examples" / "six"
    app.mkdir()
    (app / "server.js").write_text(SERVER)
    (app / "ecosystem.json").write_text(json.dumps(PROCESS_FILE))
    (app / ".env.production").write_text(ENV_FILE)
    inventory = project.folder / "inventories" / "production.yml"
    content = yaml.safe_load((inventory.parent / f"{project.env}.yml").read_text())
    more = {"app_path": "examples/six", "health_path": "", "env": {"LOG_LEVEL": "warn"}, "secrets": ["DATABASE_URL"],
            "renamed_from": f"boltlink/{project.env}"}  # fmt: skip
    content["all"]["vars"].update(more)
    inventory.write_text(yaml.safe_dump(content, width=1000))
    made = Project(project.folder, project.lab)
    made.env = "production"
    try:
        yield made
    finally:
        inventory.unlink()
        shutil.rmtree(app)
        set_variables(project, renamed_from="boltlink/production")
        project.deploy()
        set_variables(project, renamed_from="")


def test_the_six_variables_reach_every_worker_and_nobody_else(production: Project) -> None:
    said = production.deploy()
    said += production.invoke("plan", "--env", "production").stdout
    assert SECRET not in said
    host = production.lab.hosts[0]
    answer = production.lab.inside(["curl", "-sf", f"http://{host.address}/"]).stdout
    assert json.loads(answer) == WANTED
    for (name, app, _), pid in production.workers().items():
        if (name, app) == (host.name, "boltlink-api"):
            environ = host.run(f"tr '\\0' '\\n' < /proc/{pid}/environ").splitlines()
            assert {f"{name}={value}" for name, value in WANTED.items()} <= set(environ)
    record = "/srv/boltlink/current/.percore.json"
    assert host.run(f"stat -c '%a %U' {record}").split() == ["600", "percore"]
    assert SECRET in host.run(f"cat {record}")
    assert not host.run("find /srv/boltlink/releases -name '.env*'").split()
    places = "/srv /opt/percore /var/lib/percore /etc /tmp /var/log"
    assert host.run(f"grep -rls {SECRET} {places}", user="deployer", check=False) == ""
    assert host.run("grep -ls 'hunter[2]2' /proc/[0-9]*/cmdline", check=False) == ""
