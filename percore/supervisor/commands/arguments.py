"""The arguments of one command. argparse is imported only when there is something to parse."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from percore.errors import UsageError, nearest
from percore.supervisor.commands.registry import find

_MARK = "\0"  # no argument of a program can hold it


class Name(str):
    """A word after `--`: never an option or a file, whatever it looks like."""


class Parser(argparse.ArgumentParser):
    """Options may stand anywhere, and a value may begin with a dash, as PM2's users write them.

    What follows `--` is one more argument, or, where the command passes it on (`hands_on`), in `rest`.
    """

    hands_on = False

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, where=self.command, next=f"{self.prog} --help")

    @property
    def command(self) -> str:
        return self.prog.partition(" ")[2]

    def parse_args(self, arguments: Sequence[str]) -> Any:  # type: ignore[override]
        """The options, and in `rest` what follows `--`. Raises UsageError."""
        own = list(arguments)
        behind: list[str] = []
        if "--" in own:
            place = own.index("--")
            own, behind = own[:place], own[place + 1 :]
        marked = [] if self.hands_on else [_MARK + word for word in behind]
        found, left = self.parse_known_intermixed_args(self._glued(own) + marked)
        for name, value in vars(found).items():
            setattr(found, name, _unmarked(value))
        for word in left:
            if not word.startswith("-"):
                self.error(f"'{word.lstrip(_MARK)}' is an unexpected argument")
            like = nearest(word.partition("=")[0], list(self._option_string_actions))
            hint = f"did you mean {like}?" if like else f"{self.prog} --help"
            raise UsageError(f"there is no option '{word}'", where=self.command, next=hint)
        found.rest = tuple(behind)
        return found

    def _glued(self, arguments: list[str]) -> list[str]:
        """`--node-args --inspect` as `--node-args=--inspect`: argparse would take the value for another option."""
        glued: list[str] = []
        words = iter(arguments)
        for word in words:
            action = self._option_string_actions.get(word)
            takes_value = action is not None and (action.nargs is None or action.nargs == 1)
            value = next(words, None) if takes_value else None
            if value is None:
                glued.append(word)
            elif value.startswith("-") and value != "-":
                glued.append(f"{word}={value}" if word.startswith("--") else f"{word}{value}")
            else:
                glued += [word, value]
        return glued


def _unmarked(value: Any) -> Any:
    if isinstance(value, list):
        return [_unmarked(item) for item in value]
    return Name(value[1:]) if isinstance(value, str) and value.startswith(_MARK) else value


def make_parser(name: str, *, usage: str = "", hands_on: bool = False) -> Parser:
    """`hands_on`: what follows `--` are arguments of an app."""
    command = find(name)
    assert command, f"'{name}' is no command"
    parser = Parser(prog=f"percore {name}", description=command.summary, allow_abbrev=False, usage=usage or None)
    parser.hands_on = hands_on
    return parser
