"""Whether the files that pages show are what percore, or the tool that they are for, reads: by kind, each with its own reader."""

from __future__ import annotations

import ast
import configparser
import contextlib
import functools
import io
import json
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import crossplane
import yaml

from percore.deploy.masking import REDACTOR
from percore.deploy.plan.roles import ROLE_KEYS, load_roles, parse_role
from percore.deploy.rollout.hosts import load_hosts
from percore.deploy.rollout.scope import Scope
from percore.supervisor.config import env_file
from percore.supervisor.config.process_file import load_process_file
from tests.site.blocks import ROOT, Block
from tests.site.command_lines import check_script

TOOLS = ("Ansible", "Capistrano", "Docker", "Kamal", "Kubernetes", "PM2", "Prometheus", "supervisord")
"""A block of another tool has a title that begins with it: `title="Kamal: config/deploy.yml"`."""
OUTPUT = ("text", "doctor")
"""Kinds of blocks that nobody types."""

_INVENTORY_KEYS = {"hosts", "children", "vars"}
_SEALED = re.compile(r"^( *)(\S.*)!vault \|.*\n(?:\1 +\S.*\n?)+", re.MULTILINE)
_UNDEFINED = re.compile(r"\{\{ *(vault_\w+|\w+_password)\b")
_VALUE = "a-value-of-a-vault-0123456789"
_ADDRESS = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#ops"


class WrongConfigurationError(Exception):
    pass


def check_block(block: Block, directory: Path) -> None:
    """Raises WrongConfigurationError, WrongCommandError, PercoreError, or what the reader of this kind raises."""
    check = _checks().get(block.kind)
    if check is None:
        raise WrongConfigurationError(f"'{block.kind}' is no kind of block -> {', '.join(sorted(_checks()))}")
    check(block, directory)


def _checks() -> dict[str, Callable[[Block, Path], None]]:
    return {
        **dict.fromkeys(OUTPUT, lambda block, directory: None),
        "sh": lambda block, directory: check_script(block.text),
        "console": lambda block, directory: check_script(typed_in(block.text)),
        "yaml": check_yaml,
        "json": check_json,
        "js": check_javascript,
        "python": lambda block, directory: _nothing(ast.parse(block.text)),
        "ini": check_ini,
        "nginx": check_nginx,
        "diff": check_diff,
        "dockerfile": check_dockerfile,
        "env": lambda block, directory: _nothing(env_file.parse(block.text, block.place, strict=True)),
        "ruby": check_foreign,
    }


def _nothing(value: object) -> None:
    """It was read."""


def typed_in(text: str) -> str:
    lines = [line for line in text.splitlines() if line.startswith("$ ")]
    if not lines:
        raise WrongConfigurationError("a block of the kind console has no line that begins with `$ `")
    return "".join(f"{line[2:]}\n" for line in lines)


def tool_of(block: Block) -> str:
    return next((tool for tool in TOOLS if block.title.startswith(f"{tool}: ")), "")


def check_foreign(block: Block, directory: Path) -> None:
    if not tool_of(block):
        raise WrongConfigurationError(f"a block of the kind {block.kind} needs a title that names its tool")


class _Loader(yaml.SafeLoader):
    """Tags such as !vault stand for a text."""


_Loader.add_multi_constructor("!", lambda loader, tag, node: _VALUE)


def check_yaml(block: Block, directory: Path) -> None:
    content = yaml.load(block.text, _Loader)
    if tool_of(block):
        return
    if not isinstance(content, dict):
        raise WrongConfigurationError("it is no mapping")
    if {"apps", "jobs", "static"} & {*content}:
        check_process_file(block, directory)
    elif {*content} <= {*ROLE_KEYS} and {"description", "scope", "defaults", "files", "requires"} & {*content}:
        _nothing(parse_role("shown", content, directory=directory))
    elif _is_inventory(content):
        check_inventory(block.text, directory, roles=_roles_on_the_page(block))
    else:
        check_inventory(_with_hosts(block.text), directory)


def _roles_on_the_page(block: Block) -> list[str]:
    """Those of one's own, which the page shows in another block."""
    page = ROOT / block.place.partition(":")[0]
    named = re.findall(r"title=\"roles/([\w-]+)/role\.yml", page.read_text())
    return [name for name in named if not (ROOT / "roles" / name).exists()]


def _is_inventory(content: Mapping[str, Any]) -> bool:
    return all(isinstance(group, dict) and {*group} <= _INVENTORY_KEYS for group in content.values())


def _with_hosts(text: str) -> str:
    """Variables of a project as the inventory of one host."""
    lines = ["all:", "  children: {app: {hosts: {shown.example.com: }}}", "  vars:"]
    return "\n".join([*lines, *(f"    {line}" for line in text.splitlines()), ""])


