"""Times as Kubernetes takes them: five fields, without seconds and without the last days of a month."""

from __future__ import annotations

import re

_NICKNAMES = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")
_FIELD = re.compile(r"[0-9A-Za-z*,/-]+")


def kubernetes_schedule(written: str) -> str | None:
    """None for times that it cannot say. A single second is left out: the run begins at the minute."""
    words = written.split()
    if len(words) == 1:
        return written.lower() if written.lower() in _NICKNAMES else None
    if len(words) == 6:
        if not words[0].isdigit():
            return None
        words = words[1:]
    if len(words) != 5 or not all(map(_FIELD.fullmatch, words)):
        return None
    *others, weekday = words
    if "L" in f"{others[2]} {weekday}".upper():
        return None
    return " ".join([*others, ",".join(map(_with_sunday, weekday.split(",")))])


def _with_sunday(part: str) -> str:
    """Sunday is 0 there; a 7 is unknown, alone or at the end of a range."""
    if part == "7":
        return "0"
    found = re.fullmatch(r"([0-6])-7", part)
    return (f"{found[1]}-6,0" if found[1] != "0" else "*") if found else part


def seconds_left_out(written: str) -> bool:
    words = written.split()
    return len(words) == 6 and words[0] != "0"
