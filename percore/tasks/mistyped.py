"""What invoke says of a word that it does not know: one line with the nearest task, option or environment."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from invoke.exceptions import Exit, ParseError
from invoke.parser.parser import ParseMachine

from percore.deploy.command_line import to_type
from percore.deploy.inventory import environments
from percore.deploy.schema import suggest

_UNKNOWN = re.compile(r"No idea what '(.*)' is!", re.DOTALL)
_WRONG_WORDS = 2


class MistypedError(ParseError, Exit):
    """invoke prints it as it prints its own, and ends with our exit code."""

    def __init__(self, text: str, context: Any) -> None:
        ParseError.__init__(self, text, context)
        self.text, self.message = text, None

    def __str__(self) -> str:
        return self.text

    @property
    def code(self) -> int:
        return _WRONG_WORDS


def tell_mistyped_words(project: Path) -> None:
    """From now on. invoke has no other place for it: its parser ends with an error that it prints itself."""

    def error(self: Any, message: str) -> None:
        found = _UNKNOWN.fullmatch(message)
        if found is None:
            raise ParseError(message, self.context)
        raise MistypedError(explain(found[1], self.context, list(self.contexts), project), self.context)

    setattr(ParseMachine, "error", error)  # noqa: B010


def explain(word: str, context: Any, tasks: Iterable[str], project: Path) -> str:
    """`context` is the task whose words are read, or invoke's own options before any task."""
    task = getattr(context, "name", None)
    if word.startswith("-"):
        of_task = f" of '{task}'" if task else ""
        options = [name for name in context.flags if name.startswith("--")] if context else []
        advice = suggest(word, options, to_type(f"{task} --help" if task else "--help"))
        return f"percore: '{word}' is no option{of_task} -> {advice}"
    if task and word in environments(project / "inventories"):
        return f"percore: '{task}' takes no word '{word}' -> --env {word}"
    return f"percore: there is no task '{word}' -> {suggest(word, tasks, to_type('--list'))}"
