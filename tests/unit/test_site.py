"""The site of the documentation: pages of the repository that are outside of docs/, and links to them."""

from __future__ import annotations

import re

import pytest

from tests.site.pages_of_the_repository import ROOT, move_links


@pytest.mark.parametrize(
    ("source", "uri", "link", "moved"),
    [
        ("README.md", "index.md", "[a](docs/how-to/tls.md#https)", "[a](how-to/tls.md#https)"),
        ("README.md", "index.md", "![a](docs/pictures/deploy.svg)", "![a](pictures/deploy.svg)"),
        (
            "docs/explanation/security.md",
            "explanation/security.md",
            "[a](../../SECURITY.md)",
            "[a](../security-policy.md)",
        ),
        ("docs/tutorial.md", "tutorial.md", "[a](how-to/tls.md)", "[a](how-to/tls.md)"),
        ("docs/tutorial.md", "tutorial.md", "[the code](../percore/errors.py)", "the code"),
        ("docs/tutorial.md", "tutorial.md", "[a](../nothing.md)", "[a](../nothing.md)"),
        ("docs/tutorial.md", "tutorial.md", "[a](https://example.com/docs/a.md)", "[a](https://example.com/docs/a.md)"),
        ("docs/tutorial.md", "tutorial.md", "[a](#a-part)", "[a](#a-part)"),
    ],
)
def test_a_link_of_the_repository_leads_to_the_page_of_the_site(source: str, uri: str, link: str, moved: str) -> None:
    assert move_links(link, source, uri) == moved


def test_pictures_say_what_they_show_and_load_nothing() -> None:
    pictures = sorted((ROOT / "docs" / "pictures").glob("*.svg"))
    assert len(pictures) >= 5
    for path in pictures:
        text = path.read_text()
        assert "<title" in text, path
        assert "<desc" in text, path
        assert not re.search(r"(href|src)=|url\(http|@import|<script", text), path
