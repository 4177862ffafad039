"""Programs as they come from npm and PyPI, each as its users run it: two workers on one shared port."""

from __future__ import annotations

from typing import Any, NamedTuple


class Program(NamedTuple):
    name: str
    packages: tuple[str, ...]  # of npm or PyPI; the first one's version is reported
    app: dict[str, Any]  # keys of a process file; PORT stands for the port
    files: dict[str, str]
    is_node: bool
    path: str = "/"

    @property
    def how(self) -> str:
        """As the table shows it."""
        words = [str(self.app["script"]).replace("BIN/", ""), *map(str, self.app.get("args", []))]
        return " ".join([*self.app.get("interpreter_args", []), *words])


def node_app(name: str, *packages: str, code: str, **app: Any) -> Program:
    """A program of a few lines; without packages it needs the one of its name, unless that has a blank."""
    packages = packages or (() if " " in name else (name,))
    file = app.pop("file", "app.js")
    return Program(name, packages, {"script": file, **app}, {file: code}, is_node=True)


def node_tool(name: str, *packages: str, args: str, files: dict[str, str] | None = None, **app: Any) -> Program:
    """A command of a package."""
    path, script = app.pop("path", "/"), app.pop("script", f"node_modules/.bin/{name}")
    app = {"script": script, "args": args.split(), **app}
    return Program(name, packages or (name,), app, files or {"index.html": "<p>home"}, True, path)


def python_app(name: str, *packages: str, code: str, **app: Any) -> Program:
    keys = {"script": "app.py", "interpreter": "BIN/python", "exec_mode": "cluster", **app}
    return Program(name, packages or (() if "." in name else (name,)), keys, {"app.py": code}, is_node=False)


def python_tool(name: str, *packages: str, args: str, code: str = "", **app: Any) -> Program:
    path, script = app.pop("path", "/"), app.pop("script", f"BIN/{name.split()[0]}")
    files = app.pop("files", {"app.py": code})
    keys = {"script": script, "args": args.split(), "exec_mode": "cluster", **app}
    return Program(name, packages or (name,), keys, files, False, path)


_WSGI = "def app(environ, start):\n    start('200 OK', [('Content-Length', '2')])\n    return [b'hi']\n"
_ASGI = """
async def app(scope, receive, send):
    if scope['type'] == 'lifespan':
        while (message := await receive())['type'] != 'lifespan.shutdown':
            await send({'type': 'lifespan.startup.complete'})
        return await send({'type': 'lifespan.shutdown.complete'})
    await send({'type': 'http.response.start', 'status': 200, 'headers': [(b'content-length', b'2')]})
    await send({'type': 'http.response.body', 'body': b'hi'})
"""
_PORT = "import os; PORT = int(os.environ['PORT'])\n"
_HTTP = "const hi = (q, r) => r.end('hi'), port = process.env.PORT;"

