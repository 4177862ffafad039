"""What a switch has done so far, in memory and in its journal: an agent that comes later goes on from there."""

from __future__ import annotations

from typing import Optional

from percore.host.messages import Spec
from percore.host.release.change.handlers import Pending
from percore.host.release.change.journal import Journal


class SwitchRecord:
    """Each `note` is on the disk when it returns, and is made before what it is about."""

    def __init__(self, journal: Journal, release: str, former: Optional[str], *, amended: bool = False) -> None:
        self.journal = journal
        self.release = release
        self.former = former
        self.amended = amended
        self.was_good = False
        self.was_running = False
        self.pending_before: dict[str, Pending] = {}
        self.handled: list[Spec] = []  # handlers that were begun: what they start may have read what we changed
        self.restore: list[Spec] = []
        self.boundary = 0  # how many entries of `restore` come from before the apps were switched
        self.apps_switched = False

    @classmethod
    def read(cls, journal: Journal) -> Optional[SwitchRecord]:
        """Of the switch that an agent left unfinished here; None when there is none."""
        entries = journal.read()
        if not entries:
            return None
        header = entries[0]
        found = cls(journal, header["release"], header["former"], amended=header.get("amended", False))
        found.was_good, found.was_running = header["was_good"], header["was_running"]
        found.pending_before = header.get("owed", {})
        for entry in entries:
            if entry["what"] == "restore":
                found.restore.append(entry["spec"])
            elif entry["what"] == "handler":
                found.handled.append(entry["spec"])
            elif entry["what"] == "boundary":
                found.boundary = len(found.restore)
            elif entry["what"] == "apps":
                found.apps_switched = entry["switched"]
        return found

    def begin(self, owner: str, run: str, agent: dict[str, int]) -> None:
        """`owner` and `run` say for whom, `agent` by which process."""
        self.journal.begin(
            owner=owner, run=run, release=self.release, former=self.former, was_good=self.was_good,
            was_running=self.was_running, owed=self.pending_before, amended=self.amended, **agent,
        )  # fmt: skip

    def note_former(self, spec: Spec) -> None:
        """A resource that brings back what is here now."""
        self.journal.note("restore", spec=spec)
        self.restore.append(spec)

    def note_boundary(self) -> None:
        self.boundary = len(self.restore)
        self.journal.note("boundary")

    def note_handler(self, handler: Spec, *, was_active: bool) -> None:
        begun = {**handler, "was_active": was_active}
        self.journal.note("handler", spec=begun)
        self.handled.append(begun)

    def note_apps(self, *, switched: bool) -> None:
        self.journal.note("apps", switched=switched)
        self.apps_switched = switched
