"""Control characters are shown, not sent; a release's id has one form."""

from __future__ import annotations

import unicodedata

import pytest

from percore.common.names import is_release_id, require_release_id
from percore.common.printable import lines_of, printable, printable_lines
from percore.errors import UsageError


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, ünï, 日本, 👩‍💻, a\tb", "plain, ünï, 日本, 👩‍💻, a\tb"),
        ("\x1b]0;owned\x07\x1b[2J\rall well", r"\x1b]0;owned\x07\x1b[2J\x0dall well"),
        ("\x00\x7f\x80\x9b31m", r"\x00\x7f\x80\x9b31m"),
        ("\u202egnp.exe\u2066", r"\u202egnp.exe\u2066"),
        ("a\nb\x0bc\x0cd\x85e\u2028f\u2029g", r"a\x0ab\x0bc\x0cd\x85e\u2028f\u2029g"),
        ("\ud800 \udcff \ufeff", r"\ud800 \udcff \ufeff"),
        ("\U000e0041", r"\U000e0041"),
        ("\x1b[31mred", r"\x1b[31mred"),
    ],
)
def test_what_would_act_on_a_terminal_is_shown(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(shown) == shown


def test_no_control_character_of_unicode_passes() -> None:
    passed = [chr(code) for code in range(0x110000) if printable(chr(code)) == chr(code)]
    assert [c for c in passed if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")] == ["\t"]
    assert not [
        c
        for c in passed
        if unicodedata.bidirectional(c) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    ]


def test_colours_pass_where_they_are_wanted_and_end_with_the_line() -> None:
    assert printable("\x1b[1;31mred\x1b[0m", colours=True) == "\x1b[1;31mred\x1b[0m"
    assert printable("\x1b[31mred", colours=True) == "\x1b[31mred\x1b[0m"
    for other in ("\x1b[2J", "\x1b[1A", "\x1b]0;x\x07", "\x1b[31", "\x1bc", "\x1b[?25l", "\x1b[>4m", "\x9b31m"):
        assert "\x1b" not in printable(other, colours=True)
        assert "\x9b" not in printable(other, colours=True)


def test_lines_are_split_at_line_feeds_alone() -> None:
    assert lines_of("") == []
    assert lines_of("a\rb\x85c\n\nd\n") == ["a\rb\x85c", "", "d"]
    assert printable_lines("a\x1b\nb\r") == "a\\x1b\nb\\x0d"


def test_a_release_id_has_one_form() -> None:
    assert is_release_id("20260131120000-0a1b2c3d")
    assert require_release_id("20260131120000-0a1b2c3d") == "20260131120000-0a1b2c3d"
    for odd in (None, 7, b"20260131120000-0a1b2c3d", ["20260131120000-0a1b2c3d"], "../x\x1b[2J"):
        with pytest.raises(UsageError, match="is not a release id") as caught:
            require_release_id(odd, where="history")
        assert "\x1b" not in str(caught.value)
