"""What a process file says, as plain values: YAML as PM2 reads it, JSON, and JavaScript evaluated by Node."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence

from percore.common.bounds import CONSTRUCTION_FAULTS, YamlFault, compose_yaml, read_file
from percore.common.passwords import for_programs
from percore.common.typing import Any, Optional
from percore.errors import UsageError

_NODE_SECONDS = 10


class YamlMapping(dict[str, Any]):
    """A YAML mapping that knows on which line each of its keys stands."""

    lines: dict[str, int]


def read_content(
    path: str, text: Optional[str] = None, *, caller: Optional[str] = None, argv: Sequence[str] = ()
) -> Any:
    """The content of the file, or of `text` in its place; raises UsageError with file, and line where it is known.

    `argv` is what JavaScript finds in process.argv after the program, and `caller` the directory where it was typed.
    """
    name = os.path.basename(path)
    try:
        if text is None:
            text = read_file(path).decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"the process file cannot be read: {error.strerror}", where=path) from None
    except UnicodeDecodeError:
        raise UsageError("the process file is not UTF-8 text", where=path) from None
    try:
        if name.endswith((".yml", ".yaml")):
            return _read_yaml(path, text)
        if ".json" in name:
            return _read_json(path, text)
    except RecursionError:
        raise UsageError("it is nested too deeply", where=path) from None
    if name.endswith((".js", ".cjs", ".mjs", ".ts", ".cts", ".mts")):
        return _ask_node(_import_of(path, caller, argv), path)
    raise UsageError("it is not a process file", where=path, next="name it ecosystem.config.js, .json or .yml")


def line_of(written: Any, key: object, path: str) -> str:
    """`path:line` where the line of a key is known, else `path`."""
    line = getattr(written, "lines", {}).get(key)
    return f"{path}:{line}" if line else path


def shown(value: object) -> str:
    """A written value in an error line."""
    try:
        text = json.dumps(value, default=str)
    except (ValueError, TypeError, RecursionError):
        text = f"a {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."


# -- YAML ------------------------------------------------------------------------------------------------------------


def _read_yaml(path: str, text: str) -> Any:
    import yaml

    try:
        root = compose_yaml(text, _loader())
        return None if root is None else _loader()("").construct_document(root)
    except YamlFault as fault:
        raise UsageError(f"invalid YAML: {fault.what}", where=fault.place(path)) from None
    except yaml.MarkedYAMLError as error:
        where = YamlFault("", error.problem_mark).place(path)
        raise UsageError(f"invalid YAML: {error.problem}", where=where) from None
    except CONSTRUCTION_FAULTS as error:
        # A tag such as !!int before what is no number.
        raise UsageError(f"invalid YAML: {error}", where=path) from None


# PyYAML follows YAML 1.1, where `on` is true and 12:30 is 750. PM2's files are written for YAML 1.2, where both are texts.
_YAML_1_2 = (
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("tag:yaml.org,2002:null", r"~|null|Null|NULL|", ("~", "n", "N", "")),
    ("tag:yaml.org,2002:int", r"[-+]?(?:0b[01]+|0o[0-7]+|0x[0-9a-fA-F]+|[0-9]+)", "-+0123456789"),
    (
        "tag:yaml.org,2002:float",
        r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan",
        "-+.0123456789",
    ),
    ("tag:yaml.org,2002:merge", r"<<", "<"),
)


@functools.lru_cache(maxsize=1)
def _loader() -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - not those of YAML 1.1

        def make_mapping(self, node: Any) -> Iterator[YamlMapping]:
            found = YamlMapping()
            yield found  # an alias inside may mean this very mapping
            found.lines = {}
            for key, _ in node.value:
                if key.value != "<<" and isinstance(key.value, str):
                    if key.value in found.lines:
                        raise yaml.constructor.ConstructorError(
                            None, None, f"key '{key.value}' is given twice", key.start_mark
                        )
                    found.lines[key.value] = key.start_mark.line + 1
            found.update({str(key): value for key, value in self.construct_mapping(node).items()})

        def make_int(self, node: Any) -> int:
            text = self.construct_scalar(node)
            return int(text, 0 if re.match(r"[-+]?0[box]", text) else 10)

    for tag, pattern, first in _YAML_1_2:
        Loader.add_implicit_resolver(tag, re.compile(rf"(?:{pattern})$"), list(first))
    Loader.add_constructor("tag:yaml.org,2002:map", Loader.make_mapping)
    Loader.add_constructor("tag:yaml.org,2002:int", Loader.make_int)
    return Loader


# -- JSON and JavaScript ---------------------------------------------------------------------------------------------


def _read_json(path: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        # PM2's JSON is JavaScript: comments, bare keys, trailing commas.
        return _ask_node(_EVALUATE, path, f"({text}\n)")


_EVALUATE = "const v = require('vm').runInNewContext(require('fs').readFileSync(0, 'utf8'), {}, { timeout: 1000 });"
# TypeScript is read by Node itself, or by a compiler that the project has.
_IMPORT = """
const { createRequire, Module } = require('module');
// An ES module that sets module.exports sets those of `node -e`.
const refuseNothing = (exported, path) => {
  if (Object.keys(exported).length || !/\\bmodule\\.exports\\b/.test(require('fs').readFileSync(path, 'utf8'))) return exported;
  throw new Error('module.exports does nothing in an ES module ("type": "module" in package.json): name the file .cjs');
};
const read = async (path) => {
  if (!/\\.[cm]?ts$/.test(path) || process.features.typescript || process.versions.bun) {
    return refuseNothing(await import(require('url').pathToFileURL(path)), path);
  }
  const its = createRequire(path);
  const have = (name) => { try { return its(name); } catch (e) { if (e.code !== 'MODULE_NOT_FOUND') throw e; } };
  const tsx = have('tsx/cjs/api');
  if (tsx) return tsx.require(path, path);
  const source = require('fs').readFileSync(path, 'utf8');
  const [esbuild, typescript, sucrase] = ['esbuild', 'typescript', 'sucrase'].map(have);
  const compilerOptions = { module: 1, target: 9, esModuleInterop: true };
  const compiled =
    esbuild ? esbuild.transformSync(source, { loader: 'ts', format: 'cjs' }).code :
    typescript ? typescript.transpileModule(source, { compilerOptions }).outputText :
    sucrase ? sucrase.transform(source, { transforms: ['typescript', 'imports'] }).code : undefined;
  if (compiled === undefined) {
    throw new Error('TypeScript needs Node 22.18 or newer, or tsx, esbuild or typescript in node_modules');
  }
  const module = new Module(path);
  module.filename = path;
  module.paths = Module._nodeModulePaths(require('path').dirname(path));
  module._compile(compiled, path);
  return module.exports;
};
const settle = async (value) => {
  value = await value;
  if (typeof value === 'function') return settle(value());
  if (!value || typeof value !== 'object' || !('default' in value)) return value;
  return value.default === value ? { ...value, default: undefined } : settle(value.default);
};
"""
# The exit does not wait for what the file may have left open, such as a timer.
_PLAIN = "const plain = (_, x) => Object.prototype.toString.call(x) === '[object RegExp]' ? String(x) : x;"
_PRINT = f"{_PLAIN} process.stdout.write('\\n\\u0000' + JSON.stringify(v, plain), () => process.exit(0));"


def _import_of(path: str, caller: Optional[str], argv: Sequence[str]) -> str:
    """Run where percore was called if the file lies below, as a project's own file does; otherwise beside the file."""
    beside = os.path.dirname(path)
    is_below = caller is not None and os.path.realpath(path).startswith(f"{os.path.realpath(caller)}{os.sep}")
    place, words = json.dumps(caller if is_below else beside), json.dumps(["percore", *argv])
    return (
        f"process.chdir({place}); process.argv = [process.execPath, ...{words}]; {_IMPORT}"
        f"const v = await settle(read({json.dumps(path)}));"
    )


