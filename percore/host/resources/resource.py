"""What all resources share: the four questions, and what of a resource may be shown.

- `difference()`: what would change, as a short text, or None when all is right already;
- `verify()`: is the wanted thing valid? Asked on a copy, before anything is switched;
- `former()`: the resources that bring back what is here now; asked before `apply`;
- `apply()`: make it so. Files are replaced by rename, so a reader sees the old one or the new one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable, Optional

from percore.host.messages import Spec

Contents = Callable[[str], bytes]
"""Gives the bytes of a SHA-256."""

Say = Callable[[str], None]
"""Told what takes its time."""


def silent(text: str) -> None:
    """It is not said."""


class Resource:
    """Answers for a resource that has nothing to verify and nothing to bring back."""

    def __init__(self, spec: Spec, contents: Contents, say: Say = silent) -> None:
        self.spec = spec
        self.contents = contents
        self.say = say

    @property
    def path(self) -> str:
        return str(self.spec["path"])

    def difference(self) -> Optional[str]:
        raise NotImplementedError

    def change(self) -> Optional[str]:
        """The difference as it may be shown."""
        difference = self.difference()
        return difference and shown(self.spec, difference)

    def verify(self, coming: Sequence[str] = ()) -> None:
        """Raises RolloutError for an invalid wish. `coming` are programs that will be there, and are not yet."""

    def former(self) -> list[Spec]:
        return []

    def apply(self) -> None:
        raise NotImplementedError


def shown(spec: Spec, text: str) -> str:
    """`shown` of a spec says what is written instead of the parts of it that hold secrets."""
    for part, instead in spec.get("shown", {}).items():
        text = text.replace(part, instead)
    return text
