"""Which of the given variables a program gets."""

from __future__ import annotations

from collections.abc import Mapping

_KEPT = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR")


def clean_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """What is left of `variables` without what a shell added."""
    return {name: value for name, value in variables.items() if name in _KEPT or name.startswith("LC_")}


def filter_environment(variables: Mapping[str, str], parts: tuple[str, ...]) -> dict[str, str]:
    """`variables` without those whose names contain one of `parts`; an empty part stands for all that is not clean."""
    kept = clean_environment(variables) if "" in parts else variables
    return {name: value for name, value in kept.items() if not any(part and part in name for part in parts)}
