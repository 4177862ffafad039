"""What an installed percore brings below `share/`: a man page and completions, made from the commands."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from percore.supervisor.commands.arguments import all_commands
from tests.share import SHARE, man_page, share_files

FILES = share_files()


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_as_the_commands_are(name: str) -> None:
    assert (SHARE / name).read_text() == FILES[name], "the commands changed -> ./run docs.reference"


def need(*tools: str) -> None:
    for tool in tools:
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not installed")


@pytest.mark.parametrize(
    "judge",
    ["mandoc -Tlint -Wwarning", "man --warnings=w --encoding=UTF-8 --local-file"],
    ids=["mandoc", "groff"],
)
def test_formatters_have_nothing_to_say_about_the_man_page(judge: str) -> None:
    need(judge.split()[0])
    env = {**os.environ, "LC_ALL": "C.UTF-8", "PAGER": "cat", "MANPAGER": "cat"}
    page = SHARE / "man/man1/percore.1"
    done = subprocess.run([*judge.split(), page], capture_output=True, text=True, check=False, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert "mandoc" not in judge or done.stdout == ""


def test_the_man_page_shows_each_command_and_option_as_it_is_typed() -> None:
    need("mandoc")
    done = subprocess.run(
        ["mandoc", "-Tutf8", "-Owidth=200"], input=man_page(all_commands()), capture_output=True, text=True, check=True
    )
    shown = subprocess.run(["col", "-bx"], input=done.stdout, capture_output=True, text=True, check=True).stdout
    text = " ".join(shown.split())
    for command in all_commands():
        assert command.usage.removeprefix("percore ") in text
        spellings = {each for option in command.options for each in option.spellings} - {"-h", "--help"}
        assert not [each for each in spellings if each not in text]


PROGRAM = """\
#!/bin/sh
case $2 in names) printf '%s\\n' all api shop:api 'a$(touch owned)' ;; ids) echo 17 ;; esac
"""


class Shell:
    """A shell with the shipped completion, in a directory with a file, where `percore` is a program that tells names and ids."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "bin").mkdir()
        program = directory / "bin" / "percore"
        program.write_text(PROGRAM)
        program.chmod(0o755)
        (directory / "apps.json").touch()
        (directory / "a directory").mkdir()
        self.env = {"PATH": f"{directory / 'bin'}:{os.environ['PATH']}", "HOME": str(directory), "LC_ALL": "C.UTF-8"}

    def run(self, *words: str) -> str:
        done = subprocess.run(
            words, cwd=self.directory, env=self.env, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.stderr == ""
        return done.stdout


def bash(shell: Shell, line: str) -> list[str]:
    """As readline calls it: words as bash breaks them, at `:` and `=` too."""
    script = f"""
        source {SHARE}/bash-completion/completions/percore
        COMP_LINE=$1 COMP_POINT=${{#1}}
        words=${{1//:/ : }}; read -ra COMP_WORDS <<<"$words"
        case $1 in *' '|*:) COMP_WORDS+=('') ;; esac
        COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        _percore
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    return shell.run("bash", "--norc", "-c", script, "bash", line).splitlines()


def zsh(shell: Shell, line: str) -> list[str]:
    """The completion system itself, in a terminal; it lists what it offers between marks."""
    script = f"""
        zmodload zsh/zpty
        zpty -b z zsh -f -i
        zpty -w z 'PS1=; fpath=({SHARE}/zsh/site-functions $fpath); autoload -Uz compinit; compinit -u -D'
        zpty -w z 'bindkey "^I" complete-word; zstyle ":completion:*" insert-tab false; zle -C all complete-word list_all'
        zpty -w z 'list_all() {{ compadd() {{ local -a found; builtin compadd -O found "$@"; print -rl -- $found >>offered;
            builtin compadd "$@" }}; _main_complete; : >done }}; bindkey "^X" all'
        zpty -w -n z {quoted(line)}$'\\x18'
        for try in {{1..400}}; do [[ -e done ]] && break; sleep 0.05; done
        zpty -d z
    """
    shell.run("zsh", "-f", "-c", script)
    return (shell.directory / "offered").read_text().splitlines()


def fish(shell: Shell, line: str) -> list[str]:
    script = f"source {SHARE}/fish/vendor_completions.d/percore.fish; complete -C {quoted(line)}"
    return [line.split("\t")[0] for line in shell.run("fish", "--no-config", "-c", script).splitlines()]


def quoted(text: str) -> str:
    return f"'{text}'"


SHELLS: dict[str, Callable[[Shell, str], list[str]]] = {"bash": bash, "zsh": zsh, "fish": fish}


@pytest.mark.parametrize("name", SHELLS)
def test_a_shell_offers_commands_options_their_values_names_ids_and_files(name: str, tmp_path: Path) -> None:
    need(name)
    offered = {}
    lines = ["percore rel", "percore start --max-mem", "percore -s reload ", "percore start --exec-mode ", "percore attach ",
             "percore apply ", "percore set log_max_s", "percore reload shop:", "percore help upd", "percore serve "]  # fmt: skip
    for number, line in enumerate(lines):
        place = tmp_path / str(number)
        place.mkdir()
        offered[line] = SHELLS[name](Shell(place), line)
        assert not (place / "owned").exists(), "the name of an app was run"
    assert {"reload", "reloadLogs"} <= set(offered["percore rel"])
    assert "--max-memory-restart" in offered["percore start --max-mem"]
    assert {"all", "api", "shop:api"} <= set(offered["percore -s reload "])
    assert set(offered["percore start --exec-mode "]) == {"fork", "cluster"}
    assert offered["percore attach "] == ["17"]
    assert "apps.json" in offered["percore apply "]
    assert offered["percore set log_max_s"] == ["log_max_size"]
    assert {"api", "shop:api"} & set(offered["percore reload shop:"])
    assert "update" in offered["percore help upd"]
    assert [entry.rstrip("/") for entry in offered["percore serve "] if "directory" in entry]
    assert not [entry for entry in offered["percore serve "] if "apps.json" in entry]
