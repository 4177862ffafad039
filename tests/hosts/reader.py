"""A stranger who follows a page of the docs: writes its files, makes its changes, types its commands, compares what they print.

A page says which file a block is by a line before it: `server.js`: - and a block of the kind `diff` changes that file. In a block
of the kind `console`, what follows `$ ` is typed; the lines below it are what is printed, with `...` for what differs from time
to time, or nothing where it does not matter. A command ends well, unless the next one is `echo $?`.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(r"(?:^`(?P<name>[^`\n]+)`:\n\n)?^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
_MARK = "--- the command ended with "


@dataclass(frozen=True)
class File:
    name: str
    text: str


@dataclass(frozen=True)
class Change:
    name: str
    old: str
    new: str


@dataclass(frozen=True)
class Command:
    line: str
    printed: str
    may_fail: bool


Step = File | Change | Command


def steps_of(page: str, heading: str) -> list[Step]:
    """Of one part of the page, in their order."""
    parts = re.split(r"^## (.+)\n", page, flags=re.MULTILINE)
    text = dict(zip(parts[1::2], parts[2::2], strict=True))[heading]
    blocks = list(_BLOCK.finditer(text))
    assert text.count("```") == 2 * len(blocks), "a block of the page is not understood"
    return [step for block in blocks for step in _steps_of_block(**block.groupdict())]


def _steps_of_block(name: str | None, kind: str, text: str) -> Iterator[Step]:
    if kind == "console":
        yield from _commands(text)
    elif not name:
        raise AssertionError(f"which file is this block?\n{text}")
    elif kind == "diff":
        yield Change(name, _side(text, "-"), _side(text, "+"))
    else:
        yield File(name, text)


def _side(diff: str, sign: str) -> str:
    return "".join(line[1:] for line in diff.splitlines(keepends=True) if line[0] in (sign, " "))


def _commands(text: str) -> Iterator[Command]:
    _, *typed = re.split(r"^\$ ", text, flags=re.MULTILINE)
    for text_of_one, following in zip(typed, [*typed[1:], ""], strict=True):
        line, _, printed = text_of_one.partition("\n")
        yield Command(line, printed.strip(), following.startswith("echo $?"))


class Reader:
    """With one shell from the first command to the last, as `cd` and `activate` last."""

    def __init__(self, directory: Path, env: Mapping[str, str], instead: Mapping[str, str]) -> None:
        """`instead`: what is typed in the place of some words."""
        self._instead = instead
        self._shell = subprocess.Popen(
            ["bash", "--noprofile", "--norc"], cwd=directory, env=env, text=True, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._shell.kill()
        self._shell.communicate()

    def follow(self, steps: Sequence[Step]) -> None:
        for step in steps:
            self._take(step)

    def _take(self, step: Step) -> None:
        if isinstance(step, Command):
            self._try(step)
        elif isinstance(step, File):
            (self._directory / step.name).write_text(step.text)
        else:
            path = self._directory / step.name
            assert path.read_text().count(step.old) == 1, f"{path.name} has not once:\n{step.old}"
            path.write_text(path.read_text().replace(step.old, step.new))

    @property
    def _directory(self) -> Path:
        return Path(os.readlink(f"/proc/{self._shell.pid}/cwd"))

    def _try(self, command: Command) -> None:
        shown, code = self._type(command.line)
        assert code == 0 or command.may_fail, f"{command.line}: exit code {code}:\n{shown}"
        parts = map(re.escape, command.printed.split("..."))
        if command.printed and not re.fullmatch(".*".join(parts), shown, re.DOTALL):
            raise AssertionError(f"{command.line}: the page says\n{command.printed}\n\nand this is shown:\n{shown}")

    def _type(self, line: str) -> tuple[str, int]:
        for words, others in self._instead.items():
            line = line.replace(words, others)
        assert self._shell.stdin
        assert self._shell.stdout
        # `echo $?` asks for the code of the command, not of what marks its end.
        mark = f"code=$?; printf '\\n{_MARK}%s\\n' $code; (exit $code)"
        self._shell.stdin.write(f"{{ {line}\n}} </dev/null 2>&1; {mark}\n")
        self._shell.stdin.flush()
        shown = ""
        for printed in self._shell.stdout:
            if printed.startswith(_MARK):
                return shown.strip(), int(printed.removeprefix(_MARK))
            shown += printed
        raise AssertionError(f"{line}: the shell ended:\n{shown}")
