"""Addresses and ports that the process file names, programs that nothing can be loaded into, and versions of interpreters."""

from __future__ import annotations

import ast
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.supervisor.conftest import Load, Supervisor
from tests.waiting import wait_for

# Written for a C library only, so that it can be linked statically.
STATIC = r"""
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
int main(void) {
    int server = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(atoi(getenv("PORT"))) };
    setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(server, (struct sockaddr *)&address, sizeof address) || listen(server, 64)) { perror("bind"); return 1; }
    for (;;) {
        char request[4096], reply[256];
        int client = accept(server, 0, 0);
        if (client < 0) continue;
        if (read(client, request, sizeof request) > 0) {
            const char *head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\n";
            int length = sprintf(reply, "%s%s", head, getenv("NODE_APP_INSTANCE"));
            if (write(client, reply, length) < 0) perror("write");
        }
        close(client);
    }
}
"""


def build(supervisor: Supervisor, *flags: str, source: str = STATIC) -> str:
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler, "a C compiler is missing: apt-get install gcc libc6-dev"
    (supervisor.folder / "server.c").write_text(source)
    subprocess.run([compiler, *flags, "-o", "server", "server.c"], cwd=supervisor.folder, check=True, timeout=60)
    return "server"


def slot_at(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=8)
    connection.request("GET", "/")
    with connection.getresponse() as response:
        return response.read().decode()


# `note` as Go's linker writes it.
GO = (
    STATIC
    + """
__asm__(".pushsection .note.go.buildid,\\"a\\",@note\\n.long 4,4,4\\n.asciz \\"Go\\\\0\\"\\n.long 0\\n.popsection");
"""
)


@pytest.mark.parametrize(
    ("flags", "source", "told"),
    [(("-static",), STATIC, "it is linked statically"), ((), GO, "it is a Go program")], ids=["static", "Go"],
)  # fmt: skip
def test_a_program_that_nothing_can_be_loaded_into_is_told_what_to_do(
    supervisor: Supervisor, flags: tuple[str, ...], source: str, told: str
) -> None:
    script = build(supervisor, *flags, source=source)
    result = supervisor.apply(supervisor.api(interpreter="none", script=script), check=False)
    assert f"workers of {supervisor.folder}/server cannot share a port: {told}" in result["error"]
    assert "port_per_worker: true" in result["error"]


def test_workers_with_ports_of_their_own_are_replaced_one_after_the_other(supervisor: Supervisor) -> None:
    script = build(supervisor, "-static")
    app = supervisor.api(
        interpreter="none", script=script, port=supervisor.port, port_per_worker=True, health="/", kill_signal="SIGTERM"
    )
    supervisor.apply(app)
    ports = [supervisor.port, supervisor.port + 1]
    assert [worker["port"] for worker in supervisor.workers("api")] == ports
    assert [slot_at(port) for port in ports] == ["0", "1"]
    before = supervisor.pids("api")
    supervisor.run("reload", "api")
    assert not set(before) & set(supervisor.pids("api"))
    assert [slot_at(port) for port in ports] == ["0", "1"]
    log = supervisor.log()
    # The second was stopped only when the first was back.
    assert log.rindex("api 0: running") < log.rindex("api 1: stopping")


def test_a_program_that_dynamic_linking_can_reach_shares_its_port(supervisor: Supervisor) -> None:
    supervisor.apply(supervisor.api(interpreter="none", script=build(supervisor)))
    wait_for(lambda: {slot_at(supervisor.port) for _ in range(10)} == {"0", "1"}, "both to answer")


LATE = """
const fs = require('fs');
const waiting = setInterval(() => {
  if (!fs.existsSync('go')) return;
  clearInterval(waiting);
  require('./server.js');
}, 20);
"""


