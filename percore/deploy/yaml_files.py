"""YAML and JSON files that people write, with the line of every value. What cannot be read is refused with file and line."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from percore.common.bounds import CONSTRUCTION_FAULTS, YamlFault, compose_yaml, read_file
from percore.deploy.masking import REDACTOR
from percore.deploy.vault.envelope import HEADER, Sealed
from percore.deploy.vault.passwords import open_file
from percore.errors import UsageError

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
HALF = re.compile(r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_TEXT = "tag:yaml.org,2002:str"
_NULL = "tag:yaml.org,2002:null"
_PLAIN = tuple(f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "bool", "timestamp"))
ENVIRONMENTS = ("env", "build_env")

FileStamp = tuple[int, int, int]


def stamp_of(path: str) -> FileStamp:
    """Another one after a change of the file. All zero where there is none, or nobody may see it."""
    try:
        status = os.stat(path)
    except OSError:
        return 0, 0, 0
    return status.st_ino, status.st_size, status.st_mtime_ns


@dataclass(frozen=True)
class Origin:
    """One layer that sets a value: the value as written, and where. Line 0: the file has no lines, as a program's output."""

    value: Any
    file: str
    line: int = 0
    entries: Mapping[str, int] = field(default_factory=dict)  # the line of each entry of a mapping

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file

    def places(self, name: str) -> dict[str, str]:
        """Of the variable of this name, and of its entries (`NAME.ENTRY`)."""
        return {name: self.place, **{f"{name}.{entry}": f"{self.file}:{line}" for entry, line in self.entries.items()}}


class Unsafe(str):
    """A text under the tag `!unsafe`: taken as it is, never as a template."""

    __slots__ = ()


class Document:
    """One file's content as nodes. `root` is None for an empty file."""

    def __init__(self, path: Path, text: str) -> None:
        self.name = str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
        self._text = text
        self._is_json = _is_json(text)
        # Two things YAML does not know in JSON: tabs that separate, and characters in two halves. The positions stay.
        self.root = self._compose(HALF.sub(r"\\u003f", text.replace("\t", " ")) if self._is_json else text)

    def place(self, node: yaml.Node) -> str:
        return f"{self.name}:{node.start_mark.line + 1}"

    def pairs(self, node: yaml.Node, wanted: str = "a mapping of names") -> Iterator[tuple[str, yaml.Node]]:
        """Key and value nodes of a mapping, merge keys followed; names must be texts, written once."""
        if not isinstance(node, yaml.MappingNode):
            raise UsageError(f"{wanted} is wanted here", where=self.place(node))
        loader = self._loader()
        try:
            loader.refuse_repeated(node)
            loader.flatten_mapping(node)
        except yaml.MarkedYAMLError as error:
            raise self._fault(error) from None
        found: dict[str, yaml.Node] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag != _TEXT:
                shown = getattr(key, "value", "this")
                raise UsageError(f"'{shown}' is not a name", where=self.place(key), next="put it in quotes")
            found[self.value(key)] = value
        yield from found.items()

    def value(self, node: yaml.Node) -> Any:
        """The value of a node, typed as YAML 1.1 says, or as JSON says in a file that is JSON."""
        if self._is_json:
            return self._json_value(node)
        try:
            return self._loader().construct_document(node)
        except yaml.MarkedYAMLError as error:
            raise self._fault(error) from None
        except CONSTRUCTION_FAULTS as error:
            raise UsageError(f"the value cannot be read: {error}", where=self.place(node)) from None

    def _json_value(self, node: yaml.Node) -> Any:
        try:
            return from_json(json.loads(self._text[node.start_mark.index : node.end_mark.index]), self.place(node))
        except (ValueError, RecursionError) as error:
            raise UsageError(f"the value cannot be read: {error}", where=self.place(node)) from None

    def origins(self, node: yaml.Node) -> dict[str, Origin]:
        """The variables of a mapping, each with its line."""
        return {
            name: Origin(self._variable(name, value), self.name, value.start_mark.line + 1, self._entries(value))
            for name, value in self.pairs(node, "a mapping of variables")
        }

    def _entries(self, node: yaml.Node) -> dict[str, int]:
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        return {str(key.value): key.start_mark.line + 1 for key, _ in pairs}

    def _variable(self, name: str, node: yaml.Node) -> Any:
        """Environment variables are texts: `1.10`, `12:30` and `yes` stay what is written, whatever YAML makes of them."""
        value = self.value(node)
        if name not in ENVIRONMENTS or not isinstance(node, yaml.MappingNode):
            return value
        texts = {key: entry.value for key, entry in self.pairs(node) if _is_plain(entry)}
        return {**value, **texts}

    def _loader(self) -> Any:
        loader = _PlacedLoader("")
        loader.document = self
        return loader

    def _compose(self, text: str) -> yaml.Node | None:
        try:
            node: yaml.Node | None = compose_yaml(text, _Loader)
        except YamlFault as fault:
            raise UsageError(
                f"not valid YAML: {fault.what}",
                where=fault.place(self.name),
                next="fix that line" if fault.line else "",
            ) from None
        return None if node is None or is_null(node) else node

    def _fault(self, error: yaml.MarkedYAMLError) -> UsageError:
        mark = error.problem_mark or error.context_mark
        where = f"{self.name}:{mark.line + 1}:{mark.column + 1}" if mark else self.name
        return UsageError(f"not valid YAML: {error.problem}", where=where, next="fix that line")


