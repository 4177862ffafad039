"""The completion of fish: a line for each option, with its text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from percore.supervisor.commands.arguments import CommandHelp
from percore.supervisor.commands.completions.follow import (
    DIRECTORIES,
    FILES,
    GROUPS,
    IDS,
    NAMES,
    USERS,
    Follow,
    Offer,
    OptionOffer,
    follow_of,
)

_START = """\
# Completion of percore for fish. It is made from the commands: percore completion fish
function __percore_after --description 'whether the command is one of these; without any: whether there is none yet'
    set -l typed (commandline -opc)
    for word in $typed[2..-1]
        if not string match -q -- '-*' $word
            contains -- $word $argv
            return
        end
    end
    test (count $argv) -eq 0
end
complete -c percore -f
complete -c percore -n __percore_after -s h -l help -d 'list the commands'
complete -c percore -n __percore_after -l version -d 'show the version'
complete -c percore -n __percore_after -s s -l silent -d 'print only results and errors'
complete -c percore -n __percore_after -l mini-list -d 'a few lines for each worker instead of a table'
complete -c percore -n __percore_after -l no-color -d 'no colors'
complete -c percore -n __percore_after -a help -d 'show what a command does, and its options'
"""

_FOUND = {
    NAMES: "(percore completion names 2>/dev/null)",
    IDS: "(percore completion ids 2>/dev/null)",
    DIRECTORIES: "(__fish_complete_directories)",
    USERS: "(__fish_complete_users)",
    GROUPS: "(__fish_complete_groups)",
}


def fish_script(commands: Sequence[CommandHelp]) -> str:
    lines = []
    for command in commands:
        for name in (command.name, *command.aliases):
            text = f"-a {name} -d {quoted(command.summary)}"
            lines += [f"complete -c percore -n '__percore_after; or __percore_after help' {text}"]
    for follow in follow_of(commands):
        lines += _lines(follow)
    return _START + "\n".join(lines) + "\n"


def _lines(follow: Follow) -> Iterator[str]:
    start = f"complete -c percore -n '__percore_after {' '.join(follow.commands)}'"
    if words := _words(follow.offer):
        yield f"{start} -a {quoted(words)}"
    if FILES in follow.offer.found:
        yield f"{start} -F"
    for option in follow.options:
        yield f"{start} {_spellings(option)}{_value(option)} -d {quoted(option.help)}"


def _spellings(option: OptionOffer) -> str:
    return " ".join(f"-l {word[2:]}" if word.startswith("--") else f"-s {word[1:]}" for word in option.spellings)


def _value(option: OptionOffer) -> str:
    if option.value is None:
        return ""
    if FILES in option.value.found:
        return " -r -F"
    return f" -x -a {quoted(_words(option.value))}"


def _words(offer: Offer) -> str:
    return " ".join([*offer.words, *(_FOUND[each] for each in offer.found if each != FILES)])


def quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
