"""Amounts of CPU and memory as Kubernetes writes them."""

from __future__ import annotations

import math
import re

_UNITS = {
    "": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12,
    "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40,
}  # fmt: skip
_STEP = 16 << 20
LEAST_BYTES = 32 << 20
"""Of a pod: with less, percore itself does not start. Who forgets the unit has asked for so few bytes."""


def is_cpu(text: str) -> bool:
    return bool(re.fullmatch(r"[1-9][0-9]{0,5}m|[0-9]{1,4}(\.[0-9]{1,3})?", text)) and cores(text) > 0


def is_memory(text: str) -> bool:
    found = re.fullmatch(rf"[1-9][0-9]{{0,14}}({'|'.join(_UNITS)})", text)
    return bool(found) and in_bytes(text) >= LEAST_BYTES


def cores(amount: str) -> float:
    return int(amount[:-1]) / 1000 if amount.endswith("m") else float(amount)


def cpu(amount: float) -> str:
    thousandths = max(1, round(amount * 1000))
    return str(thousandths // 1000) if thousandths % 1000 == 0 else f"{thousandths}m"


def in_bytes(amount: str) -> int:
    found = re.fullmatch(r"([0-9]+)([A-Za-z]*)", amount)
    assert found  # the settings were checked
    return int(found[1]) * _UNITS[found[2]]


def memory(amount: float) -> str:
    """Rounded up: a limit that is met is a kill."""
    return f"{math.ceil(amount / _STEP) * _STEP >> 20}Mi"