@pytest.mark.parametrize("how", ["port", "listen"])
def test_a_declared_port_takes_clients_before_any_worker_listens(supervisor: Supervisor, how: str) -> None:
    (supervisor.folder / "late.js").write_text(LATE)
    declared = {"port": supervisor.port} if how == "port" else {"listen": [str(supervisor.port)]}
    process = subprocess.Popen(
        [sys.executable, "-m", "percore.supervisor.cli", "apply", str(record(supervisor, declared))],
        env={**os.environ, "PERCORE_HOME": str(supervisor.home)}, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        client = wait_for(lambda: connected(supervisor.port), "the port to be open")
        (supervisor.folder / "go").touch()
        client.settimeout(10)
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 200")
        client.close()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()


def record(supervisor: Supervisor, declared: dict[str, object]) -> Path:
    place = supervisor.folder / "releases" / "r1"
    place.mkdir(parents=True)
    app = supervisor.api(script="late.js", **declared)
    (place / ".percore.json").write_text(json.dumps({"version": 1, "release": "r1", "apps": [app]}))
    return place / ".percore.json"


def connected(port: int) -> socket.socket | None:
    client = socket.socket()
    if client.connect_ex(("127.0.0.1", port)) == 0:
        return client
    client.close()
    return None


def test_an_app_that_asks_for_a_narrower_host_than_its_declared_port_gets_that_one(supervisor: Supervisor) -> None:
    text = (supervisor.folder / "server.js").read_text()
    (supervisor.folder / "narrow.js").write_text(text.replace("process.env.PORT,", "process.env.PORT, '127.0.0.1',"))
    supervisor.apply(supervisor.api(script="narrow.js", port=supervisor.port))
    assert {supervisor.get()["slot"] for _ in range(40)} == {"0", "1"}
    with socket.socket(socket.AF_INET6) as client:
        assert client.connect_ex(("::1", supervisor.port)) != 0
    with Load(supervisor.port) as load:
        supervisor.run("reload", "api")
    assert load.failures == []


def test_a_unix_socket_that_the_file_names_is_passed_to_the_workers(supervisor: Supervisor) -> None:
    path = supervisor.folder / "app.sock"
    (supervisor.folder / "takes.py").write_text(
        "import os, socket\n"
        "assert (os.environ['LISTEN_FDS'], os.environ['LISTEN_PID']) == ('1', str(os.getpid()))\n"
        "server = socket.socket(fileno=3)\n"
        "while True:\n"
        "    client, _ = server.accept()\n"
        "    client.sendall(os.environ['NODE_APP_INSTANCE'].encode())\n"
        "    client.close()\n"
    )
    supervisor.apply(supervisor.api(interpreter=sys.executable, script="takes.py", listen=[str(path)]))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        assert client.recv(1) in (b"0", b"1")
    supervisor.run("delete", "api")
    assert not path.exists()


def test_each_app_runs_the_version_of_node_that_it_names(supervisor: Supervisor) -> None:
    real = shutil.which("node")
    assert real
    nvm = supervisor.folder / "nvm"
    for version in ("v16.20.2", "v18.9.1", "v18.20.4"):
        program = nvm / "versions" / "node" / version / "bin" / "node"
        program.parent.mkdir(parents=True)
        program.symlink_to(real)
    env = {"NVM_DIR": str(nvm)}
    supervisor.apply(supervisor.api(interpreter="node@18", env=env), supervisor.api(
        name="exact", interpreter="node@v16.20.2", env={**env, "PORT": str(supervisor.port + 1)}))  # fmt: skip
    for app, version in (("api", "v18.20.4"), ("exact", "v16.20.2")):
        pid = supervisor.pids(app)[0]
        assert Path(f"/proc/{pid}/cmdline").read_text().split("\0")[0] == f"{nvm}/versions/node/{version}/bin/node"
        assert f"PATH={nvm}/versions/node/{version}/bin:" in Path(f"/proc/{pid}/environ").read_text()
    result = supervisor.apply(supervisor.api(interpreter="node@12", env=env), release="r2", check=False)
    assert f"no node 12 is on this host: not in PATH as 'node12', nor below {nvm}/versions/node" in result["error"]


CROSS, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64-static"
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(
    shutil.which(CROSS) is None or shutil.which(EMULATOR) is None,
    reason="needs Debian's gcc-aarch64-linux-gnu, libc6-dev-arm64-cross and qemu-user-static",
)
def test_a_program_for_aarch64_shares_its_port_through_the_library_built_for_it(supervisor: Supervisor) -> None:
    flags = re.search(r"^FLAGS = (\[.*?\])$", (ROOT / "setup.py").read_text(), re.MULTILINE | re.DOTALL)
    assert flags
    shim = [
        *ast.literal_eval(flags[1]),
        "-o",
        "shim.so",
        str(ROOT / "percore" / "supervisor" / "sockets" / "bindshim.c"),
    ]
    (supervisor.folder / "server.c").write_text(STATIC)
    for words in (shim, ["-o", "server", "server.c"]):
        subprocess.run([CROSS, *words], cwd=supervisor.folder, check=True, timeout=60)
    (supervisor.folder / "run.sh").write_text(
        f"exec {EMULATOR} -L /usr/aarch64-linux-gnu -E LD_PRELOAD={supervisor.folder}/shim.so ./server\n"
    )
    supervisor.apply(supervisor.api(script="run.sh", interpreter="sh"))
    wait_for(lambda: {slot_at(supervisor.port) for _ in range(8)} == {"0", "1"}, "both workers to serve")
