"""Unmodified programs of every kind: their workers share a port, all of them serve, and a reload loses nothing.

The packages come from npm and PyPI the first time, into the user's cache folder.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.supervisor.conftest import Load, Supervisor

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "percore-frameworks"
NPM = ("express@5", "fastify@5")
BIN = CACHE / "venv/bin"
PYPI = ("flask", "uvicorn", "gunicorn", "hypercorn", "granian", "aiohttp")


class Program(NamedTuple):
    """`files` by name, and the keys of the app that runs them. Every answer holds the number of the worker."""

    files: dict[str, str]
    keys: dict[str, Any]
    tells_clients: bool = False  # answers "Connection: close" before it ends; the others just close


SLOT = "process.env.NODE_APP_INSTANCE"
ASGI = """
import os
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": os.environ["NODE_APP_INSTANCE"].encode()})
"""
WSGI = """
import os
from flask import Flask
app = Flask(__name__)
@app.get("/")
def slot():
    return os.environ["NODE_APP_INSTANCE"]
"""
SLOW = """
import http.server, os, time
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        time.sleep(0.15)
        body = os.environ["NODE_APP_INSTANCE"].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Answer).serve_forever()
"""
AIOHTTP = """
import os
from aiohttp import web
async def slot(request):
    return web.Response(text=os.environ["NODE_APP_INSTANCE"])
