"""Whether the commands of a page can be typed: percore's own are given to the parsers that read them, and nothing is run."""

from __future__ import annotations

import copy
import functools
import re
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from unittest import mock

import tomllib
from invoke.parser import Parser as TaskParser
from invoke.program import Program

import tasks
from percore.errors import PercoreError
from percore.supervisor import cli
from percore.supervisor.commands import arguments
from percore.supervisor.commands.registry import find, instead_of
from percore.tasks import init, make_namespace
from tests.site.blocks import ROOT

# Programs of the system that pages tell a reader to type. Another one is a mistake, or one more for this list.
_SYSTEM = """
. [ apt apt-get brew buildah cat cd chmod cp curl docker echo eval export false git grep head journalctl kill kubectl
ln ls mkdir mv node npm openssl pipx pm2 ps python python3
rm rsync sed set setup.sh sh sha256sum source ssh ssh-keyscan systemctl tee test true umask
"""
_OF_OTHER_TOOLS = "ansible ansible-inventory ansible-playbook ansible-vault cap kamal supervisorctl supervisord uv"
KNOWN = frozenset(f"{_SYSTEM} {_OF_OTHER_TOOLS}".split())

_TOPICS = (["exit-codes"],)
"""Of `percore help`, beside commands."""

_BEFORE_A_COMMAND = ("do", "then", "else", "sudo", "exec", "time", "nohup", "!", "{", "if", "while")
_WITHOUT_A_COMMAND = ("done", "fi", "}", "for")
_ENDS = frozenset({";", "&&", "||", "|", "&", "(", ")", ";;"})


class WrongCommandError(Exception):
    pass


def check_script(text: str) -> None:
    """A block of commands as a shell reads it. Raises WrongCommandError."""
    done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True)
    if done.returncode:
        raise WrongCommandError(done.stderr.strip())
    _check_commands(text)


def _check_commands(text: str) -> None:
    try:
        found = list(commands_of(text))
    except ValueError as error:
        raise WrongCommandError(str(error)) from None
    for words in found:
        check_words(words)


def check_within(command: str) -> None:
    """A command in a sentence may leave out what it is about (`percore apply --check`), or stand for several (`[--yes]`)."""
    plain = re.sub(r"[\[\]]|\.\.\.", "", command)
    numbered = re.sub(r"(?<![\w.-])[A-Z]+(?![\w.-])", "1", plain)
    fault: WrongCommandError | None = None
    for text in (plain, *(numbered + " 1" * more for more in range(3))):
        try:
            return _check_commands(text)
        except WrongCommandError as error:
            fault = fault or error
    words = plain.split()
    is_general = not words[1:] or words[1].startswith("-") or words[1] == "COMMAND"  # of whichever command
    if fault and not is_general and not (words[0] == "percore" and instead_of(words[1])):
        raise fault
    return None


def commands_of(text: str) -> Iterator[list[str]]:
    for line in re.sub(r"\\\n", " ", text).splitlines():
        for inner in re.findall(r"\$\(([^()]*)\)", line):
            yield from commands_of(inner)
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        yield from _simple_commands(list(lexer))


def _simple_commands(tokens: Sequence[str]) -> Iterator[list[str]]:
    words: list[str] = []
    for token in [*tokens, ";"]:
        if token in _ENDS:
            if found := _command_in(words):
                yield found
            words = []
        else:
            words.append(token)


def _command_in(words: list[str]) -> list[str]:
    """Without redirections, variables and words of the shell before it."""
    kept: list[str] = []
    words = list(words)
    while words:
        word = words.pop(0)
        if re.fullmatch(r"[<>&]+", word):
            if kept and kept[-1] in ("1", "2"):
                kept.pop()
            words = words[1:]
        else:
            kept.append(word)
    while kept and (kept[0] in _BEFORE_A_COMMAND or re.match(r"\w+=", kept[0])):
        kept.pop(0)
    return [] if kept[:1] and kept[0] in _WITHOUT_A_COMMAND else kept


def check_words(words: Sequence[str]) -> None:
    program, rest = "./run" if words[0] == "./run" else words[0].rpartition("/")[2], list(words[1:])
    if program == "percore":
        check_percore(rest)
    elif program in ("invoke", "./run"):
        check_tasks(program, rest)
    elif program in ("pip", "pip3", "pipx"):
        check_packages(rest)
    elif program not in KNOWN:
        raise WrongCommandError(f"'{program}' is not known -> KNOWN in tests/site/command_lines.py")


def check_percore(words: list[str]) -> None:
    if words == ["help", "exit-codes"]:
        return
    if words[:1] == ["help"]:
        words = [] if words[1:] in _TOPICS else [*words[1:2], "--help"]
    if not words or words[0] in ("--help", "-h", "--version", "-v"):
        return
    try:
        _parse(words)
    except (PercoreError, SystemExit) as error:
        raise WrongCommandError(str(error)) from None


def _parse(words: list[str]) -> None:
    if words[0] == "init" and "--env" in words:
        with mock.patch.object(init, "begin"):
            init.main(words[1:])
        return
    words, _ = cli.take_silent(words)
    verb = find(words[0])
    if verb is None:
        cli.refuse_unknown(words[0])
    if verb.is_plain:
        arguments.make_parser(words[0]).parse_args(words[1:])
        return
    arguments.parser_of(verb).parse_args(words[1:])


def check_tasks(program: str, words: list[str]) -> None:
    try:
        _task_parser(program).parse_argv(words)
    except Exception as error:
        raise WrongCommandError(str(error)) from None


@functools.cache
def _task_parser(program: str) -> TaskParser:
    """`invoke` is typed in an app's own repository, `./run` in a clone."""
    namespace = make_namespace(str(ROOT / "tasks.py")) if program == "invoke" else tasks.namespace
    contexts = copy.deepcopy(namespace).to_contexts()  # it takes the help out of them
    return TaskParser(initial=Program().initial_context, contexts=contexts)


def check_packages(words: Sequence[str]) -> None:
    """Extras of percore that do not exist are a warning of pip alone."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    known = settings["project"]["optional-dependencies"]
    for word in words:
        found = re.search(r"percore[^\[\]]*\[([^\]]+)\]|^\.\[([^\]]+)\]", word)
        for extra in (found[1] or found[2]).split(",") if found else ():
            if extra not in known:
                raise WrongCommandError(f"percore has no extra '{extra}'")
