"""`init`: what it finds out about an app, what it writes, and that it changes nothing that is there."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from percore.deploy.inventory import find_inventory, load_inventory
from percore.deploy.plan.host_plan import make_host_plan
from percore.deploy.plan.settings import read_settings
from percore.deploy.plan.variables import resolve_variables
from percore.deploy.report import Report
from percore.deploy.scaffold.detect import detect
from percore.deploy.scaffold.init import InitWish, init, read_hosts
from percore.deploy.shipped import shipped_directory
from percore.errors import UsageError
from percore.supervisor.config.process_file import load_process_file
from tests.unit.deploy.apps import write

EXPRESS = {
    "package.json": {"name": "@acme/shop", "scripts": {"start": "node dist/main"}, "packageManager": "pnpm@9.1.0"},
    "pnpm-lock.yaml": "lockfileVersion: '9.0'\n",
    "src/main.ts": "const app = express();\napp.get('/healthz', ok);\napp.listen(process.env.PORT || 4001);\n",
    "src/db.ts": "export const pool = new Pool({ port: 5432 });\n",
    "src/main.test.ts": "app.listen(9);\n",
}  # fmt: skip

Files = Mapping[str, Any]
APPS: dict[str, tuple[Files, list[str], str, str]] = {
    "a compiled Express app": (EXPRESS, ["./dist/main.js"], "4001", "/healthz"),
    "what express-generator makes": (
        {
            "package.json": {"scripts": {"start": "node ./bin/www"}},
            "bin/www": "var port = normalizePort(process.env.PORT || '3000');\n",
            "app.js": "app.use('/', indexRouter);\n",
        },
        ["node ./bin/www"], "3000", "",
    ),
    "a NestJS app": (
        {
            "package.json": {
                "scripts": {"start": "nest start", "start:prod": "node dist/main"}, "dependencies": {"@nestjs/core": "11"},
            },
            "src/main.ts": "await app.listen(process.env.PORT ?? 3000);\n",
            "src/health/health.controller.ts": "@Controller('health')\n",
        },
        ["./dist/main.js"], "3000", "/health",
    ),
    "a NestJS app below a prefix": (
        {
            "package.json": {"scripts": {"start:prod": "node dist/main"}},
            "src/main.ts": "app.setGlobalPrefix('/api/v1');\nawait app.listen(3000);\n",
            "src/health/health.controller.ts": "@Controller('health')\n",
        },
        ["./dist/main.js"], "3000", "/api/v1/health",
    ),
    "a NestJS app below a prefix that leaves out its health": (
        {
            "package.json": {"scripts": {"start:prod": "node dist/main"}},
            "src/main.ts": "app.setGlobalPrefix('api', { exclude: ['health'] });\nawait app.listen(3000);\n",
            "src/health/health.controller.ts": "@Controller('health')\n",
        },
        ["./dist/main.js"], "3000", "/health",
    ),
    "a Next.js app": (
        {
            "package.json": {"scripts": {"start": "next start"}, "dependencies": {"next": "15"}},
            "app/api/health/route.ts": "export const GET = () => Response.json({});\n",
        },
        ["next start"], "3000", "/api/health",
    ),
    "a Nuxt app, which has no script to start it": (
        {"package.json": {"scripts": {"build": "nuxt build"}, "devDependencies": {"nuxt": "4"}}},
        ["./.output/server/index.mjs"], "3000", "",
    ),
    "flags of node": (
        {
            "package.json": {"scripts": {"start": "node --enable-source-maps server.mjs"}},
            "server.mjs": "fastify.get('/health', h)\nfastify.listen({ port: 8081 })\n",
        },
        ["./server.mjs"], "8081", "/health",
    ),
    "a script that builds before it starts": (
        {
            "package.json": {
                "scripts": {"start": "npm run build:ts && fastify start dist/app.js"}, "dependencies": {"fastify": "5"},
            },
        },
        ["fastify start dist/app.js"], "3000", "",
    ),
    "a script that migrates before it starts": (
        {"package.json": {"scripts": {"start": "prisma migrate deploy && node main.js"}}, "main.js": "server.listen(3111)"},
        ["prisma migrate deploy && node main.js"], "3111", "",
    ),
    "main of package.json alone": (
        {"package.json": {"main": "lib/index"}, ".env.example": "PORT=7070\n"}, ["./lib/index.js"], "7070", "",
    ),
    "a Procfile": (
        {"package.json": {}, "Procfile": "web: node web.js --port 4545\nworker: node jobs.js\nrelease: node migrate.js\n"},
        ["node web.js --port 4545", "./jobs.js"], "4545", "",
    ),
    "FastAPI": (
        {
            "requirements.txt": "fastapi[standard]==0.115\n",
            "app/main.py": 'app = FastAPI(title="x")\n@app.get("/health")\ndef health(): ...\n',
        },
        ["uvicorn app.main:app --port $PORT"], "8000", "/health",
    ),
    "Flask": (
        {
            "pyproject.toml": '[project]\nname = "api"\ndependencies = ["flask>=3", "gunicorn"]\n',
            "src/api/wsgi.py": 'application = Flask(__name__)\n@application.route("/up")\n',
        },
        ["gunicorn api.wsgi:application --bind 127.0.0.1:$PORT"], "8000", "",
    ),
    "Django": (
        {
            "manage.py": "", "requirements.txt": "Django~=5.1\ngunicorn\n", "site1/wsgi.py": "", "site1/asgi.py": "",
            "site1/urls.py": 'urlpatterns = [path("healthz/", up)]\n',
        },
        ["gunicorn site1.wsgi:application --bind 127.0.0.1:$PORT"], "8000", "/healthz/",
    ),
    "a Procfile of a Python app, for hosts that call it python3": (
        {
            "requirements.txt": "flask\n", "web.py": "",
            "Procfile": "web: env A=1 python web.py\nclock: python -u clock.py\nold: python2 a.py; ./python b\n",
        },
        ["env A=1 python3 web.py", "python3 -u clock.py", "python2 a.py; ./python b"], "5000", "",
    ),
    "a route below a router, whose whole path nobody knows": (
        {
            "package.json": {"main": "index.js"},
            "index.js": "router.get('/health', h);\n// app.get('/health')\nserver.listen(3210)\n",
        },
        ["./index.js"], "3210", "",
    ),
    "a Next.js app with a server of its own": (
        {
            "package.json": {"scripts": {"start": "next start"}, "dependencies": {"next": "16"}},
            "next.config.ts": "const config = {\n  output: 'standalone',\n};\n",
        },
        ["./.next/standalone/server.js"], "3000", "",
    ),
    "workers beside a NestJS app": (
        {
            "package.json": {
                "type": "module",
                "scripts": {
                    "start:prod": "node dist/main", "start:worker": "nest start --entryFile worker",
                    "start:worker:prod": "node dist/worker", "scheduler": "node dist/scheduler.js", "jobs": "nodemon jobs.js",
                    "worker:dev": "node --watch w.js",
                },
            },
        },
        ["./dist/main.js", "./dist/worker.js", "./dist/scheduler.js"], "5000", "",
    ),
    "FastAPI with Celery and a schedule": (
        {
            "requirements.txt": "fastapi\nuvicorn\ncelery[redis]\n", "api/main.py": "app = FastAPI()\n",
            "api/queue.py": "queue = Celery('api')\nqueue.conf.beat_schedule = {}\n",
        },
        [
            "uvicorn api.main:app --port $PORT", "celery --app api.queue worker --loglevel INFO",
            "celery --app api.queue beat --schedule data/celerybeat-schedule",
        ],
        "8000", "",
    ),
    "Django with Celery": (
        {
            "manage.py": "", "requirements.txt": "Django\ngunicorn\ncelery\n", "site1/wsgi.py": "",
            "site1/celery.py": 'app = Celery("site1")\n',
        },
        ["gunicorn site1.wsgi:application --bind 127.0.0.1:$PORT", "celery --app site1 worker --loglevel INFO"], "8000", "",
    ),
    "a script that migrates before it starts, with what hosts have": (
        {
            "package.json": {
                "scripts": {"start": "npm run db:up && npm run serve", "db:up": "npx knex migrate:latest", "serve": "node main"},
                "dependencies": {"knex": "3"},
            },
            "main.js": "server.listen(3111)",
        },
        ["./main.js"], "3111", "",
    ),
    "Flask with a factory": (
        {
            "pyproject.toml": '[project]\nname = "blog"\ndependencies = ["flask", "gunicorn"]\n',
            "blog/__init__.py": "def create_app(test_config=None):\n    app = Flask(__name__)\n",
        },
        ["gunicorn 'blog:create_app()' --bind 127.0.0.1:$PORT"], "8000", "",
    ),
    "Flask with a factory that a module calls": (
        {
            "requirements.txt": "Flask==3.1\ngunicorn\n", "app/__init__.py": "def create_app(config=Config):\n",
            "microblog.py": "from app import create_app\napp = create_app()\n",
        },
        ["gunicorn microblog:app --bind 127.0.0.1:$PORT"], "8000", "",
    ),
    "FastAPI with a factory": (
        {"requirements.txt": "fastapi\nuvicorn\n", "src/shop/main.py": "def create_app() -> FastAPI:\n"},
        ["uvicorn shop.main:create_app --factory --port $PORT"], "8000", "",
    ),
    "a Flask app that serves by itself": (
        {"requirements.txt": "flask\n", "web.py": "app = Flask(__name__)\nif __name__ == '__main__':\n    app.run(port=5050)\n"},
        ["./web.py"], "5050", "",
    ),
    "Flask with a package.json for its pages alone": (
        {
            "package.json": {"scripts": {"build": "vite build"}, "devDependencies": {"vite": "7"}},
            "requirements.txt": "flask\ngunicorn\n", "run.py": "app = create_app(config)\n",
        },
        ["gunicorn run:app --bind 127.0.0.1:$PORT"], "8000", "",
    ),
    "a Procfile that asks package.json": (
        {
            "package.json": {"scripts": {"start": "cross-env PORT=4646 node src/web", "jobs": "node jobs.js"}},
            "src/web.js": "", "Procfile": "web: yarn start\nworker: npm run jobs\n",
        },
        ["./src/web.js", "./jobs.js"], "4646", "",
    ),
    "a script in Python without a framework": ({"main.py": "", "requirements.txt": ""}, ["./main.py"], "5000", ""),
    "nothing at all": ({}, ["./server.js"], "5000", ""),
}  # fmt: skip


@pytest.mark.parametrize("kind", APPS)
def test_programs_port_and_health_path_are_found_out(tmp_path: Path, kind: str) -> None:
    files, scripts, port, health = APPS[kind]
    found = detect(write(tmp_path, files))
    assert [program.script for program in found.programs] == scripts
    assert found.port.value == port
    assert (found.health.value if found.health else "") == health


@pytest.mark.parametrize("kind", APPS)
def test_what_init_writes_is_read_by_a_deploy(tmp_path: Path, kind: str) -> None:
    if shutil.which("node") is None:
        pytest.skip("the process file is evaluated by Node")
    files, scripts, port, health = APPS[kind]
    app = write(tmp_path / "it's ä app", {"README": "", **files})
    init(InitWish("production", app, app, "deployer@web[1:3].example.com"), Report(quiet=True))
    inventory = load_inventory(find_inventory("production", app / "inventories"))
    assert list(inventory.hosts) == ["web1.example.com", "web2.example.com", "web3.example.com"]
    variables = resolve_variables(make_host_plan("web2.example.com", inventory, env="production", project=app))
    assert (variables["ansible_user"], variables["ansible_become"]) == ("deployer", True)
    settings = read_settings(variables, app)
    assert (settings.path, settings.port, settings.health_path or "") == (app / ".", int(port), health)
    process_file = next(app.glob("ecosystem.*"))  # .cjs in a package of ES modules
    apps = load_process_file(str(process_file)).apps
    assert len(apps) == len(scripts)
    assert (apps[0].mode, apps[0].env["PORT"]) == ("cluster", port)
    assert [one.mode for one in apps[1:]] == ["fork"] * (len(apps) - 1)


def test_each_value_tells_where_it_was_found(tmp_path: Path) -> None:
    app = write(tmp_path, EXPRESS)
    init(InitWish("production", app, app), Report(quiet=True))
    text = (app / "inventories/production/group_vars/all.yml").read_text()
    assert "port: 4001 # found in src/main.ts:3\n" in text
    assert "health_path: /healthz # found in src/main.ts:2\n" in text
    assert "app_name: shop\n" in text


@pytest.mark.parametrize(
    ("kind", "note"),
    [
        ("FastAPI", "free to choose: the app is started with $PORT"),
        ("nothing at all", "not found in the source: the port that the app listens on"),
    ],
)
def test_a_port_that_was_not_found_tells_whether_it_must_be_checked(
    tmp_path: Path, kind: str, note: str, capsys: pytest.CaptureFixture[str]
) -> None:
    app = write(tmp_path, APPS[kind][0])
    init(InitWish("production", app, app), Report())
    text = (app / "inventories/production/group_vars/all.yml").read_text()
    assert f"# {note}\n" in text
    assert f"({note})\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("directory", "declared", "name"),
    [
        ("shop/src", "", "shop"),
        ("shop/backend", "app", "shop"),
        ("shop/src", "mail", "mail"),
        ("src/app", "@a/source", "source"),
    ],
)
def test_an_app_is_not_called_what_every_second_directory_is_called(
    tmp_path: Path, directory: str, declared: str, name: str
) -> None:
    assert detect(write(tmp_path / directory, {"package.json": {"name": declared}})).name == name


def setting(directory: Path, name: str) -> Any:
    """What is proposed for a variable of the inventory."""
    return next((one.value for one in detect(directory).settings if one.name == name), None)


def test_what_a_start_script_builds_first_is_the_build_command(tmp_path: Path) -> None:
    files = copy.deepcopy(APPS["a script that builds before it starts"][0])
    assert setting(write(tmp_path / "a", files), "build_command") == "npm run build:ts"
    files["package.json"]["scripts"]["build"] = "tsc"
    assert setting(write(tmp_path / "b", files), "build_command") is None


@pytest.mark.parametrize(
    ("scripts", "script", "build", "release"),
    [
        ({"start": "npm run scss && node app.js", "scss": "sass a:b"}, "./app.js", "npm run scss", None),
        (
            {"start": "npm run scss && node app.js", "scss": "sass a:b", "build": "tsc"},
            "./app.js", "npm run build && npm run scss", None,
        ),
        ({"prestart": "npm run compile", "start": "node app", "compile": "tsc"}, "./app.js", "npm run prestart", None),
        ({"prestart": "apidoc -i src", "start": "pm2 start app.js"}, "./app.js", None, None),
        ({"start:prod": "prisma migrate deploy; node app"}, "./app.js", None, "prisma migrate deploy"),
        ({"start": "knex migrate:latest && node app"}, "knex migrate:latest && node app", None, None),
        ({"start": "node seed.js && node app"}, "node seed.js && node app", None, None),
        ({"start": "tsc || true && node app"}, "tsc || true && node app", None, None),
        ({"start": "npm run serve -- --open"}, "npm run serve -- --open", None, None),
        ({"start": "npm run serve -- --open", "serve": "node app"}, "node app --open", None, None),
        ({"start": "pnpm with-env next start", "with-env": "dotenv -e ../../.env --"}, "next start", None, None),
        ({"start": "npm run serve", "serve": "npm run start"}, "npm run start", None, None),
    ],
)  # fmt: skip
def test_what_stands_before_a_program_runs_once_where_that_is_known_to_be_right(
    tmp_path: Path, scripts: dict[str, str], script: str, build: str | None, release: str | None
) -> None:
    app = write(tmp_path, {"package.json": {"scripts": scripts, "dependencies": {"prisma": "6"}}, "app.js": ""})
    found = detect(app)
    assert found.programs[0].script == script
    assert (setting(app, "build_command"), setting(app, "release_command")) == (build, release)
    assert any("script prestart of package.json is left out" in note for note in found.notes) == (
        "apidoc" in str(scripts)
    )
    assert any(note.startswith("each worker runs all of") for note in found.notes) == ("&&" in script)


def test_a_procfile_that_prepares_its_app_in_each_worker_does_so_once(tmp_path: Path) -> None:
    app = write(
        tmp_path,
        {
            "requirements.txt": "flask\ngunicorn\n",
            "Procfile": "web: flask db upgrade; flask translate compile; gunicorn blog:app\n",
        },
    )
    assert detect(app).programs[0].script == "gunicorn blog:app"
    assert setting(app, "release_command") == "flask db upgrade"
    assert setting(app, "build_command") == "flask translate compile"


@pytest.mark.parametrize(
    ("start", "flags"),
    [
        ("node --env-file=.env --enable-source-maps app.js", "--enable-source-maps"),
        ("node --enable-source-maps --env-file-if-exists .env app.js", "--enable-source-maps"),
        ("dotenv -e .env -- node app.js", ""),
        ("env-cmd -f .env.prod node app.js", ""),
    ],
)
def test_an_option_that_reads_an_env_file_is_left_out_for_no_such_file_is_deployed(
    tmp_path: Path, start: str, flags: str
) -> None:
    found = detect(write(tmp_path, {"package.json": {"scripts": {"start": start}}, "app.js": ""}))
    assert (found.programs[0].script, found.programs[0].flags) == ("./app.js", flags)
    assert "a deploy gives it what is in .env.ENV" in found.notes[0]


@pytest.mark.parametrize("start", ["NODE_ENV=production A=1 node app.js", "cross-env NODE_ENV=production A=1 node app"])
def test_variables_of_a_start_script_are_in_the_process_file(tmp_path: Path, start: str) -> None:
    if shutil.which("node") is None:
        pytest.skip("the process file is evaluated by Node")
    app = write(tmp_path, {"package.json": {"scripts": {"start": start}}, "app.js": ""})
    init(InitWish("eu", app, app, "web1"), Report(quiet=True))
    (one,) = load_process_file(str(app / "ecosystem.config.js")).apps
    assert one.env.items() >= {"NODE_ENV": "production", "A": "1", "PORT": "5000"}.items()


@pytest.mark.parametrize("runner", ["uv run", "poetry run", "pipenv run"])
def test_a_tool_that_hosts_do_not_have_starts_nothing(tmp_path: Path, runner: str) -> None:
    files = {"requirements.txt": "uvicorn\n", "Procfile": f"web: {runner} uvicorn a:b --port $PORT\n"}
    assert detect(write(tmp_path, files)).programs[0].script == "uvicorn a:b --port $PORT"


def test_a_server_that_another_file_of_requirements_names_is_installed(tmp_path: Path) -> None:
    requirements = {
        "requirements.txt": "-r requirements/prod.txt\n", "requirements/prod.txt": "-r base.txt\ngunicorn\n",
        "requirements/base.txt": "flask\n-r prod.txt\n", "Procfile": "web: gunicorn a:app\n",
    }  # fmt: skip
    assert not detect(write(tmp_path, requirements)).notes


def test_dependencies_of_two_languages_are_not_taken_for_each_other(tmp_path: Path) -> None:
    assert not detect(write(tmp_path, APPS["Flask with a package.json for its pages alone"][0])).notes


def test_a_server_that_is_not_installed_is_told(tmp_path: Path) -> None:
    app = write(tmp_path, {"requirements.txt": "flask\n", "blog/__init__.py": "def create_app():\n"})
    assert detect(app).programs[0].script == "gunicorn 'blog:create_app()' --bind 127.0.0.1:$PORT"
    assert detect(app).notes == ("gunicorn starts the app, and is not among its dependencies: add it there",)


@pytest.mark.parametrize(
    ("file", "line", "name"),
    [
        ("config.py", "URI = env('URL') or 'sqlite:///' + os.path.join(here, 'app.db')", "app.db"),
        ("config.py", 'URI = "sqlite+aiosqlite:///./shop.db"', "shop.db"),
        ("shop/db.ts", "const db = new Database(`./var/shop.sqlite`);", "shop.sqlite"),
        ("db.js", "open({ filename: '/var/lib/shop/shop.db' })", ""),
        ("config.py", "URI = 'sqlite:////var/lib/shop/shop.db'", ""),
    ],
)
def test_an_sqlite_file_beside_the_code_is_told_whatever_the_framework(
    tmp_path: Path, file: str, line: str, name: str
) -> None:
    app = write(tmp_path, {"Procfile": "web: ./serve\n", file: f"{line}\n"})
    told = [
        note for note in detect(app).notes if f": each release would have a {name} of its own: put it into data" in note
    ]
    assert bool(told) == bool(name)


def test_a_guess_is_called_one(tmp_path: Path) -> None:
    (note,) = detect(write(tmp_path, {"requirements.txt": "requests\n"})).notes
    assert note.startswith("nothing here says what starts the app: ")
    assert "./main.py is a guess" in note


def test_apps_below_a_directory_that_is_none_are_named_before_anything_is_written(tmp_path: Path) -> None:
    app = write(
        tmp_path,
        {
            "package.json": {"workspaces": ["frontend"]},
            "frontend/package.json": {"scripts": {"build": "vite build"}},
            "backend/pyproject.toml": '[project]\nname = "api"\ndependencies = ["fastapi", "uvicorn"]\n',
            "backend/app/main.py": "app = FastAPI()\n",
            "services/mail/package.json": {"scripts": {"start": "node mail.js"}},
        },
    )
    before = contents(app)
    with pytest.raises(UsageError, match="nothing here says what starts an app") as caught:
        init(InitWish("eu", app, app, "web1"), Report(quiet=True))
    assert caught.value.next.endswith("backend (or services/mail)")
    assert contents(app) == before
    init(InitWish("eu", app, app / "backend", "web1"), Report(quiet=True))


def test_settings_that_no_deploy_reads_are_told_until_the_environment_has_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    app = write(tmp_path, {"package.json": {"scripts": {"start": "node app.js"}}, ".env.sample": "KEY=\n"})
    init(InitWish("local", app, app), Report())
    assert ".env.sample is not deployed: write what the app needs of it to .env.local" in capsys.readouterr().out
    write(app, {".env.local": "KEY=1\n"})
    init(InitWish("local", app, app), Report())
    assert ".env.sample" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("start", "file"),
    [
        ("pm2 start ecosystem.config.json --no-daemon", "ecosystem.config.json"),
        ("cross-env NODE_ENV=production pm2-runtime ./deploy/prod.json --env production", "deploy/prod.json"),
        ("npx pm2-runtime start pm2.config.cjs", "pm2.config.cjs"),
    ],
)
def test_the_process_file_that_a_script_gives_to_pm2_is_the_apps(tmp_path: Path, start: str, file: str) -> None:
    made = (
        "module.exports = { apps: [] };\n" if file.endswith("js") else {"apps": [{"name": "web", "script": "web.js"}]}
    )
    app = write(tmp_path, {"package.json": {"scripts": {"start": start}}, file: made})
    before = contents(app)
    init(InitWish("eu", app, app, "web1"), Report(quiet=True))
    assert contents(app).items() >= before.items()
    assert not {*contents(app)} & ({"ecosystem.config.js", "ecosystem.config.cjs"} - {file})
    assert setting(app, "process_file") == ("deploy/prod.json" if file == "deploy/prod.json" else None)


@pytest.mark.parametrize(
    ("start", "script"),
    [
        ("pm2 start src/main.js -i max --no-daemon", "./src/main.js"),
        ("NODE_ENV=production pm2-runtime src/main.js", "./src/main.js"),
        ("pm2 start npm --name web -- run serve", "npm run serve"),
        ("npm run build:pm2", "npm run build:pm2"),
    ],
)
def test_a_script_that_starts_pm2_leads_to_what_pm2_runs(tmp_path: Path, start: str, script: str) -> None:
    found = detect(write(tmp_path, {"package.json": {"scripts": {"start": start}}, "src/main.js": "listen(3000)\n"}))
    assert [program.script for program in found.programs] == [script]


@pytest.mark.parametrize(
    ("start", "package"), [("nx serve", "nx"), ("nest start", "@nestjs/cli"), ("ts-node src/main.ts", "ts-node")]
)
def test_a_start_script_of_what_hosts_do_not_get_is_told(tmp_path: Path, start: str, package: str) -> None:
    files = {"scripts": {"start": start}, "devDependencies": {package: "1"}}
    app = write(tmp_path, {"package.json": files})
    (note,) = detect(app).notes
    assert note.startswith(f"'{start}': hosts get nothing of devDependencies, such as {package}: ")
    write(app, {"package.json": {**files, "dependencies": {package: "1"}}})
    assert not detect(app).notes
    write(app, {"package.json": files, "ecosystem.config.js": ""})
    assert not detect(app).notes


def test_the_release_phase_of_a_procfile_is_the_release_command(tmp_path: Path) -> None:
    app = write(tmp_path, APPS["a Procfile"][0])
    init(InitWish("production", app, app), Report(quiet=True))
    assert (
        "release_command: node migrate.js # found in Procfile\n"
        in (app / "inventories/production/group_vars/all.yml").read_text()
    )


@pytest.mark.parametrize(
    ("release", "command"),
    [
        ("npm run migrate", "knex migrate:latest"),
        ("A=1 node migrate.js", "A=1 node migrate.js"),
        ("npm run migrate && node seed.js", "npm run migrate && node seed.js"),
    ],
)
def test_a_release_phase_is_read_to_its_program_where_nothing_is_lost(
    tmp_path: Path, release: str, command: str
) -> None:
    scripts = {"scripts": {"migrate": "knex migrate:latest"}, "dependencies": {"knex": "3"}}
    app = write(tmp_path, {"package.json": scripts, "Procfile": f"web: node web.js\nrelease: {release}\n"})
    assert setting(app, "release_command") == command


def proposed(directory: Path, files: Files) -> dict[str, Any]:
    return {one.name: one.value for one in detect(write(directory, files)).settings}


DJANGO: Files = {
    "manage.py": "", "requirements.txt": "Django\n", "site1/wsgi.py": "",
    "site1/settings.py": (
        "ALLOWED_HOSTS = ['shop.example.com', 'www.example.com']\n"
        "DATABASES = {'default': {\n  'NAME': BASE_DIR / 'db.sqlite3',\n}}\n"
        "STATIC_URL = 'assets/'\nSTATIC_ROOT = BASE_DIR / 'staticfiles'\n"
    ),
}  # fmt: skip


def test_a_django_app_is_migrated_and_its_static_files_are_collected_and_served_by_nginx(tmp_path: Path) -> None:
    assert proposed(tmp_path, DJANGO) == {
        "build_command": "python3 manage.py collectstatic --noinput",
        "nginx_static": {"/assets": "staticfiles"},
        "health_host": "shop.example.com",
        "release_command": "python3 manage.py migrate --noinput",
    }


@pytest.mark.parametrize("line", ["STATIC_ROOT = '/var/www/static'", 'STATIC_ROOT = os.environ["STATIC_ROOT"]', ""])
def test_static_files_that_are_outside_of_the_app_are_nothing_that_nginx_serves_from_a_release(
    tmp_path: Path, line: str
) -> None:
    files = {**DJANGO, "site1/settings.py": f"STATIC_URL = '/static/'\n{line}\n"}
    assert "nginx_static" not in proposed(tmp_path, files)


def test_what_would_be_lost_with_a_release_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    app = write(tmp_path, {**DJANGO, "site1/settings.py": "N = {'NAME': os.path.join(BASE_DIR, 'db.sqlite3')}\n"})
    init(InitWish("production", app, app), Report())
    told = capsys.readouterr().err
    assert "site1/settings.py:1: each release would have a db.sqlite3 of its own" in told
    assert "site1/settings.py has no STATIC_ROOT" in told
    assert "# site1/settings.py:1: each" in (app / "inventories/production/group_vars/all.yml").read_text()


@pytest.mark.parametrize(
    ("files", "command"),
    [
        ({"requirements.txt": "alembic\n", "alembic.ini": ""}, "alembic upgrade head"),
        (
            {"package.json": {"scripts": {"migrate": "node dist/migrate.js"}}},
            "node dist/migrate.js",
        ),
        (
            {"package.json": {"scripts": {"migrate:deploy": "prisma migrate deploy"}, "dependencies": {"prisma": "6"}}},
            "prisma migrate deploy",
        ),
        ({"package.json": {"scripts": {"migrate:deploy": "x up"}, "devDependencies": {"x": "1"}}}, None),
        ({"package.json": {"scripts": {"migrate": "prisma migrate dev"}, "dependencies": {"prisma": "6"}}}, None),
        ({"package.json": {"scripts": {"migrate": "ts-node m.ts"}, "dependencies": {"ts-node": "1"}}}, None),
        ({**DJANGO, "Procfile": "release: ./release.sh\n"}, "./release.sh"),
    ],
)
def test_migrations_that_hosts_can_run_are_the_release_command(
    tmp_path: Path, files: Files, command: str | None
) -> None:
    assert proposed(tmp_path, files).get("release_command") == command


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({**DJANGO, "Procfile": "release: ./release.sh\n"}, "found in Procfile"),
        (
            {
                "package.json": {
                    "scripts": {"start": "prisma migrate deploy && node web.js"},
                    "dependencies": {"prisma": "6"},
                }
            },
            "found in package.json",
        ),
    ],
)
def test_it_says_where_the_release_command_was_found(tmp_path: Path, files: Files, why: str) -> None:
    [found] = [one for one in detect(write(tmp_path, files)).settings if one.name == "release_command"]
    assert found.note == why


def test_a_worker_gets_time_to_end_its_job_and_a_schedule_is_on_one_host(tmp_path: Path) -> None:
    app = write(tmp_path, APPS["FastAPI with Celery and a schedule"][0])
    init(InitWish("production", app, app), Report(quiet=True))
    _, worker, beat = load_process_file(str(app / "ecosystem.yml")).apps
    assert (worker.kill_timeout, beat.kill_timeout) == (60.0, 1.6)
    found = proposed(app, {})
    assert (found["placement"], found["shared"]) == ({f"{worker.name.removesuffix('-worker')}-beat": "one"}, ["data"])


def test_the_example_of_the_env_file_has_the_variables_of_every_app(tmp_path: Path) -> None:
    init(InitWish("production", tmp_path, tmp_path), Report(quiet=True))
    lines = (tmp_path / ".env.production.example").read_text().splitlines()
    names = [line.split("=")[0] for line in lines if not line.startswith("#")]
    assert names == ["NODE_ENV", "DATABASE_URL", "REDIS_URL", "ALLOWED_ORIGINS", "LOG_LEVEL", "PORT"]


def test_the_tasks_file_has_three_lines(tmp_path: Path) -> None:
    init(InitWish("local", tmp_path, tmp_path), Report(quiet=True))
    assert len((tmp_path / "tasks.py").read_text().splitlines()) == 3


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_nothing_that_is_there_is_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    app = write(
        tmp_path,
        {**EXPRESS, "ecosystem.json": {"apps": []}, "inventories/production/hosts.yml": "all: {hosts: {web9: }}\n"},
    )
    (app / "tasks.py").symlink_to("nowhere.py")
    before = contents(app)
    init(InitWish("production", app, app), Report())
    after = contents(app)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {".env.production.example", "inventories/production/group_vars/all.yml"}
    init(InitWish("production", app, app), Report())
    assert contents(app) == after
    assert "kept   " in capsys.readouterr().out


def test_an_inventory_of_that_name_in_another_form_is_left_alone(tmp_path: Path) -> None:
    write(tmp_path, {"inventories/production.ini": "web1\n"})
    init(InitWish("production", tmp_path, tmp_path), Report(quiet=True))
    assert [path.name for path in (tmp_path / "inventories").iterdir()] == ["production.ini"]


@pytest.mark.parametrize("other", [{"tasks.py": "app = Celery()\n"}, {"tasks/__init__.py": ""}])
def test_tasks_that_are_something_else_stay_and_the_command_says_so(
    tmp_path: Path, other: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, other)
    init(InitWish("local", tmp_path, tmp_path), Report())
    assert "make_namespace" in (tmp_path / "percore_tasks.py").read_text()
    assert "next: invoke -c percore_tasks deploy --env local" in capsys.readouterr().out


def test_without_hosts_the_next_step_is_to_name_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    init(InitWish("production", tmp_path, tmp_path), Report())
    assert (
        "next: name the hosts in inventories/production/hosts.yml, then: invoke deploy --env production"
        in capsys.readouterr().out
    )


def test_in_percores_own_repository_init_asks_which_app_is_meant() -> None:
    top = shipped_directory()
    with pytest.raises(UsageError, match=r"percore's own repository -> invoke init --env production --app \.\./shop"):
        init(InitWish("production", top, top), Report(quiet=True))


@pytest.mark.parametrize("words", ["a@h1, b@h2", "web[1:", "-oProxyCommand=x", "u;x@h", "h$(x)"])
def test_hosts_that_no_inventory_can_name_are_refused_before_anything_is_written(tmp_path: Path, words: str) -> None:
    with pytest.raises(UsageError):
        init(InitWish("production", tmp_path, tmp_path, words), Report(quiet=True))
    assert not contents(tmp_path)


def test_hosts_are_given_as_ssh_takes_them() -> None:
    assert read_hosts("root@10.0.0.1 10.0.0.2:2222") == ("root", ["10.0.0.1", "10.0.0.2:2222"])
    assert read_hosts("") == ("", [])