def _ask_node(body: str, path: str, source: str = "") -> Any:
    program = (
        f"(async () => {{ {body} {_PRINT} }})().catch(e => {{ console.error(e && e.stack || e); process.exit(1); }});"
    )
    try:
        answer = subprocess.run(
            [_find_node(path), "-e", program], input=source, capture_output=True, encoding="utf-8", errors="replace",
            timeout=_NODE_SECONDS, env=for_programs(),
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise UsageError(f"it did not finish within {_NODE_SECONDS} s", where=path) from None
    if answer.returncode != 0:
        raise UsageError(_explain_node(answer.stderr), where=_node_place(answer.stderr, path))
    try:
        # What the file itself prints comes first; it does not matter here.
        return json.loads(answer.stdout.rpartition("\0")[2])
    except ValueError:
        raise UsageError(
            "it does not export an object of apps", where=path, next="see docs/reference/process-file.md"
        ) from None


def _find_node(path: str) -> str:
    if found := shutil.which("node") or shutil.which("nodejs") or shutil.which("bun"):
        return found
    raise UsageError("Node.js is needed to read it, and 'node' is not in PATH", where=path, next="install Node.js")


def _explain_node(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"\w*Error\b", line)]
    return errors[0] if errors else (lines[-1] if lines else "node could not read it")


def _node_place(stderr: str, path: str) -> str:
    """file:line when node's report names a line of this file."""
    match = re.search(re.escape(os.path.basename(path)) + r":(\d+)", stderr) or re.search(
        r"evalmachine\.<anonymous>:(\d+)", stderr
    )
    return f"{path}:{match[1]}" if match else path