NODE = (
    node_app("http (Node.js)", code=f"{_HTTP} require('http').createServer(hi).listen(port);"),
    node_app("express", code=f"{_HTTP} const a = require('express')(); a.get('/', (q, r) => r.send('hi')); a.listen(port);"),
    Program(
        "express-generator", ("express",), {"script": "bin/www"},
        {"bin/www": "#!/usr/bin/env node\nvar app = require('../app'), s = require('http').createServer(app);\n"
                    "app.set('port', process.env.PORT); s.listen(process.env.PORT);",
         "app.js": "module.exports = require('express')().get('/', (q, r) => r.send('hi'));"}, True),
    node_app("koa", code=f"{_HTTP} const K = require('koa'), a = new K(); a.use(c => {{ c.body = 'hi'; }}); a.listen(port);"),
    node_app("fastify", code=f"{_HTTP} const f = require('fastify')(); f.get('/', async () => 'hi'); f.listen({{ port }});"),
    node_app("hapi", "@hapi/hapi", code=f"{_HTTP} const s = require('@hapi/hapi').server({{ port }});"
             "s.route({ method: 'GET', path: '/', handler: () => 'hi' }); s.start();"),
    node_app("polka", code=f"{_HTTP} require('polka')().get('/', hi).listen(port);"),
    node_app("connect", code=f"{_HTTP} require('connect')().use(hi).listen(port);"),
    node_app("restana", code=f"{_HTTP} require('restana')().get('/', hi).start(port);"),
    node_app("h3", "h3@1", code=f"{_HTTP} const {{ createApp, eventHandler, toNodeListener }} = require('h3');"
             "require('http').createServer(toNodeListener(createApp().use('/', eventHandler(() => 'hi')))).listen(port);"),
    node_app("hono", "hono", "@hono/node-server", file="app.mjs",
             code="import { serve } from '@hono/node-server'; import { Hono } from 'hono';"
             "const a = new Hono(); a.get('/', c => c.text('hi')); serve({ fetch: a.fetch, port: +process.env.PORT });"),
    node_app("tinyhttp", "@tinyhttp/app", file="app.mjs",
             code="import { App } from '@tinyhttp/app'; new App().get('/', (_, r) => r.send('hi')).listen(+process.env.PORT);"),
    node_app("socket.io", code=f"{_HTTP} const s = require('http').createServer(hi);"
             "new (require('socket.io').Server)(s, { transports: ['websocket'] }); s.listen(port);"),
    node_app("ws", code=f"{_HTTP} const s = require('http').createServer(hi);"
             "new (require('ws').WebSocketServer)({ server: s }); s.listen(port);"),
    node_app("NestJS", "@nestjs/core", "@nestjs/common", "@nestjs/platform-express", "reflect-metadata", "rxjs",
             code="require('reflect-metadata'); const { NestFactory } = require('@nestjs/core');"
             "class M {} require('@nestjs/common').Module({})(M); NestFactory.create(M, { logger: false }).then(a => {"
             "a.use('/', (q, r) => r.end('hi')); return a.listen(process.env.PORT); });"),
    node_app("graphql-yoga", "graphql-yoga", "graphql", code=f"{_HTTP} const {{ createYoga, createSchema }} = require('graphql-yoga');"
             "const y = createYoga({ graphqlEndpoint: '/', schema: createSchema({ typeDefs: 'type Query { a: Int }' }) });"
             "require('http').createServer((q, r) => q.url === '/' && !q.headers.accept ? hi(q, r) : y(q, r)).listen(port);"),
    node_app("apollo-server", "@apollo/server", "graphql", code=f"{_HTTP} const {{ ApolloServer }} = require('@apollo/server');"
             "const s = new ApolloServer({ typeDefs: 'type Query { a: Int }' });"
             "s.start().then(() => require('http').createServer(hi).listen(port));"),
    node_app("grpc-js beside http", "@grpc/grpc-js", code=f"{_HTTP} new (require('@grpc/grpc-js').Server)();"
             "require('http').createServer(hi).listen(port);"),
    node_app("tsx", file="app.ts", code="import http from 'http'; const port: number = Number(process.env.PORT);"
             "http.createServer((q, r) => { r.end('hi'); }).listen(port);", interpreter="./node_modules/.bin/tsx"),
    node_tool("sirv", "sirv-cli", args=". --port PORT --host"),
    node_tool("http-server", args="-p PORT"),
    node_tool("serve", args="-l PORT --no-port-switching"),
    node_tool("json-server", args="--port PORT db.json", files={"db.json": '{"a": [{"id": 1}]}'}, path="/a"),
    node_tool("vite", args="--port PORT --strictPort --host 127.0.0.1 --bypass-lock"),
    node_tool("node-red", args="--port PORT --userDir ./red flows.json", files={"flows.json": "[]"}, listen_timeout="60s"),
    node_tool("npm start", "express", script="npm", args="start",
              files={"package.json": '{"name": "p", "scripts": {"start": "node app.js"}}',
                     "app.js": f"{_HTTP} require('http').createServer(hi).listen(port);"}),
    node_tool("bun", args="run app.ts", files={"app.ts": "Bun.serve({ port: process.env.PORT, fetch: () => new Response('hi') });"},
              exec_mode="cluster", interpreter="none"),
    node_tool("deno", args="run --allow-net --allow-env app.ts", exec_mode="cluster",
              files={"app.ts": "Deno.serve({ port: Number(Deno.env.get('PORT')) }, () => new Response('hi'));"}),
)  # fmt: skip

