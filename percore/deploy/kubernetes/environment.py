"""The variables of each app: what anybody may read goes into a ConfigMap, the rest into a Secret."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from percore.deploy.masking import REDACTOR, SECRET_NAME, URL_PASSWORD
from percore.errors import UsageError
from percore.supervisor.config.app import AppConfig

_KEY = re.compile(r"(?!\.{1,2}$)[-._a-zA-Z][-._a-zA-Z0-9]{0,252}")


@dataclass(frozen=True)
class Environment:
    """Of an app. `secret_keys` are keys of the Secret, by variable."""

    plain: Mapping[str, str]
    secret_keys: Mapping[str, str]


def split_environments(
    apps: Sequence[AppConfig], secrets: Sequence[str], names: Mapping[str, str]
) -> tuple[dict[str, Environment], dict[str, str]]:
    """By app, and what the Secret holds. Where apps have different secrets of one name, the app's name is in the key."""
    held: dict[str, str] = {}
    found: dict[str, Environment] = {}
    for app in apps:
        keys: dict[str, str] = {}
        for variable in _secret_names(app, secrets):
            value = _checked(app, variable)
            is_other = held.get(variable, value) != value
            keys[variable] = f"{names[app.name]}.{variable}" if is_other else variable
            held[keys[variable]] = value
        plain = {variable: _checked(app, variable) for variable in sorted(app.env) if variable not in keys}
        found[app.name] = Environment(plain, keys)
    return found, held


def _secret_names(app: AppConfig, secrets: Sequence[str]) -> list[str]:
    return [name for name in sorted(app.env) if name in secrets or is_secret(name, app.env[name])]


def is_secret(name: str, value: str) -> bool:
    """By its name, by a password in it, or because it holds what came out of a vault."""
    is_named_so = bool(SECRET_NAME.search(name) or URL_PASSWORD.match(value))
    return value != "" and (is_named_so or bool(REDACTOR.lines(value)))


def _checked(app: AppConfig, variable: str) -> str:
    value = app.env[variable]
    if not _KEY.fullmatch(variable):
        raise UsageError(
            f"variable '{variable}' of app '{app.name}' cannot be a variable of a pod",
            next="use letters, digits, '_', '.' and '-', and no digit first",
        )
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UsageError(f"variable '{variable}' of app '{app.name}' is not valid UTF-8") from None
    return value
