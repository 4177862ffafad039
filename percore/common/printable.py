"""Text from other sources, made safe for a terminal: control characters are shown, not sent. Shared by all parts."""

from __future__ import annotations

import re

# Tab and the joiners of emoji are harmless. The others move the cursor, end the line, change the reading direction, or hide text.
_CONTROL = (
    "\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f"
)
_SHOWN = re.compile(f"[{_CONTROL}]")
_COLOUR_OR_SHOWN = re.compile(f"(\x1b\\[[0-9;:]{{0,40}}m)|[{_CONTROL}]")
_PLAIN = "\x1b[0m"


def printable(text: str, *, colours: bool = False) -> str:
    """One line in which each control character stands as its escape; `colours` lets those through, and ends them."""
    if not colours:
        return _SHOWN.sub(lambda found: _escape(found[0]), text)
    shown = _COLOUR_OR_SHOWN.sub(lambda found: found[1] or _escape(found[0]), text)
    return shown + _PLAIN if "\x1b" in shown and not shown.endswith(_PLAIN) else shown


def printable_lines(text: str) -> str:
    """Several lines, none of which can break into more."""
    return "\n".join(map(printable, text.split("\n")))


def lines_of(text: str) -> list[str]:
    """Split at line feeds alone: any other line separator is shown within its line."""
    return text.removesuffix("\n").split("\n") if text else []


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
