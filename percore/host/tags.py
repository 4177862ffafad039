"""Which resources a run is about, by their tags; the others stay as the host's release has them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from percore.host.messages import Spec


class Selection(NamedTuple):
    """Those with one of `tags` (all, when it is empty), but none with one of `skip`."""

    tags: Sequence[str] = ()
    skip: Sequence[str] = ()

    @property
    def is_everything(self) -> bool:
        return not self.tags and not self.skip

    def covers(self, tags: Iterable[str]) -> bool:
        own = set(tags)
        return (not self.tags or not own.isdisjoint(self.tags)) and own.isdisjoint(self.skip)

    def of(self, specs: Iterable[Spec]) -> list[Spec]:
        return [spec for spec in specs if self.covers(spec.get("tags", ()))]

    def merge(self, wanted: Sequence[Spec], present: Sequence[Spec]) -> list[Spec]:
        """The selected ones as they are wanted, the others as they are present, or not at all."""
        places = {_place(spec): spec for spec in present}
        merged = [spec if self.covers(spec.get("tags", ())) else places.get(_place(spec)) for spec in wanted]
        named = {_place(spec) for spec in wanted}
        left = [spec for spec in present if _place(spec) not in named and not self.covers(spec.get("tags", ()))]
        return [spec for spec in merged if spec is not None] + left

    def __str__(self) -> str:
        parts = [("--tags", self.tags), ("--skip-tags", self.skip)]
        return " ".join(f"{option} {','.join(tags)}" for option, tags in parts if tags)


def _place(spec: Spec) -> tuple[str, str]:
    return spec["kind"], str(spec.get("path") or spec.get("name") or spec.get("run"))
