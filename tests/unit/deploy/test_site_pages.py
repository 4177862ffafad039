"""docs/how-to/tls.md: what it says can be typed, and is what the code does."""

from __future__ import annotations

import copy
import re
import shlex
import shutil
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml
from invoke.parser import Parser

from percore.tasks import make_namespace
from tests.nginx import PROJECT, Nginx, make_pair, render_site, text_of

PAGE = (PROJECT / "docs" / "how-to" / "tls.md").read_text()


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def variables_of(block: str) -> dict[str, Any]:
    """Of a whole inventory, or of lines below its `vars`."""
    found: dict[str, Any] = yaml.safe_load(textwrap.dedent(block))
    return dict(found["all"]["vars"]) if "all" in found else found


def test_every_command_of_the_page_is_one_that_invoke_takes() -> None:
    tasks = copy.deepcopy(make_namespace(str(PROJECT / "tasks.py")))  # a parser takes the help out of them
    parser = Parser(contexts=tasks.to_contexts())
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    for line in lines:
        program, *words = shlex.split(line)
        assert program == "invoke"
        parser.parse_argv(words)
    assert len(lines) >= 6


@pytest.mark.parametrize("block", blocks("yaml"))
def test_every_example_of_the_page_makes_a_site_that_nginx_takes(tmp_path: Path, block: str) -> None:
    given = variables_of(block)
    certificate, key = make_pair()
    given |= {"tls_certificate": certificate, "tls_key": key} if "tls_certificate" in given else {}
    (tmp_path / "pair.pem").write_text(certificate + key)
    given |= {"nginx_certificate": f"{tmp_path}/pair.pem"} if "nginx_certificate" in given else {}
    state = render_site(tmp_path, **given)
    made = Nginx(tmp_path / "nginx")
    made.write(text_of(state))
    if shutil.which("nginx"):
        made.judge()
