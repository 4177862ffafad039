"""What must not be shown. Code that opens a secret tells it here; the report masks it in everything it prints."""

from __future__ import annotations

import base64
import html
import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote, quote_plus

MASK = "********"
SHORTEST = 4
"""A text shorter than this would be masked inside ordinary words."""

SHORTEST_OF_FILE = 6
SHORTEST_CORE = 6
"""Characters of base64 that are not likely to stand somewhere by chance."""

SECRET_NAME = re.compile(r"PASS|SECRET|TOKEN|KEY|CREDENTIAL|PRIVATE|SALT|DSN", re.IGNORECASE)
URL_PASSWORD = re.compile(r"^[a-z][a-z0-9+.-]*://[^/@:]*:([^@/]+)@", re.IGNORECASE)


class Redactor:
    """Masks every text it was told, however it is quoted or encoded, in texts and in the texts inside lists and mappings."""

    def __init__(self) -> None:
        self._secrets: set[str] = set()
        self._short: set[str] = set()

    def hide(self, value: Any) -> None:
        """Mask this value from now on; the values inside lists and mappings, and each line of a long text."""
        if isinstance(value, Mapping):
            value = list(value.values())
        if isinstance(value, (list, tuple, set)):
            for entry in value:
                self.hide(entry)
        elif value is not None and not isinstance(value, bool):
            text = str(value)
            for line in {text, *text.splitlines()}:
                self._hide_text(line.strip())
            if 0 < len(text) < SHORTEST and text.isalnum():
                self._short.add(text)

    def hide_file(self, text: str) -> None:
        """A file that is encrypted as a whole: its lines, and what is assigned in them. What is short is an ordinary word."""
        for line in text.splitlines():
            for part in (line.strip(), *re.split(r"\s*[=:]\s*|\s+", line.strip(), maxsplit=1)[1:]):
                if len(part.strip("\"' ;,")) >= SHORTEST_OF_FILE:
                    self._hide_text(part.strip("\"' ;,"))

    def hide_environment(self, env: Mapping[str, str]) -> None:
        """Of environment variables those that are named like secrets, and the passwords inside URLs."""
        for name, value in env.items():
            if SECRET_NAME.search(name):
                self.hide(value)
            elif found := URL_PASSWORD.match(value):
                self.hide(found[1])

    def text(self, text: str) -> str:
        return _masked(text, [re.escape(secret) for secret in self._found(text)])

    def lines(self, text: str) -> dict[int, str]:
        """By number, from 1 on, each line of a file that holds a secret, masked. Short ones count where they are whole words."""
        short = [rf"(?<!\w){re.escape(secret)}(?!\w)" for secret in tuple(self._short) if secret in text]
        masked = _masked(text, [*(re.escape(secret) for secret in self._found(text)), *short])
        pairs = zip(text.splitlines(), masked.splitlines(), strict=True)
        return {number: after for number, (before, after) in enumerate(pairs, 1) if before != after}

    def value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.value(key): self.value(entry) for key, entry in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.value(entry) for entry in value]
        return MASK if isinstance(value, int) and str(value) in self._secrets else value

    def fields(self, app: Mapping[str, Any]) -> list[str]:
        """Of a record those fields that hold a secret; variables are never shown."""
        return [name for name, value in app.items() if name != "env" and self.text(text := json.dumps(value)) != text]

    def _found(self, text: str) -> list[str]:
        """Longest first: one may be part of another."""
        return sorted((secret for secret in tuple(self._secrets) if secret in text), key=len, reverse=True)

    def _hide_text(self, text: str) -> None:
        if len(text) >= SHORTEST and text not in self._secrets:
            self._secrets.update(_forms(text))


def _masked(text: str, patterns: Sequence[str]) -> str:
    """The number of lines stays."""
    if not patterns:
        return text
    return re.sub("|".join(patterns), lambda found: re.sub(r"[^\r\n]+", MASK, found[0]), text)


def _forms(text: str) -> Iterator[str]:
    """How it may stand in a file, a command or an address."""
    yield text
    once = json.dumps(text)[1:-1]
    yield from (once, json.dumps(text, ensure_ascii=False)[1:-1], json.dumps(once)[1:-1], repr(text)[1:-1])
    yield from (
        shlex.quote(text),
        text.replace("'", "'\\''"),
        text.replace("'", "''"),
        re.sub(r'([$`"\\])', r"\\\1", text),
    )
    yield from (text.replace("%", "%%"), text.replace("$", "$$"), html.escape(text), html.escape(text, quote=False))
    yield from (quote(text, safe=""), quote(text), quote_plus(text), text.encode(errors="surrogateescape").hex())
    yield from _in_base64(text.encode(errors="surrogateescape"))


def _in_base64(secret: bytes) -> Iterator[str]:
    """By itself, and as a part of something longer, such as `user:password`, wherever it begins there."""
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(secret).decode().rstrip("=")
        for before in range(3):
            core = encode(b"\0" * before + secret).decode()[-(-before * 8 // 6) : (before + len(secret)) * 8 // 6]
            if len(core) >= SHORTEST_CORE:
                yield core


REDACTOR = Redactor()
"""That of this run: one operator's terminal, one set of secrets."""
