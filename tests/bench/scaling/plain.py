"""The third side: plain Node processes on ports of their own behind NGINX, as the documents of PM2's users have it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from typing import Any

from tests.bench.supervisor.sides import Side, get
from tests.nginx import write_config
from tests.waiting import free_port, wait_for

_SERVERS = """\
    upstream app {{
        least_conn;
{servers}
        keepalive 64;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://app;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
    }}
"""


class PlainBehindNginx(Side):
    name = "nginx"

    def __init__(self) -> None:
        super().__init__()
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, *apps: dict[str, Any]) -> None:
        (app,) = apps
        ports = [free_port() for _ in range(app["instances"])]
        for port in ports:
            self._run("node", str(self.folder / app["script"]), PORT=str(port))
        wait_for(lambda: all(get(port) for port in ports), "the plain processes")
        servers = "\n".join(f"        server 127.0.0.1:{port};" for port in ports)
        text = _SERVERS.format(port=self.port, servers=servers)
        config = write_config(self.folder, text, workers=len(ports), connections=4096, level="error")
        self._run(shutil.which("nginx") or "/usr/sbin/nginx", "-c", str(config), "-p", str(self.folder))
        wait_for(lambda: get(self.port), "an answer through NGINX")

    def _run(self, *command: str, **env: str) -> None:
        self._processes.append(subprocess.Popen(command, env={**self.environment(), **env}, stderr=subprocess.DEVNULL))

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(arguments, 0, "", "")

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "PATH": os.environ["PATH"]}

    def close(self) -> None:
        for process in reversed(self._processes):
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            process.wait(10)
        super().close()
