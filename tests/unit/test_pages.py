"""Every page of the documentation: its commands can be typed, its files can be read, what it names exists. Nothing is run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.bench.supervisor.rows import rows_named
from tests.site.blocks import ROOT, Block, blocks_of, commands_within, name_of, pages, sentences_of
from tests.site.command_lines import WrongCommandError, check_script, check_within
from tests.site.configurations import WrongConfigurationError, check_block

PAGES = {name_of(page): page for page in pages()}


@pytest.mark.parametrize("name", PAGES)
def test_every_block_of_a_page_is_a_command_that_can_be_typed_or_a_file_that_can_be_read(
    name: str, tmp_path: Path
) -> None:
    wrong = []
    for number, block in enumerate(blocks_of(PAGES[name])):
        directory = tmp_path / str(number)
        directory.mkdir()
        try:
            check_block(block, directory)
        except Exception as error:  # each reader has its own
            wrong.append(f"{block.place}: {type(error).__name__}: {error}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", PAGES)
def test_every_command_within_a_sentence_or_table_can_be_typed(name: str) -> None:
    wrong = []
    for place, command in commands_within(PAGES[name]):
        try:
            check_within(command)
        except WrongCommandError as error:
            wrong.append(f"{place}: {command}: {error}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", PAGES)
def test_every_file_of_the_repository_that_a_page_names_exists(name: str) -> None:
    named = re.compile(r"`((?:percore|tests|docs|examples)/[\w./*-]+)`")
    wrong = [
        f"{place}: {path}"
        for place, line in sentences_of(PAGES[name])
        for path in named.findall(line)
        if not list(ROOT.glob(path.rstrip("/"))) and not list(ROOT.glob(f"{path}.py"))
    ]
    assert not wrong, "\n".join(wrong)


def test_the_tree_of_the_architecture_names_what_is_there() -> None:
    tree = next(blocks_of(ROOT / "docs/architecture.md")).text
    above: list[str] = []
    for line in tree.splitlines():
        names = re.split(r" {2,}", line.strip())[0]
        depth = (len(line) - len(line.lstrip())) // 2
        if depth > 4:
            continue  # a sentence goes on
        above = above[:depth]
        for each in names.split(", "):
            path = ROOT.joinpath(*above, each)
            assert path.exists() or path.with_suffix(".py").exists(), path
        above.append(names.split(", ")[0])


WRONG_COMMANDS = (
    "percore strat app.js",
    "percore reload api --graceful",
    "percore scale api 3 --yes-really",
    "invoke deploy --env production --chekc",
    "invoke lab.up",
    "./run lab.up --host 3",
    "cd shop && invoke deplyo",
    'eval "$(percore completoin bash)"',
    "pip install 'percore[deplyo]'",
    "for host in a b; do percore lsit; done",
    "sudo percore startupp",
    "PORT=1 percore start --wait-raedy app.js > log",
    "frobnicate",
    "percore list '",
)


@pytest.mark.parametrize("line", WRONG_COMMANDS)
def test_a_command_that_nobody_could_type_is_found(line: str) -> None:
    with pytest.raises(WrongCommandError):
        check_script(f"{line}\n")


@pytest.mark.parametrize("line", ["percore apply --chekc", "invoke logs [--sicne TIME]", "percore appyl FILE"])
def test_so_is_one_within_a_sentence(line: str) -> None:
    with pytest.raises(WrongCommandError):
        check_within(line)


WRONG_BLOCKS = (
    ("yaml", "apps:\n  - {script: a.js, instanecs: 2}\n", "is not known"),
    ("yaml", "apps:\n  - {script: a.js, instances: many}\n", "instances"),
    ("yaml", "jobs:\n  - {name: a, script: a.js, cron: x}\n", "cron"),
    ("yaml", "description: a role\nfile: []\n", "nothing reads"),
    ("yaml", "app_name: shop\nhelth_path: /health\n", "is not used"),
    ("yaml", "app_name: shop\nfrobnicate: 1\n", "nothing reads"),
    ("yaml", "canary: many\n", "canary"),
    ("yaml", "all:\n  host: {a: }\n", "nothing reads"),
    ("json", '{"apps": [{"script": "a.js", "exec_mod": "cluster"}]}', "is not known"),
    ("json", '{"apps": ', "Expecting value"),
    ("js", "module.exports = {apps: [{script: 'a.js', wath: true}]};", "is not known"),
    ("js", "const a = ;", "SyntaxError"),
    ("python", "def f(:\n", "invalid syntax"),
    ("ini", "[web]\nweb1 port\n", "NAME=VALUE"),
    ("nginx", "server { listen 80 }", "not terminated"),
    ("dockerfile", 'CMD ["percore", "runtme", "a.js"]', "runtme"),
    ("ruby", "set :application, 'shop'\n", "title"),
    ("", "percore list\n", "no kind of block"),
    ("console", "percore list\n", "no line that begins"),
)


@pytest.mark.parametrize(("kind", "text", "told"), WRONG_BLOCKS)
def test_a_file_that_nothing_could_read_is_found(kind: str, text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(Exception, match=re.escape(told)) as found:
        check_block(Block("page.md:1", kind, "", text), tmp_path)
    assert not isinstance(found.value, AssertionError)


def test_a_file_of_another_tool_is_none_of_percores() -> None:
    assert isinstance(WrongConfigurationError("x"), Exception)
    check_block(Block("page.md:1", "yaml", "Kamal: config/deploy.yml", "service: shop\n"), Path("/nowhere"))


def test_the_figures_of_the_readme_are_those_of_the_benchmarks() -> None:
    measured = (ROOT / "docs/benchmarks.md").read_text().splitlines()
    shown = [line for line in (ROOT / "README.md").read_text().splitlines() if "`./run bench." in line]
    assert len(shown) >= 5
    for row in shown:
        what, ours, theirs, _ = (cell.strip() for cell in row.strip("|").split("|"))
        [found] = [line for line in measured if line.startswith("| ") and what == line.split("|")[1].strip()]
        figures = [cell.strip().partition(" (")[0] for cell in found.split("|")]
        assert {each.removesuffix(" MB") for each in (ours, theirs)} <= {*figures}, row
        for named in re.findall(r"bench\.supervisor --only ([\w-]+)", row):
            assert [each.what for each in rows_named(named)] == [what], row