app = web.Application()
app.add_routes([web.get("/", slot)])
web.run_app(app, port=int(os.environ["PORT"]))
"""
NODE_HTTP = f"require('http').createServer((_, response) => response.end({SLOT})).listen(process.env.PORT);\n"


LISTEN_FDS = """
import http.server, os, socket
assert os.environ["LISTEN_PID"] == str(os.getpid())
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = os.environ["NODE_APP_INSTANCE"].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("", 0), Answer, bind_and_activate=False)
server.socket.close()
server.socket = socket.socket(fileno=3)
server.serve_forever()
"""


def python(*arguments: str, **keys: Any) -> dict[str, Any]:
    return {"interpreter": f"{BIN}/python", "script": arguments[0], "args": list(arguments[1:]), **keys}


def shell(command: str, **keys: Any) -> dict[str, Any]:
    return {"interpreter": "/bin/sh", "script": "-c", "args": [f"exec {command}"], **keys}


def node(script: str, **keys: Any) -> dict[str, Any]:
    return {"interpreter": "node", "script": script, **keys}


PROGRAMS = {
    "node http": Program({"app.js": NODE_HTTP}, node("app.js"), tells_clients=True),
    "express": Program(
        {"app.js": f"require('express')().get('/', (_, reply) => reply.send({SLOT})).listen(process.env.PORT, '0.0.0.0');"},
        node("app.js"), tells_clients=True,
    ),
    "fastify": Program(
        {"app.js": "const app = require('fastify')();\n"
                   f"app.get('/', async () => {SLOT}); app.listen({{ port: +process.env.PORT }});"},
        node("app.js"), tells_clients=True,
    ),
    "an ES module": Program(
        {"app.mjs": "import http from 'node:http';\n"
                    f"const server = http.createServer((_, response) => response.end({SLOT}));\n"
                    "server.listen({ port: process.env.PORT, exclusive: true });"},
        node("app.mjs"), tells_clients=True,
    ),
    "npm start": Program(
        {"app.js": NODE_HTTP, "package.json": json.dumps({"scripts": {"start": "node app.js"}})},
        {"interpreter": "none", "script": "npm", "args": ["start"], "kill_timeout": 5.0}, tells_clients=True,
    ),
    "an app with a cluster of its own": Program(
        {"app.js": "const cluster = require('cluster');\n"
                   "if (cluster.isPrimary) { cluster.fork(); cluster.fork(); process.on('SIGINT', () => process.exit()); }\n"
                   f"else {NODE_HTTP}"},
        node("app.js"), tells_clients=True,
    ),
    "http.server": Program(
        {"0/index.html": "0", "1/index.html": "1"}, shell("python3 -m http.server $PORT --directory $NODE_APP_INSTANCE")
    ),
    "a slow program that dies of the signal": Program({"app.py": SLOW}, python("app.py")),
    "flask": Program({"app.py": WSGI}, shell(f"{BIN}/flask run --host 0.0.0.0 --port $PORT")),
    "uvicorn": Program({"app.py": ASGI}, shell(f"{BIN}/uvicorn app:app --port $PORT")),
    "uvicorn with workers of its own": Program(
        {"app.py": ASGI}, shell(f"{BIN}/uvicorn app:app --port $PORT --workers 2", treekill=False)
    ),
    "gunicorn": Program({"app.py": WSGI}, shell(f"{BIN}/gunicorn app:app -b 0.0.0.0:$PORT")),
    "hypercorn": Program({"app.py": ASGI}, shell(f"{BIN}/hypercorn app:app -b 0.0.0.0:$PORT")),
    "granian": Program({"app.py": ASGI}, shell(f"{BIN}/granian app:app --interface asgi --port $PORT")),
    "aiohttp": Program({"app.py": AIOHTTP}, python("app.py")),
    "a program that takes LISTEN_FDS": Program({"app.py": LISTEN_FDS}, python("app.py", listen=["0.0.0.0:$PORT"])),
}  # fmt: skip


@pytest.fixture(scope="session", autouse=True)
def packages() -> None:
    """npm's and PyPI's packages, installed at once, unless an earlier run did."""
    wanted = json.dumps([NPM, PYPI, sys.version])
    stamp = CACHE / "installed"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    shutil.rmtree(CACHE, ignore_errors=True)
    CACHE.mkdir(parents=True)
    (CACHE / "package.json").write_text('{"private": true}')
    subprocess.run([sys.executable, "-m", "venv", CACHE / "venv"], check=True, timeout=120)
    commands = (
        ["npm", "install", "--no-audit", "--no-fund", "--silent", *NPM],
        [f"{BIN}/pip", "install", "--quiet", "--disable-pip-version-check", *PYPI],
    )
    with ThreadPoolExecutor() as both:
        for done in both.map(lambda command: subprocess.run(command, cwd=CACHE, timeout=400), commands):
            assert done.returncode == 0, done.args
    stamp.write_text(wanted)


@pytest.fixture(params=list(PROGRAMS))
def program(request: pytest.FixtureRequest, supervisor: Supervisor) -> Program:
    """Its files lie in the supervisor's folder."""
    chosen = PROGRAMS[request.param]
    for name, text in chosen.files.items():
        (supervisor.folder / name).parent.mkdir(exist_ok=True)
        (supervisor.folder / name).write_text(text)
    (supervisor.folder / "node_modules").symlink_to(CACHE / "node_modules")
    return chosen


def slot_that_answers(port: int, source: str = "127.0.0.1") -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=8, source_address=(source, 0))
    connection.request("GET", "/", headers={"Connection": "close"})
    with connection.getresponse() as response:
        assert response.status == 200
        return response.read().decode().strip()


def test_two_workers_share_the_port_and_a_reload_loses_nothing(supervisor: Supervisor, program: Program) -> None:
    keys = dict(program.keys)
    if "listen" in keys:
        keys["listen"] = [address.replace("$PORT", str(supervisor.port)) for address in keys["listen"]]
    supervisor.apply(supervisor.api(**keys))
    assert [slot_that_answers(supervisor.port, f"127.77.0.{slot + 1}") for slot in (0, 1)] == ["0", "1"]
    assert {slot_that_answers(supervisor.port) for _ in range(30)} == {"0", "1"}
    before = supervisor.pids("api")
    with Load(supervisor.port, keeping=2, closing=2, retries=not program.tells_clients) as load:
        supervisor.run("reload", "api")
    assert load.failures == []
    assert load.counts["bad"] == 0
    assert not set(before) & set(supervisor.pids("api"))