def check_inventory(text: str, directory: Path, name: str = "production.yml", roles: Iterable[str] = ()) -> None:
    """As a run reads it, without a warning, and with variables alone that something reads."""
    text = _SEALED.sub(rf"\1\2{_VALUE}\n", text)
    if "hosts:" not in text and name.endswith(".yml"):
        text = text.replace("all:\n", "all:\n  hosts: {shown.example.com: }\n", 1)
    left_out = {"app_name": "shop", "app_path": ".", "server_name": "shop.example.com"}
    left_out |= {name: _ADDRESS if "slack" in name else _VALUE for name in _UNDEFINED.findall(text)}
    inventories = directory / "project" / "inventories"
    (inventories / "group_vars").mkdir(parents=True)
    (inventories / name).write_text(text)
    for role in roles:
        (inventories.parent / "roles" / role).mkdir(parents=True)
        (inventories.parent / "roles" / role / "role.yml").touch()
    more = {key: value for key, value in left_out.items() if not re.search(rf"\b{key} ?[:=]", text)}
    (inventories / "group_vars" / "all.yml").write_text(yaml.safe_dump(more))
    secrets = re.search(r"^ *secrets: \[(.*)\]", text, re.MULTILINE)
    env = "".join(f"{each.strip()}={_VALUE}\n" for each in secrets[1].split(",")) if secrets else ""
    (inventories.parent / ".env.production").write_text(env)
    said = io.StringIO()
    with _secrets_forgotten(), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        hosts = load_hosts(Scope("production", inventories.parent, limit=_SOME), also_without_app=True)
    if said.getvalue():
        raise WrongConfigurationError(said.getvalue())
    for host in hosts:
        known = {*shipped_variables(), *host.variables.asked, *more, *_OWN}
        unknown = [each for each in host.plan.variables if not _is_known(each, known, text)]
        if unknown:
            raise WrongConfigurationError(f"nothing reads {', '.join(unknown)}")


@functools.cache
def shipped_variables() -> frozenset[str]:
    """Defaults of all roles."""
    names = [path.parent.name for path in (ROOT / "roles").glob("*/role.yml")]
    return frozenset(name for role in load_roles(names, ROOT / "roles") for name in role.defaults)


def _is_known(name: str, known: set[str], text: str) -> bool:
    return name in known or name.startswith("ansible_") or bool(re.search(rf"\{{\{{[^}}]*\b{name}\b", text))


_SOME = "all[0:3]"
"""Enough hosts of an inventory."""

_OWN_WORDS = """
app_name app_path env_name group_names groups hostvars inventory_dir inventory_file inventory_hostname inventory_hostname_short
playbook_dir project_path role_env roles token
"""
_OWN = frozenset(_OWN_WORDS.split())
"""Set by percore, or by nobody. `token` is an example of a variable of one's own."""


@contextlib.contextmanager
def _secrets_forgotten() -> Iterator[None]:
    """What a page shows as a secret is none of the tests that come after it."""
    kept = dict(vars(REDACTOR))
    try:
        yield
    finally:
        vars(REDACTOR).update(kept)


def check_process_file(block: Block, directory: Path) -> None:
    """As percore reads it, with nothing that it would warn of. Files that it names are there."""
    suffix = {"yaml": ".yml", "json": ".json", "js": ".js"}[block.kind]
    path = directory / f"ecosystem.config{suffix}"
    for named in re.findall(r"\[?\b[\w./-]+\.env\b|(?<=\W)\.env\b", block.text):
        (directory / named.strip("[ ")).touch()
    (directory / "src").mkdir(exist_ok=True)
    path.write_text(block.text)
    warnings = load_process_file(str(path)).warnings
    if warnings:
        raise WrongConfigurationError("; ".join(warnings))


def check_json(block: Block, directory: Path) -> None:
    content = json.loads(block.text)
    if isinstance(content, dict) and "apps" in content:
        check_process_file(block, directory)


def check_javascript(block: Block, directory: Path) -> None:
    if re.search(r"\bapps:", block.text):
        check_process_file(block, directory)
        return
    path = directory / "shown.js"
    path.write_text(block.text)
    done = subprocess.run(["node", "--check", str(path)], capture_output=True, text=True)
    if done.returncode:
        raise WrongConfigurationError(done.stderr)


def check_ini(block: Block, directory: Path) -> None:
    sections = re.findall(r"^\[([^\]]+)\]", block.text, re.MULTILINE)
    if {"Unit", "Service", "Timer"} & {*sections} or tool_of(block):
        reader = configparser.ConfigParser(strict=False, interpolation=None)
        reader.optionxform = str  # type: ignore[assignment,method-assign]
        reader.read_string(block.text)
    else:
        check_inventory(block.text, directory, "production.ini")


def check_nginx(block: Block, directory: Path) -> None:
    path = directory / "site.conf"
    path.write_text(f"http {{\n{block.text}\n}}\nevents {{}}\n" if "server {" in block.text else block.text)
    found = crossplane.parse(str(path))
    if found["errors"]:
        raise WrongConfigurationError(found["errors"][0]["error"])


def check_diff(block: Block, directory: Path) -> None:
    if wrong := [line for line in block.text.splitlines() if line[:1] not in ("+", "-", " ")]:
        raise WrongConfigurationError(f"no line of a diff: {wrong[0]}")


def check_dockerfile(block: Block, directory: Path) -> None:
    for words in re.findall(r"^(?:CMD|ENTRYPOINT) (\[.*\])$", block.text, re.MULTILINE):
        check_script(" ".join(f"'{word}'" for word in json.loads(words)))