PYTHON = (
    python_app("http.server", code=_PORT + "import http.server as h\nclass H(h.BaseHTTPRequestHandler):\n"
               "    def do_GET(self): self.send_response(200); self.end_headers(); self.wfile.write(b'hi')\n"
               "h.ThreadingHTTPServer(('127.0.0.1', PORT), H).serve_forever()"),
    python_app("flask (its own server)", "flask", code=_PORT + "from flask import Flask\na = Flask(__name__)\n"
               "a.add_url_rule('/', view_func=lambda: 'hi')\na.run(port=PORT)"),
    python_tool("gunicorn", args="-b 127.0.0.1:PORT app:app", code=_WSGI),
    python_tool("gunicorn gthread", "gunicorn", args="-k gthread --threads 4 -b 127.0.0.1:PORT app:app", code=_WSGI),
    python_tool("gunicorn gevent", "gunicorn", "gevent", args="-k gevent -b 127.0.0.1:PORT app:app", code=_WSGI),
    python_tool("uvicorn", args="--port PORT app:app", code=_ASGI),
    python_tool("uvicorn uvloop", "uvicorn", "uvloop", "httptools", args="--loop uvloop --http httptools --port PORT app:app",
                code=_ASGI),
    python_tool("gunicorn uvicorn-worker", "gunicorn", "uvicorn-worker", code=_ASGI,
                args="-k uvicorn_worker.UvicornWorker -b 127.0.0.1:PORT app:app"),
    python_tool("hypercorn", args="-b 127.0.0.1:PORT app:app", code=_ASGI),
    python_tool("daphne", args="-p PORT app:app", code=_ASGI),
    python_tool("granian", args="--interface asgi --port PORT app:app", code=_ASGI),
    python_tool("waitress-serve", "waitress", args="--listen=127.0.0.1:PORT app:app", code=_WSGI),
    python_tool("fastapi", "fastapi[standard]", args="run --port PORT app.py",
                code="from fastapi import FastAPI\napp = FastAPI()\n@app.get('/')\ndef home(): return 'hi'\n"),
    python_tool("starlette", "starlette", script="BIN/uvicorn", args="--port PORT app:app",
                code="from starlette.applications import Starlette\nfrom starlette.responses import PlainTextResponse as P\n"
                "from starlette.routing import Route\napp = Starlette(routes=[Route('/', lambda r: P('hi'))])\n"),
    python_tool("litestar", args="run --port PORT",
                code="from litestar import Litestar, get\n@get('/')\nasync def home() -> str: return 'hi'\napp = Litestar([home])\n"),
    python_tool("quart", script="BIN/hypercorn", args="-b 127.0.0.1:PORT app:app",
                code="from quart import Quart\napp = Quart(__name__)\n@app.get('/')\nasync def home(): return 'hi'\n"),
    python_app("aiohttp", code=_PORT + "from aiohttp import web\nasync def home(r): return web.Response(text='hi')\n"
               "a = web.Application(); a.add_routes([web.get('/', home)]); web.run_app(a, port=PORT)"),
    python_app("sanic", code=_PORT + "from sanic import Sanic, text\na = Sanic('a')\n@a.get('/')\nasync def home(r): return text('hi')\n"
               "if __name__ == '__main__': a.run(port=PORT, single_process=True)"),
    python_app("tornado", code=_PORT + "import asyncio, tornado.web as w\nclass H(w.RequestHandler):\n    def get(self): self.write('hi')\n"
               "async def main():\n    w.Application([('/', H)]).listen(PORT)\n    await asyncio.Event().wait()\nasyncio.run(main())"),
    python_app("bottle", code=_PORT + "import bottle\nbottle.route('/')(lambda: 'hi')\nbottle.run(port=PORT, quiet=True)"),
    python_app("cherrypy", code=_PORT + "import cherrypy as c\nclass R:\n    @c.expose\n    def index(self): return 'hi'\n"
               "c.config.update({'server.socket_port': PORT})\nc.quickstart(R())"),
    python_app("gevent", code=_PORT + _WSGI + "from gevent.pywsgi import WSGIServer\nWSGIServer(('127.0.0.1', PORT), app).serve_forever()"),
    python_app("werkzeug", code=_PORT + _WSGI + "from werkzeug.serving import run_simple\nrun_simple('127.0.0.1', PORT, app)"),
    python_app("pyramid", "pyramid", "waitress", code=_PORT + "from pyramid.config import Configurator\nfrom pyramid.response import Response\n"
               "from waitress import serve\nwith Configurator() as c:\n    c.add_route('h', '/')\n"
               "    c.add_view(lambda r: Response('hi'), route_name='h')\n    app = c.make_wsgi_app()\nserve(app, port=PORT)"),
    python_tool("falcon", "falcon", script="BIN/gunicorn", args="-b 127.0.0.1:PORT app:app",
                code="import falcon\nclass R:\n    def on_get(self, q, r): r.text = 'hi'\napp = falcon.App(); app.add_route('/', R())\n"),
    python_tool("twistd", "twisted", args="-n --pidfile= web --listen tcp:PORT --path .", files={"index.html": "hi"}),
    python_tool("datasette", args="serve --port PORT", path="/-/versions.json"),
    python_tool("django runserver", "django", script="app.py", interpreter="BIN/python", args="runserver --noreload PORT",
                code="import sys\nfrom django.conf import settings\nfrom django.core.management import execute_from_command_line\n"
                "from django.http import HttpResponse\nfrom django.urls import path\n"
                "settings.configure(DEBUG=True, ROOT_URLCONF=__name__, SECRET_KEY='x', ALLOWED_HOSTS=['*'])\n"
                "urlpatterns = [path('', lambda r: HttpResponse('hi'))]\n"
                "if __name__ == '__main__': execute_from_command_line(sys.argv)\n"),
    python_tool("django gunicorn", "django", script="BIN/gunicorn", args="-b 127.0.0.1:PORT app:app",
                code="from django.conf import settings\nfrom django.core.wsgi import get_wsgi_application\n"
                "from django.http import HttpResponse\nfrom django.urls import path\n"
                "settings.configure(ROOT_URLCONF=__name__, SECRET_KEY='x', ALLOWED_HOSTS=['*'])\n"
                "urlpatterns = [path('', lambda r: HttpResponse('hi'))]\napp = get_wsgi_application()\n"),
    python_app("dash", code=_PORT + "from dash import Dash, html\na = Dash(); a.layout = html.P('hi')\na.run(port=PORT)"),
    python_tool("mkdocs", args="serve --no-livereload -a 127.0.0.1:PORT", files={"mkdocs.yml": "site_name: a\n", "docs/index.md": "hi"}),
    python_app("eventlet", code=_PORT + _WSGI + "import eventlet, eventlet.wsgi\neventlet.wsgi.server(eventlet.listen(('127.0.0.1', PORT)), app)"),
)  # fmt: skip

PROGRAMS = (*NODE, *PYTHON)
