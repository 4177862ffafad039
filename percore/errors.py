"""The errors an operator sees. Each says what happened, where, and what to type next, in one line."""

from __future__ import annotations

import errno


class PercoreError(Exception):
    """An error that the operator can act on; printed as one line, never as a traceback.

    `what` is the sentence; `where` a file and key, or a host; `next` the command or edit that helps.
    `exit_code` follows the table of `supervisor/commands/help/exit_codes`.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", next: str = "", detail: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.next = next
        self.detail = detail
        self.app = ""  # the app it is about, where there is one

    def __str__(self) -> str:
        line = f"{self.where}: {self.what}" if self.where else self.what
        return f"{line} -> {self.next}" if self.next else line


class UsageError(PercoreError):
    """The command line, or a file the operator wrote, is wrong; nothing was touched."""

    exit_code = 2


class PreflightError(PercoreError):
    """Refused before anything was changed."""

    exit_code = 3


class RolloutError(PercoreError):
    """The change failed and was rolled back: the previous release is still running."""

    exit_code = 4


class PartialError(PercoreError):
    """The change failed and could not be rolled back everywhere."""

    exit_code = 5


class LockedError(PercoreError):
    """Another user or process is changing the same hosts."""

    exit_code = 6


class UnreachableError(PercoreError):
    """A host did not answer."""

    exit_code = 7


def describe_os_error(error: OSError) -> str:
    """Of a copy, what is full or cannot be written is the second file."""
    is_about_target = error.filename2 and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
    name = error.filename2 if is_about_target else error.filename
    return f"{error.strerror or error}" + (f": {name}" if name else "")


def shown(value: object) -> str:
    """A value in an error line: not too long, and a number that cannot be printed as words."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        return f"a huge {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."


_LONGEST_WORD, _MOST_WORDS = 100, 2000


def nearest(word: str, known: list[str]) -> str | None:
    """The known word most like `word`, or None: for 'unknown key X, did you mean Y?'."""
    from difflib import get_close_matches

    if len(word) > _LONGEST_WORD:
        return None
    matches = get_close_matches(word, [other for other in known[:_MOST_WORDS] if len(other) <= _LONGEST_WORD], n=1)
    return matches[0] if matches else None
