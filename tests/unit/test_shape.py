"""The shape of the house: how large its parts are, and how much each must know of the others.

A figure may become smaller; the test says when it did, and the table here follows. One that becomes larger needs a reason.
"""

from __future__ import annotations

import ast
import functools
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tomllib

import percore

ROOT = Path(percore.__file__).parent
PATHS = sorted(ROOT.rglob("*.py"))
TREES = {path: ast.parse(path.read_text()) for path in PATHS}
CLASSES = [(path, node) for path, tree in TREES.items() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
SUPERVISOR = ROOT / "supervisor"


def methods_of(node: ast.ClassDef) -> list[ast.FunctionDef]:
    return [member for member in node.body if isinstance(member, ast.FunctionDef)]


def attributes_of(node: ast.ClassDef) -> set[str]:
    return {
        found.attr
        for method in methods_of(node)
        for found in ast.walk(method)
        if isinstance(found, ast.Attribute)
        and isinstance(found.ctx, ast.Store)
        and isinstance(found.value, ast.Name)
        and found.value.id == "self"
    }


def imports_of(tree: ast.Module) -> set[str]:
    """The modules of percore that it names, wherever in it."""
    found = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {node.module for node in found if node.module and node.module.startswith("percore")}


def repeated_names() -> list[str]:
    counts = Counter(node.name for _, node in CLASSES)
    return [name for name, count in counts.items() if count > 1]


def lines_of(path: Path) -> int:
    return len(path.read_text().splitlines())


def callbacks() -> Iterator[str]:
    """What objects of the supervisor are given to call: arguments of constructors, and fields."""
    for path, node in CLASSES:
        if SUPERVISOR not in path.parents:
            continue
        makers = [method for method in methods_of(node) if method.name == "__init__"]
        arguments = [argument for maker in makers for argument in (*maker.args.args, *maker.args.kwonlyargs)]
        fields = [member for member in node.body if isinstance(member, ast.AnnAssign)]
        for each in (*arguments, *fields):
            if each.annotation and "Callable" in ast.unparse(each.annotation):
                yield f"{node.name}: {ast.unparse(each)}"


def files_in(wanted: Callable[[Path], bool]) -> int:
    counts = Counter(path.parent for path in PATHS if path.name != "__init__.py")
    return max(count for package, count in counts.items() if wanted(package))


def layers() -> int:
    settings = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())
    contracts = settings["tool"]["importlinter"]["contracts"]
    return next(len(each["layers"]) for each in contracts if each["name"] == "the supervisor's layers")


def long_functions() -> list[str]:
    functions = [node for tree in TREES.values() for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return [node.name for node in functions if node.end_lineno and node.end_lineno - node.lineno >= 50]


def lines_below(place: str) -> int:
    return sum(lines_of(path) for path in PATHS if ROOT / place in path.parents)


# A part that does more may be larger: its figure is changed together with what it does. Why they are as large as they are
# is told in docs/architecture.md, "Sizes".
MOST_LINES = {
    "common": 1_340,
    "supervisor/commands": 6_705,
    "supervisor/config": 3_115,
    "supervisor": 26_100,
    "host": 7_950,
    "deploy": 23_900,
    "tasks": 1_130,
    "web": 3_250,
    "lab": 850,
}
LINES: dict[str, tuple[int, Callable[[], int]]] = {
    f"lines of {part}": (most, functools.partial(lines_below, part)) for part, most in MOST_LINES.items()
}

FIGURES: dict[str, tuple[int, Callable[[], int]]] = {
    "files in the largest package but commands": (16, lambda: files_in(lambda package: package.name != "commands")),
    "files in commands": (28, lambda: files_in(lambda package: package.name == "commands")),
    "layers of the supervisor": (11, layers),
    "classes of more than 15 methods": (2, lambda: sum(len(methods_of(node)) > 15 for _, node in CLASSES)),
    "attributes of the widest class": (16, lambda: max(len(attributes_of(node)) for _, node in CLASSES)),
    "imports of the widest module": (16, lambda: max(len(imports_of(tree)) for tree in TREES.values())),
    "modules of more than 300 lines": (3, lambda: sum(lines_of(path) > 300 for path in PATHS)),
    "functions of more than 50 lines": (0, lambda: len(long_functions())),
    "class names that mean two things": (0, lambda: len(repeated_names())),
    "callbacks in the supervisor": (21, lambda: len(list(callbacks()))),
    **LINES,
}
"""The most that is allowed, and how it is measured. That no two modules need each other is a contract of pyproject.toml."""


@pytest.mark.parametrize("figure", FIGURES)
def test_the_house_keeps_its_shape(figure: str) -> None:
    most, measure = FIGURES[figure]
    found = measure()
    assert found <= most, f"{figure}: {found}, at most {most}"
