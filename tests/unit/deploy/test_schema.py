"""Values of each kind: what is taken, as what, and the sentence for what is not."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from percore.deploy import schema
from percore.errors import UsageError


@pytest.mark.parametrize(
    ("kind", "value", "read"),
    [
        (schema.TEXT, 5, "5"),
        (schema.PORT, "443", 443),
        (schema.FLAG, False, False),
        (schema.optional(schema.PORT), "", None),
        (schema.optional(schema.PORT), None, None),
        (schema.number(10), "2.5", 2.5),
        (schema.TEXTS, ["a", 1], ["a", "1"]),
        (schema.TEXT_OR_TEXTS, "a", ["a"]),
        (schema.lists_of(schema.TEXT), "a", ("a",)),
        (schema.ENVIRONMENT_VALUE, True, "true"),
    ],
)
def test_a_value_that_fits_is_read(kind: schema.Kind[Any], value: object, read: object) -> None:
    assert kind.read(value, "x", "here") == read


@pytest.mark.parametrize(
    ("kind", "value", "told"),
    [
        (schema.TEXT, "", "x should be a text and is ''"),
        (schema.TEXT, "a\0b", r"x should be a text and is 'a\x00b'"),
        (schema.TEXT, None, "x should be a text and is None"),
        (schema.PORT, 65536, "x should be a port from 1 to 65535 and is 65536"),
        (schema.PORT, True, "x should be a port from 1 to 65535 and is True"),
        (schema.whole(3), "2", "x should be a whole number from 3 to 1000000 and is '2'"),
        (schema.number(10), float("nan"), "x should be a number from 0 to 10 and is nan"),
        (schema.number(10), 10**400, "x should be a number from 0 to 10 and is"),
        (schema.FLAG, "yes", "x should be true or false and is 'yes'"),
        (schema.MAPPING, [1], "x should be a mapping and is a list"),
        (schema.LIST, {"a": 1}, "x should be a list and is a mapping"),
        (schema.optional(schema.PORT), 0, "x should be a port from 1 to 65535 and is 0"),
        (schema.lists_of(schema.TEXT), ["a", None], "x should be a text, or a list of them and is a list"),
        (
            schema.ENVIRONMENT_VALUE,
            None,
            "x should be a text (in quotes), a whole number, or true or false and is None",
        ),
        (schema.SAFE_PATH, "/srv/a b", "x should be an absolute path"),
        (schema.PATH, "/srv/../etc", "x should be an absolute path without '..'"),
        (schema.choice("a", "b"), [], "x should be a or b and is a list"),
    ],
)
def test_a_value_that_does_not_fit_is_told_with_its_name_and_place(
    kind: schema.Kind[Any], value: object, told: str
) -> None:
    with pytest.raises(UsageError) as caught:
        kind.read(value, "x", "all.yml:3")
    assert caught.value.what.startswith(told)
    assert caught.value.where == "all.yml:3"


def test_the_key_on_is_read_as_it_is_written_though_yaml_means_true() -> None:
    read = yaml.safe_load("{run: x, on: [deploy]}")
    assert schema.require_keys(read, ("run", "on"), "hooks.failed", "here") == {"run": "x", "on": ["deploy"]}
    with pytest.raises(UsageError, match=r"key 'otel\.True' is not known"):
        schema.require_keys({True: 1}, ("endpoint",), "otel", "here")
