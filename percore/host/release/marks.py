"""What is known of the releases of an app: good, bad or only staged, and when each was deployed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, Optional

from percore.common.names import is_release_id, require_release_id
from percore.errors import UsageError
from percore.host.files import write_file

GOOD = "good"
BAD = "bad"
STAGED = "staged"


class Marks:
    """`exists` says which releases are here."""

    def __init__(self, path: str, exists: Callable[[str], bool]) -> None:
        self.path = path
        self._exists = exists

    def read(self) -> dict[str, dict[str, Any]]:
        """By id: `mark`, `at`, `deployed_at` (seconds since the epoch), `fingerprint` of what the host should be, `artifact`,
        `commit`."""
        try:
            with open(self.path, encoding="utf-8") as source:
                marks = json.load(source)
        except FileNotFoundError:
            return {}
        except ValueError:
            raise UsageError("is not valid JSON", where=self.path, next="remove the file and deploy again") from None
        return {
            release: note
            for release, note in marks.items()
            if self._exists(release) or (is_release_id(release) and note.get("mark") == BAD)
        }

    def commit(self, release: Optional[str]) -> Optional[Mapping[str, Any]]:
        """What the release was built of, where that is known."""
        return self.read().get(release, {}).get("commit") if release else None

    def irreversible_after(self, release: str) -> list[str]:
        """The releases made since whose release command no rollback brings back, the oldest first."""
        return sorted(name for name, note in self.read().items() if note.get("irreversible") and name > release)

    def set(self, release: str, mark: str, *, deployed: bool = False, **note: Any) -> None:
        """`deployed`: from now on it counts as the newest, whatever the clock of this host says, which may be set back."""
        marks = self.read()
        require_release_id(release)
        if deployed:
            newest = max((_deployed_at(known) for known in marks.values()), default=0.0)
            note["deployed_at"] = max(time.time(), newest + 0.001)
        marks[release] = {**marks.get(release, {}), **note, "mark": mark, "at": time.time()}
        self._write(marks)

    def forget(self, gone: Collection[str]) -> None:
        self._write({name: note for name, note in self.read().items() if name not in gone})

    def good_before(self, current: Optional[str]) -> list[str]:
        """The good releases that were deployed before `current` (None: all that are here), the oldest first."""
        marks = self.read()

        def age(release: str) -> tuple[float, str]:
            return (_deployed_at(marks.get(release, {})), release)

        return sorted(
            (
                release
                for release, note in marks.items()
                if note.get("mark") == GOOD
                and self._exists(release)
                and release != current
                and (current is None or age(release) < age(current))
            ),
            key=age,
        )

    def _write(self, marks: Mapping[str, Mapping[str, Any]]) -> None:
        write_file(self.path, json.dumps(marks, indent=1, sort_keys=True).encode())


def _deployed_at(note: Mapping[str, Any]) -> float:
    return float(note.get("deployed_at", note.get("at", 0.0)))
