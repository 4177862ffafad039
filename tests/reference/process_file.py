"""The keys of process files, from the table of options."""

from __future__ import annotations

from collections.abc import Iterator

from percore.supervisor.commands.help.key_notes import EVENT_NOTES, note_of_key
from percore.supervisor.commands.settings import SETTINGS
from percore.supervisor.config.job_reader import JOB_KEYS
from percore.supervisor.config.options import BY_NAME, MODIFIER_BY_NAME, MODIFIERS, OPTIONS, Option, option_of
from percore.supervisor.config.value_types import DURATION, FLAG, SIZE
from tests.reference.markdown import code, table

_UNITS = (("G", 30), ("M", 20), ("K", 10))


def keys(*names: str) -> Iterator[str]:
    found = [MODIFIER_BY_NAME.get(name) or BY_NAME[name] for name in names]
    rows = [(_spelled(each), each.help, each.type.words, _default(each), _in_pm2(each)) for each in found]
    yield from table(("Key", "Meaning", "Value", "Default", "In PM2"), rows)


def key_index() -> Iterator[str]:
    """Every name of a key, in the order of the alphabet."""
    found = {name: each.key for each in (*OPTIONS, *MODIFIERS) for name in (each.key, *each.aliases)}
    rows = [(code(name), option_of(key), code(key) if name != key else "") for name, key in sorted(found.items())]
    yield from table(("Key", "Option", "Another name of"), [(name, code(option), key) for name, option, key in rows])


def live_keys() -> Iterator[str]:
    """One sentence."""
    *some, last = [code(option.key) for option in OPTIONS if option.is_live]
    yield f"Changes of {', '.join(some)} and {last} take effect without new workers."


def job_keys() -> Iterator[str]:
    yield from table(
        ("Key", "Meaning", "Default"), [(code(name), key.help, code(key.default)) for name, key in JOB_KEYS.items()]
    )


def events() -> Iterator[str]:
    yield from table(("Event", "When"), [(code(name), meaning) for name, meaning in EVENT_NOTES.items()])


def settings() -> Iterator[str]:
    yield from table(("Setting", "Meaning"), [(code(name), BY_NAME[name].help) for name in SETTINGS])


def _spelled(option: Option) -> str:
    aliases = ", ".join(map(code, option.aliases))
    return code(option.key) + (f"; also {aliases}" if aliases else "")


def _in_pm2(option: Option) -> str:
    return note_of_key(option.key).pm2 or "the same"


def _default(option: Option) -> str:
    value = option.default
    if note := note_of_key(option.key).default:
        return note
    if option.type is FLAG:
        return str(bool(value)).lower()
    if value is None or value in ((), {}, ""):
        return "none"
    if option.type.unit == SIZE.unit:
        return next(f"{value >> bits}{unit}" for unit, bits in _UNITS if value >> bits)
    if option.type.unit == DURATION.unit:
        return f"{value / 86400:g}d" if value >= 86400 else f"{value:g} s" if value else "0"
    return code(str(value)) if isinstance(value, str) else str(value)