class _PlacedLoader(_Loader):  # type: ignore[misc]
    """Safe YAML with Ansible's tags `!vault` and `!unsafe`; a key written twice, and a tag it does not know, are refused."""

    document: Document

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        self.refuse_repeated(node)
        return super().construct_mapping(node, deep)  # type: ignore[no-any-return]

    def refuse_repeated(self, node: yaml.Node) -> None:
        written: set[tuple[str, str]] = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode) and (key.tag, key.value) in written and key.value != "<<":
                raise yaml.constructor.ConstructorError(
                    None, None, f"key '{key.value}' is written twice", key.start_mark
                )
            if isinstance(key, yaml.ScalarNode):
                written.add((key.tag, key.value))

    def construct_sealed(self, node: yaml.Node) -> Sealed:
        return Sealed(str(self.construct_scalar(node)), self.document.place(node))

    def construct_unsafe(self, node: yaml.Node) -> Any:
        if isinstance(node, yaml.MappingNode):
            return _unsafe(self.construct_mapping(node, deep=True))
        if isinstance(node, yaml.SequenceNode):
            return _unsafe(self.construct_sequence(node, deep=True))
        tag = self.resolve(yaml.ScalarNode, node.value, (True, False))  # as Ansible, in quotes or not
        return _unsafe(self.construct_object(yaml.ScalarNode(tag, node.value, node.start_mark, node.end_mark)))

    def refuse_binary(self, node: yaml.Node) -> None:
        raise yaml.constructor.ConstructorError(None, None, "binary values cannot be variables", node.start_mark)


_PlacedLoader.add_constructor("!vault", _PlacedLoader.construct_sealed)
_PlacedLoader.add_constructor("!vault-encrypted", _PlacedLoader.construct_sealed)
_PlacedLoader.add_constructor("!unsafe", _PlacedLoader.construct_unsafe)
_PlacedLoader.add_constructor("tag:yaml.org,2002:binary", _PlacedLoader.refuse_binary)


def from_json(value: Any, place: str) -> Any:
    """A value as Ansible's own JSON has it: what is encrypted, and what is no template, is marked by a key."""
    if isinstance(value, list):
        return [from_json(entry, place) for entry in value]
    if not isinstance(value, dict):
        return value
    sealed, unsafe = value.get("__ansible_vault"), value.get("__ansible_unsafe")
    if len(value) == 1 and isinstance(sealed, str):
        return Sealed(sealed, place)
    if len(value) == 1 and isinstance(unsafe, str):
        return Unsafe(unsafe)
    return {key: from_json(entry, place) for key, entry in value.items()}


def read_document(path: Path) -> Document:
    """A YAML or JSON file; one that is encrypted as a whole is opened first."""
    return Document(path, read_text(path))


def read_text(path: Path, *, hide_other: Callable[[str], None] = REDACTOR.hide) -> str:
    """`hide_other` hides the values of an encrypted file that is no YAML."""
    try:
        text = read_file(str(path)).decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"it cannot be read: {error.strerror}", where=str(path)) from None
    except UnicodeDecodeError:
        raise UsageError("it is not UTF-8 text", where=str(path)) from None
    return open_file(text, str(path), hide_other=hide_other) if text.startswith(HEADER) else text


def _is_plain(node: yaml.Node) -> bool:
    """A number, a date, true or false; a text and null are what they are."""
    return isinstance(node, yaml.ScalarNode) and not node.style and node.tag in _PLAIN


def is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == _NULL


def _is_json(text: str) -> bool:
    if not text.lstrip().startswith(("{", "[")):
        return False
    try:
        json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        return False
    return True


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Keys written twice make it no JSON: the YAML reader then says where they are."""
    if len(dict(pairs)) != len(pairs):
        raise ValueError
    return dict(pairs)


def _unsafe(value: Any) -> Any:
    if isinstance(value, str):
        return Unsafe(value)
    if isinstance(value, list):
        return [_unsafe(entry) for entry in value]
    return {key: _unsafe(entry) for key, entry in value.items()} if isinstance(value, dict) else value
