"""`percore set`, `get`, `unset`: defaults of this home for keys that a process file leaves out."""

from __future__ import annotations

import json
import os

from percore.common.files import write_file
from percore.common.typing import Any
from percore.errors import UsageError, nearest
from percore.supervisor.base.home import Home
from percore.supervisor.commands.arguments import make_parser
from percore.supervisor.commands.output import say
from percore.supervisor.config.options import BY_NAME, OPTIONS

SETTINGS = tuple(option.key for option in OPTIONS if option.is_setting)
_NAME = "a key that may mean the same for every app: docs/reference/tools.md"
# Settings of PM2's module for log rotation.
_OF_MODULES = {"max_size": "log_max_size", "retain": "log_keep", "compress": "log_compress"}

_INSTEAD = {
    "pm2": "it is not needed: the supervisor remembers its apps by itself",
    "pm2-logrotate": "logs rotate by log_max_size, log_max_age, log_keep and log_compress",
}


def set_setting(arguments: list[str]) -> int:
    parser = make_parser("set")
    parser.add_argument("name", metavar="NAME", help=_NAME)
    parser.add_argument("value", metavar="VALUE", help="as in a process file")
    options = parser.parse_args(arguments)
    name = known_name(options.name)
    value = checked(name, options.value)
    write({**read_settings(), name: value})
    say(f"{name} is {value} for apps that do not set it, from their next start or apply from a file")
    return 0


def unset_setting(arguments: list[str]) -> int:
    parser = make_parser("unset")
    parser.add_argument("name", metavar="NAME", help=_NAME)
    name = known_name(parser.parse_args(arguments).name)
    write({key: value for key, value in read_settings().items() if key != name})
    return 0


def print_settings(arguments: list[str]) -> int:
    parser = make_parser("get")
    parser.add_argument("name", metavar="NAME", nargs="?", help="only this one")
    given = parser.parse_args(arguments).name
    settings = read_settings()
    if given:
        name = known_name(given)
        if name not in settings:
            raise UsageError(f"'{name}' is not set", next=f"percore set {name} VALUE")
        print(settings[name])
        return 0
    for name, value in sorted(settings.items()):
        print(f"{name} = {value}")
    if not settings:
        say("nothing is set; possible settings: " + ", ".join(SETTINGS))
    return 0


def read_settings() -> dict[str, Any]:
    """Raises UsageError where the file holds anything else."""
    path = settings_path()
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UsageError(f"the settings cannot be read: {error}", where=path, next=f"repair it, or rm {path}") from None
    if not isinstance(content, dict):
        raise UsageError("it must be a mapping of names to values", where=path, next=f"rm {path}")
    return {known_name(name, where=path): checked(name, value, where=path) for name, value in content.items()}


def settings_path() -> str:
    return os.path.join(Home.of_user().path, "settings.json")


def known_name(given: str, *, where: str = "") -> str:
    module, _, rest = given.partition(":")
    name = _OF_MODULES.get(rest, given) if module == "pm2-logrotate" else given.replace("-", "_")
    if name in SETTINGS:
        return name
    if module in _INSTEAD and rest:
        raise UsageError(
            f"'{given}' is a setting of PM2 that percore does not have", where=where, next=_INSTEAD[module]
        )
    like = nearest(name, list(SETTINGS))
    hint = f"did you mean '{like}'?" if like else f"one of {', '.join(SETTINGS)}"
    raise UsageError(f"there is no setting '{given}'", where=where, next=hint)


def checked(name: str, value: Any, *, where: str = "") -> Any:
    """The value as it is written, once the key takes it."""
    try:
        BY_NAME[name].type.read(value)
    except (ValueError, TypeError) as error:
        raise UsageError(f"'{name}' must be {error}, not '{value}'", where=where) from None
    return value


def write(settings: dict[str, Any]) -> None:
    Home.of_user().make()
    write_file(settings_path(), json.dumps(settings, indent=2, sort_keys=True).encode() + b"\n")
