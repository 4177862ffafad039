"""The files of `share/`, which an installed percore brings: its man page and completions. They are made from the commands.

`./run docs.reference` writes them; a test says when they are out of date.
"""

from __future__ import annotations

import itertools
import re
import textwrap
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path

from percore import __version__
from percore.supervisor.commands.arguments import APP_SECTION, ArgumentHelp, CommandHelp, all_commands
from percore.supervisor.commands.completions.command import script_of

ROOT = Path(__file__).resolve().parent.parent
SHARE = ROOT / "share"

OPPOSITE = "the opposite"
_TARGET = """\
.SH TARGETS
A
.I TARGET
is an id, a name, a namespace,
.BR all ,
.I /regex/
(matched against names), a script (every app that runs it), a process file, or
.B \\-
for a process file on standard input.
If one of several targets does not exist, nothing is done.
"""
_ENVIRONMENT = """\
.SH ENVIRONMENT
.TP
.B PERCORE_HOME
the directory of the supervisor; otherwise
.BR PM2_HOME ,
otherwise
.IR \\(ti/.percore .
Each directory has a supervisor of its own.
.TP
.BR NO_COLOR ", " PM2_SILENT
no colors; print only results and errors
.TP
.B PERCORE_DEBUG
show tracebacks
"""
_FILES = """\
.SH FILES
.TP
.I ecosystem.config.js
a process file; also JSON and YAML
.TP
.I \\(ti/.percore/logs
the logs of all apps, and
.IR percore.log ,
that of the supervisor
.TP
.I \\(ti/.percore/state.json
what runs; the next supervisor restores it
"""
_EXIT = """\
.SH EXIT STATUS
.TP
.B 0
done, or nothing to do
.TP
.B 1
the command failed, or
.B doctor
found a problem
.TP
.B 2
the command line or a process file is wrong; nothing was changed
.TP
.B 3
something that is needed is missing; nothing was changed
.TP
.B 4
.B apply
failed and was rolled back
.TP
.B 8
.B apply \\-\\-check
found something to change
.TP
.B 130
interrupted
"""
_EXAMPLES = """\
.SH EXAMPLES
.TP
.B percore start server.js \\-i max
start one worker per core;
all of them share the port on which the program listens
.TP
.B percore reload server
replace the workers one by one without losing a request
.TP
.B percore apply ecosystem.config.js \\-\\-check
show what would change
.TP
.B percore startup
start the supervisor at boot
.SH SEE ALSO
.BR systemd (1),
.BR journalctl (1)
"""


def share_files() -> dict[str, str]:
    """Their text, by their path below `share/`."""
    commands = all_commands()
    return {
        "man/man1/percore.1": man_page(commands),
        "bash-completion/completions/percore": script_of("bash", commands),
        "zsh/site-functions/_percore": script_of("zsh", commands),
        "fish/vendor_completions.d/percore.fish": script_of("fish", commands),
    }


def write_share() -> None:
    for name, text in share_files().items():
        (SHARE / name).parent.mkdir(parents=True, exist_ok=True)
        (SHARE / name).write_text(text)


def release_date() -> date:
    """Of this version, as the changelog says."""
    found = re.search(rf"^## \[{re.escape(__version__)}\] - (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert found, f"CHANGELOG.md has no section of {__version__}"
    return date.fromisoformat(found[1])


def man_page(commands: Sequence[CommandHelp]) -> str:
    return "".join([*_head(), *_commands(commands), *_app_options(commands)]) + (
        _TARGET + _ENVIRONMENT + _FILES + _EXIT + _EXAMPLES
    )


def _head() -> Iterator[str]:
    yield f'.TH PERCORE 1 {release_date()} "percore {__version__}" "User Commands"\n'
    yield ".SH NAME\npercore \\- run programs on every core, and replace them without losing a request\n"
    yield ".SH SYNOPSIS\n.B percore\n.I COMMAND\n.RI [ ARGUMENTS ]\n"
    yield (
        ".SH DESCRIPTION\n.B percore\nsupervises programs:\nit starts one worker per core on one shared port, and singletons"
        " beside them.\nIt restarts what crashes, replaces workers without losing a request,\nand keeps their logs.\n"
        "Commands, options and process files are those of PM2.\n.PP\n"
        "Options may stand anywhere.\n.B percore help\n.I COMMAND\nshows the options of a command;\n"
        '.BR \\-s " (" \\-\\-silent )\n'
        "prints only results and errors;\n.B \\-\\-no\\-color\nprints no colors;\n.B \\-\\-version\nprints the version.\n"
    )


def _commands(commands: Sequence[CommandHelp]) -> Iterator[str]:
    for group in dict.fromkeys(command.group for command in commands):
        yield f".SH {group.upper()} COMMANDS\n"
        for command in commands:
            if command.group == group:
                yield from _command(command)


def _command(command: CommandHelp) -> Iterator[str]:
    yield f".SS {plain(command.usage.removeprefix('percore '))}\n"
    aliases = f" Also: {', '.join(command.aliases)}." if command.aliases else ""
    yield f"{lines(sentence(command.summary) + aliases)}\n"
    for word in command.words:
        yield _entry(f"\\fI{plain(word.value)}\\fR", word.help)
    own = [option for option in command.options if option.section != APP_SECTION and "--help" not in option.spellings]
    for option in own:
        yield _option(option)
    if len(command.options) > len(own) + 1:
        yield '.PP\nIt also takes the options of\n.BR "APP OPTIONS" .\n'


def _app_options(commands: Sequence[CommandHelp]) -> Iterator[str]:
    yield ".SH APP OPTIONS\nThey are the keys of a process file, and override it.\n"
    start = next(command for command in commands if command.name == "start")
    options = [option for option in start.options if option.section == APP_SECTION]
    for option, following in itertools.zip_longest(options, options[1:]):
        if option.help != OPPOSITE:
            has_opposite = following and following.help == OPPOSITE
            yield _option(option, f"{_spellings(following)}: {OPPOSITE}\n" if has_opposite else "")


def _option(option: ArgumentHelp, more: str = "") -> str:
    value = f" \\fI{plain(option.value)}\\fR" if option.value else ""
    return _entry(_spellings(option) + value, option.help + (";" if more else "")) + more


def _spellings(option: ArgumentHelp) -> str:
    return ", ".join(f"\\fB{plain(each)}\\fR" for each in option.spellings)


def _entry(head: str, text: str) -> str:
    return f".TP\n{head}\n{lines(text)}\n"


def sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def lines(text: str) -> str:
    return "\n".join(map(plain, textwrap.wrap(text, 70, break_long_words=False, break_on_hyphens=False)))


def plain(text: str) -> str:
    """No character of it means anything to the formatter."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("~", "\\(ti").replace("^", "\\(ha")
    return f"\\&{escaped}" if escaped[:1] in (".", "'") else escaped
