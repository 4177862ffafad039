"""`percore`: the command on a host. Finds the command in the registry, runs it and reports errors."""

from __future__ import annotations

import codecs
import errno
import os
import sys
from importlib import import_module

from percore.common.typing import NoReturn
from percore.errors import PercoreError, UsageError, nearest
from percore.supervisor.base.home import Home
from percore.supervisor.base.home_owner import go_on_as_owner
from percore.supervisor.commands.registry import GROUPS, all_names, find, instead_of, place_of

# Where a terminal's characters are few.
_PLAIN = {**dict.fromkeys("┌┬┐├┼┤└┴┘", "+"), "─": "-", "│": "|", "↺": "#", "…": "..."}
_VERSION = ("--version", "-v", "-V")


def main() -> None:
    try:
        _take_any_output()
        code = run(sys.argv[1:])
        sys.stdout.flush()
    except PercoreError as error:
        code = report_error(error)
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        # The reader (head, grep -q) closed the pipe; Python would complain once more while closing stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = 141
    except OSError as error:
        code = _report_output(error)
    sys.exit(code)


def _take_any_output() -> None:
    """Whatever stdout and stderr are: a terminal of Latin-1, or nothing."""
    codecs.register_error("plain", _plain)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the caller
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="plain")


def _plain(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return "".join(_PLAIN.get(each, "?") for each in error.object[error.start : error.end]), error.end


def _report_output(error: OSError) -> int:
    """The disk is full, or the terminal is gone. Another error is one of ours, and is shown as it is."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF, errno.EFBIG) or error.filename:
        raise error
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return report_error(PercoreError(f"the output cannot be written: {error.strerror}"))


def run(arguments: list[str]) -> int:
    arguments, is_silent = take_silent(command_first(arguments))
    if arguments == ["help", "exit-codes"]:
        print_exit_codes()
        return 0
    if arguments[:1] == ["help"] and len(arguments) > 1:
        arguments = [arguments[1], "--help"]
    if not arguments or arguments[0] in ("help", "--help", "-h"):
        print_help()
        return 0 if arguments else 2
    name = arguments[0]
    if name in _VERSION:
        print_version()
        return 0
    verb = find(name)
    if verb is None:
        refuse_unknown(name)
    if verb.is_plain and len(arguments) > 1:
        from percore.supervisor.commands.arguments import make_parser

        make_parser(name).parse_args(arguments[1:])  # refuses them, or shows the help
    if verb.reads_home:
        go_on_as_owner(Home.of_user())
    if is_silent:
        from percore.supervisor.commands.output import be_silent

        be_silent()
    module, function = place_of(verb)
    code: int = getattr(import_module(module), function)(arguments[1:])
    return code


def print_version() -> None:
    from percore import __version__
    from percore.supervisor.commands.version import warn_of_difference

    print(__version__, flush=True)
    warn_of_difference()


def refuse_unknown(name: str) -> NoReturn:
    if hint := instead_of(name):
        raise UsageError(f"'{name}' is a command of PM2 that percore does not have", next=hint)
    known = nearest(name, all_names())
    raise UsageError(f"'{name}' is not a command", next=f"did you mean '{known}'?" if known else "percore --help")


def take_silent(arguments: list[str]) -> tuple[list[str], bool]:
    """What may stand anywhere before `--`, as in PM2, and is of no single command."""
    own = own_words(arguments)
    if "--no-color" in own:
        from percore.supervisor.commands.output import leave_out_colours

        leave_out_colours()
    if "--mini-list" in own:
        from percore.supervisor.commands.output import be_brief

        be_brief()
    kept = [argument for argument in own if argument not in ("-s", "--silent", "--no-color", "--mini-list")]
    is_silent = "-s" in own or "--silent" in own or os.environ.get("PM2_SILENT", "") in ("1", "true")
    return kept + arguments[len(own) :], is_silent


def own_words(arguments: list[str]) -> list[str]:
    """Those that are not passed on to a program."""
    return arguments[: arguments.index("--")] if "--" in arguments else arguments


def command_first(arguments: list[str]) -> list[str]:
    """The options of a command may stand before it, as in PM2."""
    own = own_words(arguments)
    if not own or not own[0].startswith("-") or own[0] in _VERSION:
        return arguments
    place = next((place for place, word in enumerate(own) if find(word) and not is_value(own[place - 1])), 0)
    if not place:
        return arguments
    before = ["--mini-list" if word == "-m" else word for word in arguments[:place]]
    return [arguments[place], *before, *arguments[place + 1 :]]


def is_value(option: str) -> bool:
    """Whether the word behind this one is its value: an app may be called `web`."""
    from percore.supervisor.commands.start import make_start_parser  # has the options of most commands

    return option.startswith("-") and make_start_parser().takes_value(option)


def report_error(error: PercoreError) -> int:
    if os.environ.get("PERCORE_DEBUG"):
        raise error
    from percore.common.printable import lines_of, printable  # the daemon starts here too, and does not need it

    print(printable(f"percore: {error}"), file=sys.stderr)
    for line in lines_of(error.detail):
        print(printable(f"  | {line}"), file=sys.stderr)
    return error.exit_code


def print_help() -> None:
    print("percore: one worker per core on one shared port, and singletons beside them\n\nusage: percore COMMAND ...")
    for group, verbs in GROUPS.items():
        print(f"\n{group}")
        for verb in verbs:
            name, *aliases = verb.names.split()
            print(f"  {name + (' (' + ', '.join(aliases) + ')' if aliases else ''):<34} {verb.summary}")
    print("\npercore help COMMAND shows its options, percore help exit-codes what an exit code means")
    print("-s (--silent) anywhere prints only results and errors")


def print_exit_codes() -> None:
    from percore.supervisor.commands.help.exit_codes import EXIT_CODES

    for code in EXIT_CODES:
        print(f"{code.number:>3}  {code.meaning}\n     hosts: {code.state}")


if __name__ == "__main__":
    main()
