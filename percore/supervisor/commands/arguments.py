"""The arguments of one command. argparse is imported only when there is something to parse."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple, NoReturn

from percore.errors import UsageError, nearest
from percore.supervisor.commands.help.notes import note_of
from percore.supervisor.commands.registry import GROUPS, Verb, find, place_of

# PM2's options that do not exist here, and what does the same.
_INSTEAD = {
    "percore list --sort FIELD": "--sort",
    "--mini-list": "-m",
    "name the files: --watch 'src/**/*.js'": "--ext",
    "percore web, as a process of its own": "--web",
    "percore ready --wait-for HOST:PORT, before it": "--delay",
    "percore startup -u USER --hp DIRECTORY": "-u --hp --service-name --wait-ip",
    "invoke image, on the control machine": "--container --dist --image-name --dockerdaemon --fresh",
}
_MARK = "\0"  # no argument of a program can hold it
_DESCRIBE = "\0describe"
APP_SECTION = "the app"


class Name(str):
    """A word after `--`: never an option or a file, whatever it looks like."""


class ArgumentHelp(NamedTuple):
    """A word or an option of a command, as `--help` shows it."""

    spellings: tuple[str, ...]  # of an option; none for a word
    value: str  # what is typed for it; empty for a switch
    help: str
    choices: tuple[str, ...]
    section: str  # `the app` for the keys of a process file; otherwise empty


class CommandHelp(NamedTuple):
    """A command of `percore` and what can be typed after it: for completion, man pages and the reference."""

    name: str
    aliases: tuple[str, ...]
    group: str
    summary: str
    more: str  # sentences that follow the summary
    codes: tuple[str, ...]  # exit codes beside 0: `1: what failed`
    usage: str
    words: tuple[ArgumentHelp, ...]
    options: tuple[ArgumentHelp, ...]


class _Described(Exception):
    def __init__(self, parser: Parser) -> None:
        super().__init__()
        self.parser = parser


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

    def usage_line(self) -> str:
        """`percore NAME WORDS [options]`."""
        words = [_word(action) for action in self._actions if not action.option_strings]
        has_options = len(self._option_string_actions) > len(("-h", "--help"))
        return self.usage or " ".join([self.prog, *words, *(["[options]"] if has_options else [])])

    def parse_args(self, arguments: Sequence[str]) -> Any:  # type: ignore[override]
        """The options, and in `rest` what follows `--`. Raises UsageError."""
        own = list(arguments)
        if own == [_DESCRIBE]:
            raise _Described(self)
        self.usage = self.usage_line()
        behind: list[str] = []
        if "--" in own:
            place = own.index("--")
            own, behind = own[:place], own[place + 1 :]
        marked = [] if self.hands_on else [_MARK + word for word in behind]
        glued = self._glued(own)
        self._refuse_unknown(glued)
        found, left = self.parse_known_intermixed_args(glued + marked)
        for name, value in vars(found).items():
            setattr(found, name, _unmarked(value))
        for word in left:
            if not word.startswith("-"):
                self.error(f"'{word.lstrip(_MARK)}' is an unexpected argument")
            self._refuse_option(word)
        found.rest = tuple(behind)
        return found

    def _refuse_unknown(self, words: Sequence[str]) -> None:
        """Before argparse says what else is missing; whoever asks for help gets it."""
        names = [word.partition("=")[0] for word in words if word.startswith("--")]
        unknown = [name for name in names if name not in self._option_string_actions]
        if unknown and not {"-h", "--help"} & set(words):
            self._refuse_option(unknown[0])

    def _refuse_option(self, word: str) -> NoReturn:
        name = word.partition("=")[0]
        like = nearest(name, list(self._option_string_actions))
        instead = next((hint for hint, names in _INSTEAD.items() if name in names.split()), "")
        hint = instead or (f"did you mean {like}?" if like else f"{self.prog} --help")
        raise UsageError(f"there is no option '{word}'", where=self.command, next=hint)

    def takes_value(self, option: str) -> bool:
        """The word behind it belongs to it."""
        action = self._option_string_actions.get(option)
        return action is not None and (action.nargs is None or action.nargs == 1)

    def _glued(self, arguments: list[str]) -> list[str]:
        """`--node-args --inspect` as `--node-args=--inspect`: argparse would take the value for another option."""
        glued: list[str] = []
        words = iter(arguments)
        for word in words:
            value = next(words, None) if self.takes_value(word) else None
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
    note = note_of(command.names.split()[0])
    parser = Parser(
        prog=f"percore {name}",
        description=f"{command.summary}. {note.more}" if note.more else command.summary,
        epilog=f"exit code {note.codes}" if note.codes else None,
        allow_abbrev=False,
        usage=usage or None,
    )
    parser.hands_on = hands_on
    parser._positionals.title, parser._optionals.title = "arguments", "options"
    return parser


def all_commands() -> list[CommandHelp]:
    """Every command, in the order of `percore --help`."""
    return [_describe(group, verb) for group, verbs in GROUPS.items() for verb in verbs]


def _describe(group: str, verb: Verb) -> CommandHelp:
    name, *aliases = verb.names.split()
    parser = parser_of(verb)
    found = [_argument(action, part.title or "") for part in parser._action_groups for action in part._group_actions]
    shown = [argument for argument in found if argument.help != argparse.SUPPRESS]
    return CommandHelp(
        name,
        tuple(aliases),
        group,
        verb.summary,
        note_of(name).more,
        tuple(filter(None, note_of(name).codes.split("; "))),
        parser.usage_line(),
        tuple(argument for argument in shown if not argument.spellings),
        tuple(argument for argument in shown if argument.spellings),
    )


def parser_of(verb: Verb) -> Parser:
    """The very parser that answers `percore COMMAND --help`: it is made where the command is."""
    name = verb.names.split()[0]
    if verb.is_plain:
        return make_parser(name)
    module, function = place_of(verb)
    try:
        getattr(import_module(module), function)([_DESCRIBE])
    except _Described as described:
        return described.parser
    raise AssertionError(f"'{name}' has no parser")


def _argument(action: argparse.Action, section: str) -> ArgumentHelp:
    choices = tuple(map(str, action.choices or ()))
    own = section if section == APP_SECTION else ""
    value = _value_of(action) if action.nargs != 0 else ""
    return ArgumentHelp(tuple(action.option_strings), value, action.help or "", choices, own)


def _word(action: argparse.Action) -> str:
    value = _value_of(action)
    return {"?": f"[{value}]", "*": f"[{value} ...]", "+": f"{value} ..."}.get(str(action.nargs), value)


def _value_of(action: argparse.Action) -> str:
    return str(action.metavar or "|".join(map(str, action.choices or ())) or action.dest.upper())
