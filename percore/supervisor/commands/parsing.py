"""The arguments of one command. argparse is imported only when there is something to parse."""

from __future__ import annotations

import argparse
from typing import NoReturn

from percore.errors import UsageError
from percore.supervisor.commands import find


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, where=self.prog.partition(" ")[2], next=f"{self.prog} --help")


def make_parser(name: str, *, usage: str = "") -> Parser:
    command = find(name)
    assert command, f"'{name}' is no command"
    return Parser(prog=f"percore {name}", description=command.summary, allow_abbrev=False, usage=usage or None)
