"""The container image: its name, what it is made of, and how it is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from percore.deploy.image.reference import image_reference
from percore.errors import UsageError
from tests.unit.deploy.apps import settings

RELEASE = "20260102030405-1a2b3c4d"


@pytest.mark.parametrize(
    "name",
    ["shop", "team/shop", "registry.example.com/team/shop", "localhost:5000/shop", "Registry.Example:443/a-b/c__d.e"],
)
def test_an_image_is_called_by_its_repository_and_its_release(tmp_path: Path, name: str) -> None:
    assert image_reference(settings(tmp_path, image_repository=name), RELEASE) == f"{name}:{RELEASE}"


def test_without_a_repository_an_image_is_called_as_the_app(tmp_path: Path) -> None:
    assert image_reference(settings(tmp_path), RELEASE) == f"web:{RELEASE}"
    with pytest.raises(UsageError, match=r"'Shop_' cannot be the name of an image.*set image_repository.*shop"):
        image_reference(settings(tmp_path, app_name="Shop_"), RELEASE)


@pytest.mark.parametrize(
    "name", ["Shop", "shop:1.0", "a//b", "/a", "a/", "Team/shop", "a b", "a@sha256:1", "-a", "a" * 201]
)
def test_what_no_registry_takes_as_a_name_is_refused_with_the_variable(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="variable 'image_repository' should be the name of an image without a tag"):
        settings(tmp_path, image_repository=name)


def test_a_tag_is_a_release_id_and_nothing_else(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'latest' is not a release id"):
        image_reference(settings(tmp_path), "latest")
