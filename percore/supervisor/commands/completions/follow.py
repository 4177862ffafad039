"""What can be typed after each command: read from the parsers that also answer `--help`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple, Optional

from percore.supervisor.commands.arguments import ArgumentHelp, CommandHelp
from percore.supervisor.commands.settings import SETTINGS

NAMES, IDS, FILES, DIRECTORIES, USERS, GROUPS = "names", "ids", "files", "directories", "users", "groups"
"""What is found only when it is asked for: the first two by `percore completion`, the others by the shell."""

SIGNALS = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGKILL", "SIGSTOP", "SIGCONT")
_FOUND = {
    "TARGET": NAMES, "APP": NAMES, "NAME": NAMES, "APPS": NAMES, "A,B": NAMES, "ID": IDS, "FILE": FILES, "PATHS": FILES,
    "DIRECTORY": DIRECTORIES, "CWD": DIRECTORIES, "USER": USERS, "GROUP": GROUPS,
}  # fmt: skip
_OF_SETTINGS = ("get", "set", "unset")


class Offer(NamedTuple):
    """`found` are the kinds above; `words` are always the same."""

    found: tuple[str, ...] = ()
    words: tuple[str, ...] = ()


class OptionOffer(NamedTuple):
    spellings: tuple[str, ...]
    help: str
    value: Optional[Offer]  # None: it takes none


class Follow(NamedTuple):
    """After each of these commands, the same."""

    commands: tuple[str, ...]
    offer: Offer
    options: tuple[OptionOffer, ...]


def follow_of(commands: Sequence[CommandHelp]) -> list[Follow]:
    """Commands after which the same can be typed are one."""
    found: dict[tuple[Offer, tuple[OptionOffer, ...]], list[str]] = {}
    for command in commands:
        what = (_offer_of(command), tuple(map(_option_of, command.options)))
        found.setdefault(what, []).extend((command.name, *command.aliases))
    return [Follow(tuple(names), *what) for what, names in found.items()]


def values_of(follow: Follow) -> dict[Offer, list[str]]:
    """What is offered after which options."""
    found: dict[Offer, list[str]] = {}
    for option in follow.options:
        if option.value is not None:
            found.setdefault(option.value, []).extend(option.spellings)
    return found


def _offer_of(command: CommandHelp) -> Offer:
    if command.name in _OF_SETTINGS:
        return Offer(words=SETTINGS)
    offers = [_of_argument(word) for word in command.words]
    files = [FILES] if any("process file" in word.help for word in command.words) else []
    found = dict.fromkeys([*(each for offer in offers for each in offer.found), *files])
    return Offer(tuple(found), tuple(word for offer in offers for word in offer.words))


def _option_of(option: ArgumentHelp) -> OptionOffer:
    is_app = option.value not in ("NAME", "ID")  # there it is a new name, or that of something else
    value = (_of_argument(option) if is_app else Offer()) if option.value else None
    return OptionOffer(option.spellings, option.help, value)


def _of_argument(argument: ArgumentHelp) -> Offer:
    if argument.value in _FOUND:
        return Offer((_FOUND[argument.value],))
    if argument.value == "SIGNAL":
        return Offer(words=SIGNALS)
    words = argument.choices or argument.value.split("|")
    return Offer(words=tuple(word for word in words if re.fullmatch(r"[a-z]+", word)))
