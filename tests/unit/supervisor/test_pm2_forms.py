"""Programs and process files as PM2's users have them: what runs a script, and every form of a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from percore.errors import UsageError
from percore.supervisor.base.first_line import read_first_line, starts_node
from percore.supervisor.config.app import AppConfig
from percore.supervisor.config.process_file import load_process_file

NODE = "#!/usr/bin/env node\n"


def load(folder: Path, name: str, text: str, **how: Any) -> tuple[list[AppConfig], tuple[str, ...]]:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    loaded = load_process_file(str(folder / name), **how)
    return list(loaded.apps), loaded.warnings


def one(folder: Path, **keys: Any) -> AppConfig:
    [app], _ = load(folder, "one.json", json.dumps({"apps": [keys]}))
    return app


# -- what runs a script ------------------------------------------------------------------------------------------------

PNPM_SHIM = """#!/bin/sh
basedir=$(dirname "$0")
if [ -x "$basedir/node" ]; then
  exec "$basedir/node"  "$basedir/../next/dist/bin/next" "$@"
else
  exec node  "$basedir/../next/dist/bin/next" "$@"
fi
"""


@pytest.mark.parametrize("mode", [0o755, 0o644])
@pytest.mark.parametrize(
    ("name", "text", "interpreter", "arguments", "exec_mode"),
    [
        ("bin/www", NODE, "node", (), "cluster"),
        ("next", "#!/usr/bin/env -S node --import tsx\n", "node", ("--import", "tsx"), "cluster"),
        ("tool", "#!/opt/node-22/bin/node --no-warnings\n", "/opt/node-22/bin/node", ("--no-warnings",), "cluster"),
        ("serve.ts", "#!/usr/bin/env tsx\n", "tsx", (), "fork"),
        ("app.js", NODE, "node", (), "cluster"),
        ("app.js", "#!/usr/bin/env bun\n", "bun", (), "cluster"),
        ("shim", PNPM_SHIM, "/bin/sh", (), "cluster"),
        ("runner", "#!/bin/bash\necho hello\n", "/bin/bash", (), "fork"),
        ("run.sh", "#!/bin/sh\n", "bash", (), "fork"),
        ("app.py", "#!/usr/bin/python\n", "python3", (), "fork"),
        ("app.py", "#!/srv/app/.venv/bin/python\n", "/srv/app/.venv/bin/python", (), "fork"),
        ("gunicorn", "#!/srv/app/.venv/bin/python3.12\n", "/srv/app/.venv/bin/python3.12", (), "fork"),
    ],
)
def test_the_first_line_decides_what_runs_a_script(
    tmp_path: Path, name: str, text: str, interpreter: str, arguments: tuple[str, ...], exec_mode: str, mode: int
) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
    (tmp_path / name).chmod(mode)
    app = one(tmp_path, script=name, instances=2)
    assert (app.interpreter, app.interpreter_args, app.mode) == (interpreter, arguments, exec_mode)


def test_a_wrapper_of_node_as_interpreter_makes_a_cluster(tmp_path: Path) -> None:
    (tmp_path / "mytsx").write_text('#!/bin/sh\nexec node "$@"\n')
    assert one(tmp_path, script="app.ts", interpreter="./mytsx", instances=2).mode == "cluster"
    assert one(tmp_path, script="node app.js --port 3000", instances=2).mode == "cluster"
    assert one(tmp_path, script="npm", args="start", instances=2).mode == "cluster"
    assert one(tmp_path, script="python3 app.py", instances=2).mode == "fork"


def test_node_args_of_a_script_that_its_first_line_gives_to_node_stay(tmp_path: Path) -> None:
    (tmp_path / "www").write_text("#!/usr/bin/env -S node --no-warnings\n")
    assert one(tmp_path, script="www", node_args="--inspect").interpreter_args == ("--no-warnings", "--inspect")
    [_], warnings = load(tmp_path, "two.json", json.dumps({"apps": [{"script": "npm", "node_args": "--inspect"}]}))
    assert "'node_args' of app 0 has no effect, as no interpreter runs 'npm'" in warnings[0]


@pytest.mark.parametrize(
    ("text", "is_node"),
    [
        (NODE, True),
        ("#!/usr/bin/env -S FOO=1 node\n", True),
        ("#!/bin/sh\nexec node x.js\n", True),
        ("#!/bin/bash\ncd app && NODE_ENV=production npm start\n", True),
        ('#!/bin/sh\nexec "$basedir/node" x\n', True),
        ("#!/bin/sh\n# node is nice\necho node\nnodemon_like=1\n", False),
        ("#!/usr/bin/python3\nimport node\n", False),
        ("cd x; yarn start", True),
        ("gunicorn node:app", False),
    ],
)
def test_a_script_or_command_line_that_starts_node_is_known(text: str, is_node: bool) -> None:
    assert starts_node(text.encode()) is is_node


def test_a_file_without_a_first_line_has_none() -> None:
    assert read_first_line(b"console.log(1)") is None
    assert read_first_line(b"#!\n") is None
    assert read_first_line(b"#!/usr/bin/env\n") == ("/usr/bin/env", ())


def test_source_maps_are_used_where_the_compiler_left_one(tmp_path: Path) -> None:
    assert one(tmp_path, script="app.js").interpreter_args == ()
    (tmp_path / "app.js.map").touch()
    assert one(tmp_path, script="app.js").interpreter_args == ("--enable-source-maps",)
    assert one(tmp_path, script="app.js", source_map_support=False).interpreter_args == ()
    assert one(tmp_path, script="app.js", disable_source_map_support=True).interpreter_args == ()


# -- forms of process files --------------------------------------------------------------------------------------------

APPS = "{ apps: [{ name: 'a', script: 'a.js' }] }"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.config.js", f"exports.__esModule = true; exports.default = {APPS};"),
        ("x.config.js", f"module.exports = () => ({APPS});"),
        ("x.config.js", f"module.exports = async () => ({APPS});"),
        ("x.config.js", f"module.exports = Promise.resolve({APPS});"),
        ("x.config.cjs", f"module.exports = {APPS}; module.exports.default = module.exports;"),
        ("x.config.mjs", f"export default async () => ({APPS});"),
        ("x.config.mjs", "export const apps = [{ name: 'a', script: 'a.js' }];"),
        ("x.json5", APPS),
        ("x.jsonc", '// which app\n{"apps": [{"name": "a", "script": "a.js"}]}'),
        ("package.json", '{"name": "p", "version": "1.0.0", "pm2": {"apps": [{"name": "a", "script": "a.js"}]}}'),
        ("package.json", '{"name": "p", "apps": [{"name": "a", "script": "a.js"}]}'),
        ("processes.js", f"module.exports = {APPS};"),
    ],
)
def test_every_form_of_a_file_gives_its_app_without_a_word(tmp_path: Path, name: str, text: str) -> None:
    [app], warnings = load(tmp_path, name, text)
    assert (app.name, app.script, warnings) == ("a", "a.js", ())


def test_a_package_without_apps_is_told_how_it_is_started(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no key 'pm2' with apps") as caught:
        load(tmp_path, "package.json", '{"name": "p", "scripts": {"start": "node ."}}')
    assert caught.value.next == "percore start npm -- start"


def test_typescript_is_compiled_by_what_the_project_has(tmp_path: Path) -> None:
    text = f"const port: number = 3000; export default {APPS};"
    stub = (
        "if (process.features.typescript) throw new Error('not needed');"
        "exports.transformSync = (s) => ({ code: s.replace(': number', '').replace('export default', 'exports.default =') });"
    )
    (tmp_path / "node_modules" / "esbuild").mkdir(parents=True)
    (tmp_path / "node_modules" / "esbuild" / "index.js").write_text(stub)
    [app], _ = load(tmp_path, "x.config.ts", text)
    assert app.name == "a"


def test_a_file_reads_the_words_of_the_command(tmp_path: Path) -> None:
    text = (
        "const name = process.argv[process.argv.indexOf('--env') + 1];"
        "module.exports = { apps: [{ script: 'a.js', name: 'x-' + name }] };"
    )
    [app], _ = load(tmp_path, "x.config.js", text, env_name="staging")
    assert app.name == "x-staging"
    [app], _ = load(tmp_path, "x.config.js", text, argv=["start", "x.config.js", "--env", "production"])
    assert app.name == "x-production"


def test_foreign_node_options_of_the_caller_count_from_where_he_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hello.js").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NODE_OPTIONS", "--require ./hello.js")
    [app], _ = load(tmp_path, "conf/x.config.js", f"module.exports = {APPS};")
    assert app.name == "a"


# -- where paths count from ---------------------------------------------------------------------------------------------


def test_a_script_that_only_the_caller_has_is_taken_from_there_and_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "server.js").touch()
    [app], [warning] = load(tmp_path, "conf/x.json", '{"apps": [{"script": "server.js"}]}', caller=str(tmp_path))
    assert app.cwd == str(tmp_path)
    assert f"is taken from {tmp_path}, not from {tmp_path}/conf" in warning
    (tmp_path / "conf" / "server.js").touch()
    [app], [warning] = load(tmp_path, "conf/x.json", '{"apps": [{"script": "server.js"}]}', caller=str(tmp_path))
    assert app.cwd == str(tmp_path / "conf")
    assert f"is taken from {tmp_path}/conf, not from {tmp_path}" in warning


def test_a_script_beside_its_file_needs_no_word(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "server.js").touch()
    [app], warnings = load(tmp_path, "conf/x.json", '{"apps": [{"script": "server.js"}]}', caller=str(tmp_path))
    assert (app.cwd, warnings) == (str(tmp_path / "conf"), ())


def test_a_projects_file_is_evaluated_where_it_is_called(tmp_path: Path) -> None:
    text = "module.exports = { apps: [{ script: 'a.js', cwd: process.cwd() }] };"
    [app], _ = load(tmp_path, "conf/x.config.js", text, caller=str(tmp_path))
    assert app.cwd == str(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    [app], _ = load(tmp_path, "conf/x.config.js", text, caller=str(tmp_path / "elsewhere"))
    assert app.cwd == str(tmp_path / "conf")


def test_a_link_that_the_caller_went_through_stays_in_the_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "r1").mkdir()
    (tmp_path / "current").symlink_to("r1")
    (tmp_path / "r1" / "x.json").write_text('{"apps": [{"script": "a.js"}]}')
    monkeypatch.chdir(tmp_path / "current")
    monkeypatch.setenv("PWD", str(tmp_path / "current"))
    assert load_process_file("x.json").apps[0].cwd == str(tmp_path / "current")
    monkeypatch.setenv("PWD", "/nowhere")
    assert load_process_file("x.json").apps[0].cwd == str(tmp_path / "r1")


# -- values -------------------------------------------------------------------------------------------------------------


def test_variables_of_pm2s_deploy_section_are_below_the_apps_own(tmp_path: Path) -> None:
    file = {
        "apps": [{"script": "a.js", "env": {"B": 2}, "env_production": {"C": 3}}],
        "deploy": {"production": {"env": {"A": 1, "B": 0, "C": 0}}},
    }
    [app], _ = load(tmp_path, "x.json", json.dumps(file), env_name="production")
    assert app.env == {"A": "1", "B": "2", "C": "3"}
    assert one(tmp_path, script="a.js").env == {}


def test_nested_variables_are_written_as_node_writes_json(tmp_path: Path) -> None:
    app = one(tmp_path, script="a.js", env={"V": {"a": [1, True, None], "é": "ü"}})
    assert app.env["V"] == '{"a":[1,true,null],"é":"ü"}'


def test_paths_in_one_text_of_watch_are_several_unless_they_are_one(tmp_path: Path) -> None:
    for name in ("src", "config", "my files"):
        (tmp_path / name).mkdir()
    app = one(tmp_path, script="a.js", watch="src config", ignore_watch="node_modules logs /a b/")
    assert (app.watch, app.ignore_watch) == (("src", "config"), ("node_modules", "logs", "/a", "b/"))
    assert one(tmp_path, script="a.js", watch="my files").watch == ("my files",)
    assert one(tmp_path, script="a.js", ignore_watch="/a b/").ignore_watch == ("/a b/",)
    [_], [warning] = load(tmp_path, "x.json", '{"apps": [{"script": "a.js", "watch": ["src", "lib", "*.md"]}]}')
    assert f"'watch' of app 0 names 'lib', which is not in {tmp_path}" in warning


def test_a_name_that_no_file_can_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at most 200 bytes"):
        one(tmp_path, script="a.js", name="é" * 101)
    assert one(tmp_path, script="a.js", name="/etc/x").name == "/etc/x"
