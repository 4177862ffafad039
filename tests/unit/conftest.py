"""What holds for every unit test."""

from __future__ import annotations

from hypothesis import settings

# How long one example takes says something about the machine, not about percore.
settings.register_profile("percore", deadline=None)
settings.load_profile("percore")
