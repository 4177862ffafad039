"""docs/reference/json.md: what the commands of a host print is what the page says."""

from __future__ import annotations

import json
from typing import Any

from tests.reference.json_outputs import faults
from tests.supervisor.conftest import Supervisor
from tests.waiting import wait_for

FILE = """\
apps:
  - {name: api, script: server.py, instances: 2, exec_mode: cluster, port: PORT}
jobs:
  - {name: backup, script: "echo saved", cron: "0 4 * * *"}
"""
SERVER = """\
import http.server, os
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


def test_what_the_commands_print_is_what_the_page_says(supervisor: Supervisor) -> None:
    (supervisor.folder / "server.py").write_text(SERVER)
    path = supervisor.folder / "ecosystem.yml"
    path.write_text(FILE.replace("PORT", str(supervisor.port)))

    def printed(*words: str) -> Any:
        return json.loads(supervisor.run(*words, check=False).stdout)

    supervisor.run("start", str(path))
    supervisor.run("jobs", "backup", "--run")
    wait_for(lambda: printed("jobs", "--json")[0]["last"], "the run of the job")
    path.write_text(path.read_text().replace("instances: 2", "instances: 3"))
    outputs = {
        "percore-status": printed("status", "--json"),
        "percore-jlist": printed("jlist"),
        "percore-jobs": printed("jobs", "--json"),
        "percore-doctor": printed("doctor", "--json"),
        "percore-apply": printed("apply", str(path), "--check", "--json"),
    }
    assert len(outputs["percore-jlist"]) == 3
    assert {name: found for name, output in outputs.items() if (found := faults(name, output))} == {}
