"""The control CLI: one task per operator verb. A project's tasks.py makes its namespace of them: `invoke --list` shows it."""

from percore.tasks.namespace import make_namespace

__all__ = ["make_namespace"]
