"""What must not be shown. Whoever opens a secret tells it here; the report masks it in everything it prints."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

MASK = "********"
SHORTEST = 4
"""A text shorter than this would be masked inside ordinary words."""

SECRET_NAME = re.compile(r"PASS|SECRET|TOKEN|KEY|CREDENTIAL|PRIVATE|SALT|DSN", re.IGNORECASE)
URL_PASSWORD = re.compile(r"^[a-z][a-z0-9+.-]*://[^/@:]*:([^@/]+)@", re.IGNORECASE)


class Redactor:
    """Masks every text it was told, however it is quoted, in texts and in the texts inside lists and mappings."""

    def __init__(self) -> None:
        self._secrets: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def hide(self, value: Any) -> None:
        """Mask this value from now on; the values inside lists and mappings, and each line of a long text."""
        if isinstance(value, Mapping):
            value = list(value.values())
        if isinstance(value, (list, tuple, set)):
            for entry in value:
                self.hide(entry)
        elif value is not None and not isinstance(value, bool):
            for line in {str(value), *str(value).splitlines()}:
                self._hide_text(line.strip())

    def hide_environment(self, env: Mapping[str, str]) -> None:
        """Of environment variables those that are named like secrets, and the passwords inside URLs."""
        for name, value in env.items():
            if SECRET_NAME.search(name):
                self.hide(value)
            elif found := URL_PASSWORD.match(value):
                self.hide(found[1])

    def text(self, text: str) -> str:
        if self._pattern is None or not self._secrets:
            return text
        return self._pattern.sub(MASK, text)

    def value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.value(key): self.value(entry) for key, entry in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.value(entry) for entry in value]
        return MASK if isinstance(value, int) and str(value) in self._secrets else value

    def _hide_text(self, text: str) -> None:
        if len(text) < SHORTEST or text in self._secrets:
            return
        forms = (
            text,
            json.dumps(text)[1:-1],
            json.dumps(text, ensure_ascii=False)[1:-1],
            shlex.quote(text),
            quote(text, safe=""),
        )
        self._secrets.update(forms)
        longest_first = sorted(self._secrets, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)))


REDACTOR = Redactor()
"""That of this run: one operator's terminal, one set of secrets."""
