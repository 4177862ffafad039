"""What must outlive `percore web`: the sums of workers, written whole, in the supervisor's directory."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from percore.common.files import write_file
from percore.errors import PercoreError
from percore.supervisor.base.home import Home
from percore.web.app_metrics.ledger import Entry, Ledger, Sums
from percore.web.app_metrics.page import Family, Series

_VERSION = 1
_LONGEST = 256 << 20


def path_of(home: Home) -> str:
    return os.path.join(home.path, "app-metrics.json")


def save(home: Home, ledgers: dict[str, Ledger]) -> None:
    """Raises PercoreError."""
    content = {"version": _VERSION, "apps": {name: _ledger(ledger) for name, ledger in ledgers.items()}}
    try:
        write_file(path_of(home), json.dumps(content, separators=(",", ":")).encode(), sync=False)
    except OSError as error:
        raise PercoreError(f"what the apps counted cannot be written: {error.strerror}", where=path_of(home)) from None


def load(home: Home) -> dict[str, Ledger]:
    """Empty where there is none. Raises PercoreError where it cannot be read: its counters would begin again."""
    try:
        with open(path_of(home), "rb") as file:
            content = json.loads(file.read(_LONGEST))
        if content["version"] != _VERSION:
            raise ValueError("it is of another version")
        return {str(name): _read_ledger(record) for name, record in content["apps"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise PercoreError(
            f"what the apps counted cannot be read: {error}", where=path_of(home), next="move it away"
        ) from None


def _ledger(ledger: Ledger) -> dict[str, Any]:
    return {
        "base": {str(slot): _sums(sums) for slot, sums in ledger.base.items()},
        "workers": {
            worker: {"slot": entry.slot, "holder": entry.holder, **_sums(entry.sums)}
            for worker, entry in ledger.entries.items()
        },
        "families": [list(family) for family in ledger.families.values()],
        "owners": ledger.owners,
        "dropped": ledger.dropped,
    }


def _sums(sums: Sums) -> dict[str, Any]:
    return {
        "counters": [[name, labels, value] for (name, labels), value in sums.counters.items()],
        "buckets": [[name, labels, found] for (name, labels), found in sums.buckets.items()],
    }


def _read_ledger(record: Any) -> Ledger:
    ledger = Ledger()
    ledger.base = {int(slot): _read_sums(found) for slot, found in record["base"].items()}
    ledger.families = {name: Family(name, *rest) for name, *rest in record["families"]}
    ledger.owners = {str(name): str(owner) for name, owner in record["owners"].items()}
    ledger.dropped = int(record["dropped"])
    for worker, found in record["workers"].items():
        entry = Entry(int(found["slot"]))
        entry.holder, entry.sums = int(found["holder"]), _read_sums(found)
        entry.gone_at = time.monotonic()  # until it is seen
        ledger.entries[str(worker)] = entry
    return ledger


def _read_sums(record: Any) -> Sums:
    return Sums(
        {_series(name, labels): float(value) for name, labels, value in record["counters"]},
        {
            _series(name, labels): {str(le): float(value) for le, value in found.items()}
            for name, labels, found in record["buckets"]
        },
    )


def _series(name: Any, labels: Any) -> Series:
    return Series(str(name), tuple((str(key), str(value)) for key, value in labels))
