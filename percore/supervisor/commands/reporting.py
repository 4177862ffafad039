"""`percore report`: what a bug report needs, without secrets."""

from __future__ import annotations

import os
import re

from percore.common.printable import printable
from percore.supervisor.commands.arguments import make_parser
from percore.supervisor.commands.asking import ask_or_nothing
from percore.supervisor.commands.doctor import describe
from percore.supervisor.commands.host_facts import read_facts
from percore.supervisor.commands.list import print_list
from percore.supervisor.home import Home
from percore.supervisor.logs.files import last_lines

_LOG_LINES = 20
_HIDDEN = "[hidden]"
_SECRETS = (
    (re.compile(r"(://[^/\s:@]*:)[^@\s/]+(@)"), rf"\1{_HIDDEN}\2"),
    (re.compile(r"(\bBearer\s+|\bBasic\s+)\S+", re.IGNORECASE), rf"\1{_HIDDEN}"),
    (
        re.compile(
            # Each name is looked at once, from its beginning on: a long word must not be tried from each of its characters.
            r"""(?<![\w.-])(?=[\w.-]*(?:secret|token|passw(?:or)?d|pwd|passphrase|credential|api_?key|private_?key|auth))"""
            r"""([\w.-]+["']?\s*[=:]\s*)("[^"]*"|'[^']*'|\S+)""",
            re.IGNORECASE,
        ),
        rf"\1{_HIDDEN}",
    ),
)


def print_report(arguments: list[str]) -> int:
    make_parser("report").parse_args(arguments)
    home = Home.of_user()
    answer = ask_or_nothing("ping")
    print("--- versions and host")
    for line in describe(read_facts(home), home, int(answer["pid"]) if answer else 0):
        print(printable(redact(line)))
    print(f"user     uid {os.geteuid()}, gid {os.getegid()}")
    if answer:
        print(f"running  supervisor of version {answer['version']}")
    print("--- workers")
    print_list()
    print(f"--- the last {_LOG_LINES} lines of {home.daemon_log}")
    for line in last_lines(home.daemon_log, _LOG_LINES):
        print(printable(redact(line)))
    return 0


def redact(line: str) -> str:
    """Without what looks like a secret: values of telling names, passwords in addresses, credentials of HTTP."""
    for pattern, replacement in _SECRETS:
        line = pattern.sub(replacement, line)
    return line
