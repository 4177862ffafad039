"""What was told to be secret is masked wherever it turns up."""

from __future__ import annotations

import base64
import html
import json
import shlex
from urllib.parse import quote, quote_plus

import pytest

from percore.deploy.masking import MASK, Redactor
from percore.deploy.report import Report, print_error
from percore.errors import UsageError


def redactor(value: object) -> Redactor:
    made = Redactor()
    made.hide(value)
    return made


@pytest.mark.parametrize("secret", ["plain-secret", "with 'quotes' and \"more\"", "tab\tand é", "a/b?c=d&e"])
def test_a_secret_is_masked_however_it_is_quoted(secret: str) -> None:
    for shown in (secret, json.dumps(secret), shlex.quote(secret), f"postgres://u:{secret}@h"):
        assert secret not in (masked := redactor(secret).text(f"before {shown} after"))
        assert MASK in masked


def test_every_line_of_a_long_secret_is_masked_by_itself() -> None:
    made = redactor("-----BEGIN KEY-----\nabcdef\n-----END KEY-----\n")
    assert made.text("log: abcdef") == f"log: {MASK}"


def test_a_secret_is_masked_however_it_is_encoded() -> None:
    secret = "a b&\"c'%$/+é-hunter2"
    made = redactor(secret)
    encoded = secret.encode()
    for shown in (
        quote(secret), quote(secret, safe=""), quote_plus(secret), html.escape(secret), encoded.hex(),
        secret.replace("'", "''"), secret.replace("%", "%%"), secret.replace("$", "$$"), json.dumps(json.dumps(secret)),
        base64.b64encode(encoded).decode(), base64.urlsafe_b64encode(encoded).decode(), repr(secret),
    ):  # fmt: skip
        masked = made.text(f"x {shown} y")
        assert MASK in masked, shown
        assert "hunter2" not in masked
    for before in ("", "u:", "us:", "user:"):
        shown = base64.b64encode(f"{before}{secret}:".encode()).decode()
        assert MASK in made.text(shown)
        assert base64.b64encode(encoded).decode()[6:-6] not in made.text(shown)


def test_of_a_file_each_line_that_holds_a_part_of_a_secret_is_known_also_of_short_ones() -> None:
    made = Redactor()
    made.hide(["-----BEGIN KEY-----\nabcdefgh\ni==\n-----END KEY-----", "a1"])
    text = "key:\n-----BEGIN KEY-----\nabcdefgh\ni==\n-----END KEY-----\npin a1\nba1\nend\n"
    assert made.lines(text) == {2: MASK, 3: MASK, 4: MASK, 5: MASK, 6: f"pin {MASK}"}
    assert made.lines("indented:\n  abcdefgh\n") == {2: f"  {MASK}"}


def test_of_an_encrypted_file_the_lines_and_the_values_are_masked_wherever_they_turn_up() -> None:
    made = Redactor()
    made.hide_file('user = app\npassword = "hunter2-very"\ntoken: other-secret\n')
    shown = made.text("syntax error near hunter2-very; at 'token: other-secret', got other-secret, app and user")
    assert shown == f"syntax error near {MASK}; at {MASK}, got {MASK}, app and user"


def test_secrets_in_lists_and_mappings_are_masked_in_values_of_any_shape() -> None:
    made = redactor({"a": ["secret-1", {"b": "secret-2"}], "n": 123456})
    assert made.value({"x": ["secret-1"], "y": 123456, "z": 5000}) == {"x": [MASK], "y": MASK, "z": 5000}


def test_short_texts_and_flags_are_left_alone() -> None:
    assert redactor(["abc", True, None, ""]).text("abc True None") == "abc True None"


def test_of_an_environment_only_what_is_named_or_looks_secret_is_masked() -> None:
    made = Redactor()
    made.hide_environment(
        {
            "NODE_ENV": "production",
            "API_TOKEN": "tok-en",
            "DATABASE_URL": "postgres://shop:hunter22@db/shop",
            "PORT": "5000",
        }
    )
    shown = made.text("production tok-en postgres://shop:hunter22@db/shop 5000")
    assert shown == f"production {MASK} postgres://shop:{MASK}@db/shop 5000"


def test_all_that_a_report_prints_is_masked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("percore.deploy.report.REDACTOR", redactor("hunter22"))
    report = Report()
    report.line("hunter22")
    report.log("web1", "hunter22")
    report.warn("hunter22")
    report.table(["head"], [["hunter22"]])
    report.json({"env": ["hunter22"]})
    print_error(UsageError("hunter22", where="hunter22", next="hunter22", detail="hunter22"))
    said = capsys.readouterr()
    assert "hunter22" not in said.out + said.err
    assert (said.out + said.err).count(MASK) == 9
