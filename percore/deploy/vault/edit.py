"""`invoke secrets.*`: files that are encrypted as a whole, and single `!vault` values inside YAML, in Ansible's format.

A value that was not changed keeps its ciphertext, so that a diff shows what was.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from percore.common.bounds import YamlFault, compose_yaml, read_file
from percore.common.passwords import for_programs
from percore.deploy.vault.envelope import DEFAULT_ID, HEADER, parse_envelope, seal
from percore.deploy.vault.passwords import Keyring
from percore.errors import UsageError

TAGS = ("!vault", "!vault-encrypted")


@dataclass(frozen=True)
class Value:
    """A scalar under `!vault` in the text of a YAML file."""

    path: tuple[str, ...]
    text: str
    start: int
    end: int
    line: int
    indent: int
    in_flow: bool


def encrypt(path: Path, ring: Keyring, vault_id: str = DEFAULT_ID) -> None:
    content = _read(path)
    if content.startswith(HEADER.encode()):
        raise UsageError("it is encrypted already", where=str(path), next=f"invoke secrets.edit {path}")
    _write(path, _sealed_file(content, ring, vault_id))


def decrypt(path: Path, ring: Keyring) -> None:
    """The whole file, or every `!vault` value in it, as plain text."""
    content = _read(path)
    if content.startswith(HEADER.encode()):
        _write(path, ring.open_bytes(_text(content, path), str(path)))
    else:
        text = _text(content, path)
        _write(path, replace_values(text, path, lambda value: _plain_scalar(value, ring, path, tag="")).encode())


def view(path: Path, ring: Keyring) -> bytes:
    """What the file says in plain text; nothing is written."""
    content = _read(path)
    if content.startswith(HEADER.encode()):
        return ring.open_bytes(_text(content, path), str(path))
    return replace_values(
        _text(content, path), path, lambda value: _plain_scalar(value, ring, path, tag="!vault ")
    ).encode()


def rekey(path: Path, ring: Keyring, new: Keyring, new_id: str, *, only: str = "") -> None:
    """Encrypt with another password what this file holds encrypted; `only` what has this vault id."""
    content = _read(path)

    def is_meant(ciphertext: str, place: str) -> bool:
        return not only or parse_envelope(ciphertext, place).vault_id == only

    if content.startswith(HEADER.encode()):
        if is_meant(_text(content, path), str(path)):
            _write(path, _sealed_file(ring.open_bytes(_text(content, path), str(path)), new, new_id))
        return

    def change(value: Value) -> str | None:
        place = f"{path}:{value.line}"
        return _sealed_scalar(ring.open(value.text, place), new, new_id, value) if is_meant(value.text, place) else None

    _write(path, replace_values(_text(content, path), path, change, required=True).encode())


def edit(path: Path, ring: Keyring, vault_id: str = DEFAULT_ID, *, editor: str = "") -> bool:
    """Open the file in an editor in plain text; False when nothing was changed. A new file becomes an encrypted one."""
    content = _read(path) if path.exists() else b""
    if content and not content.startswith(HEADER.encode()):
        return _edit_values(path, _text(content, path), ring, vault_id, editor)
    plain = ring.open_bytes(_text(content, path), str(path)) if content else b""
    with private_copy(plain, path.suffix) as copy:
        _run_editor(copy, editor)
        changed = copy.read_bytes()
    if changed == plain:
        return False
    kept_id = parse_envelope(_text(content, path), str(path)).vault_id if content else vault_id
    _write(path, _sealed_file(changed, ring, kept_id))
    return True


def encrypt_string(plain: str, ring: Keyring, vault_id: str = DEFAULT_ID, *, name: str = "") -> str:
    """A `!vault` value as YAML, to be put into a file of variables."""
    lines = "\n".join(
        f"          {line}" for line in seal(plain.encode(), ring.password(vault_id), vault_id).splitlines()
    )
    return f"{name + ': ' if name else ''}!vault |\n{lines}"


# -- single values ----------------------------------------------------------------------------------------------------


def find_values(text: str, path: Path) -> list[Value]:
    """All `!vault` scalars of a YAML text, in the order of the text."""
    try:
        root = compose_yaml(text, yaml.SafeLoader)
    except YamlFault as fault:
        raise UsageError(
            f"not valid YAML: {fault.what}", where=fault.place(str(path)), next="mend that line" if fault.line else ""
        ) from None
    found: dict[int, Value] = {}
    if root is not None:
        _collect(root, (), text, found, in_flow=False)
    return [found[start] for start in sorted(found)]


def _collect(node: yaml.Node, path: tuple[str, ...], text: str, found: dict[int, Value], *, in_flow: bool) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            _collect(
                value, (*path, str(getattr(key, "value", ""))), text, found, in_flow=in_flow or bool(node.flow_style)
            )
    elif isinstance(node, yaml.SequenceNode):
        for index, entry in enumerate(node.value):
            _collect(entry, (*path, str(index)), text, found, in_flow=in_flow or bool(node.flow_style))
    elif isinstance(node, yaml.ScalarNode) and node.tag in TAGS:
        start, end = node.start_mark.index, node.end_mark.index
        line = text[text.rfind("\n", 0, start) + 1 :]
        indent = len(line) - len(line.lstrip(" -")) + 2
        if node.style in ("|", ">"):
            end = start + len(text[start:end].rstrip())  # the blank lines and comments behind a block are not its own
        found[start] = Value(path, node.value, start, end, node.start_mark.line + 1, indent, in_flow)


def replace_values(text: str, path: Path, change: Callable[[Value], str | None], *, required: bool = False) -> str:
    """The text with every `!vault` scalar replaced by what `change` says; None keeps it to the letter."""
    values = find_values(text, path)
    if not values and required:
        raise UsageError("nothing in it is encrypted", where=str(path), next=f"invoke secrets.encrypt {path}")
    parts: list[str] = []
    position = 0
    for value in values:
        new = change(value)
        parts += [text[position : value.start], text[value.start : value.end] if new is None else new]
        position = value.end
    return "".join([*parts, text[position:]])


def _edit_values(path: Path, text: str, ring: Keyring, vault_id: str, editor: str) -> bool:
    if not find_values(text, path):
        raise UsageError("nothing in it is encrypted", where=str(path), next=f"invoke secrets.encrypt {path}")
    before = {value.path: value for value in find_values(text, path)}
    plain = {key: ring.open(value.text, f"{path}:{value.line}") for key, value in before.items()}
    shown = replace_values(text, path, lambda value: _plain_scalar(value, ring, path, tag="!vault "))

    def close(value: Value) -> str:
        former = before.get(value.path)
        if former is not None and plain[value.path] == value.text and former.indent == value.indent:
            return text[former.start : former.end]
        kept = next((before[key].text for key in before if plain[key] == value.text), None)
        if kept or value.text.startswith(HEADER):
            return _scalar(kept or value.text, value)
        kept_id = parse_envelope(former.text, str(path)).vault_id if former else vault_id
        return _sealed_scalar(value.text, ring, kept_id, value)

    with private_copy(shown.encode(), path.suffix) as copy:
        while True:
            _run_editor(copy, editor)
            changed = _text(copy.read_bytes(), path)
            if changed == shown:
                return False
            try:
                closed = replace_values(changed, path, close)
                break
            except UsageError as error:
                _ask_to_go_on(error)
    _write(path, closed.encode())
    return True


def _plain_scalar(value: Value, ring: Keyring, path: Path, *, tag: str) -> str:
    plain = ring.open(value.text, f"{path}:{value.line}")
    first, *others = plain.removesuffix("\n").split("\n")
    is_block = others and not value.in_flow and first[:1].strip() and not plain.endswith("\n\n")
    if is_block and all(line.replace("\t", "").isprintable() for line in (first, *others)):
        sign = "|" if plain.endswith("\n") else "|-"
        return _indented(f"{tag}{sign}", [first, *others], value)
    return f"{tag}{json.dumps(plain, ensure_ascii=False)}"


def _sealed_scalar(plain: str, ring: Keyring, vault_id: str, value: Value) -> str:
    return _scalar(seal(plain.encode(), ring.password(vault_id), vault_id), value)


def _scalar(ciphertext: str, value: Value) -> str:
    if value.in_flow:
        return f"!vault {json.dumps(ciphertext)}"
    return _indented("!vault |", ciphertext.split("\n"), value)


def _indented(head: str, lines: list[str], value: Value) -> str:
    return "\n".join([head, *(f"{' ' * value.indent}{line}" if line else "" for line in lines)])


# -- the editor and its file ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def private_copy(content: bytes, suffix: str) -> Iterator[Path]:
    """A file in a folder that only this user can enter, in memory where there is such a place; always removed."""
    with _signals_raise(), tempfile.TemporaryDirectory(prefix="percore-", dir=_memory_folder()) as folder:
        path = Path(folder) / f"secrets{suffix}"
        path.touch(mode=0o600)
        path.write_bytes(content)
        yield path


def _memory_folder() -> str | None:
    folders = [os.environ.get("XDG_RUNTIME_DIR", ""), "/dev/shm"]
    return next((folder for folder in folders if folder and os.access(folder, os.W_OK | os.X_OK)), None)


@contextlib.contextmanager
def _signals_raise() -> Iterator[None]:
    """A closed terminal or a kill must not leave the plain text behind."""

    def stop(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    numbers = (signal.SIGTERM, signal.SIGHUP)
    former = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _run_editor(path: Path, editor: str) -> None:
    words = shlex.split(editor or os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi")
    try:
        done = subprocess.run([*words, str(path)], check=False, env=for_programs())
    except OSError as error:
        raise UsageError(f"editor '{words[0]}' cannot be run: {error.strerror}", next="set EDITOR") from None
    if done.returncode != 0:
        raise UsageError(f"editor '{words[0]}' ended with {done.returncode}; nothing was saved")


def _ask_to_go_on(error: UsageError) -> None:
    if not sys.stdin.isatty():
        raise UsageError(f"{error.what}; nothing was saved", where=error.where, next=error.next)
    try:
        input(f"percore: {error}\nEnter to edit again, Ctrl-C to throw the changes away ")
    except EOFError:
        raise error from None


# -- files ------------------------------------------------------------------------------------------------------------


def _sealed_file(content: bytes, ring: Keyring, vault_id: str) -> bytes:
    return seal(content, ring.password(vault_id), vault_id).encode() + b"\n"


def _read(path: Path) -> bytes:
    try:
        return read_file(str(path))
    except OSError as error:
        raise UsageError(f"it cannot be read: {error.strerror}", where=str(path)) from None


def _text(content: bytes, path: Path) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise UsageError("it is neither encrypted nor UTF-8 text", where=str(path)) from None


def _write(path: Path, content: bytes) -> None:
    """In one step, with the file's own rights; a new file is for this user alone."""
    path = path.resolve()
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as target:
            target.write(content)
            target.flush()
            os.fsync(target.fileno())
        if path.exists():
            shutil.copymode(path, name)
        os.replace(name, path)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise UsageError(f"it cannot be written: {error.strerror}", where=str(path)) from None
