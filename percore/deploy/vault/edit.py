"""`invoke secrets.*`: files that are encrypted as a whole, and single `!vault` values inside YAML, in Ansible's format.

A value that was not changed keeps its ciphertext, so that a diff shows what was.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from percore.common.bounds import read_file
from percore.common.passwords import for_programs
from percore.deploy.command_line import to_type
from percore.deploy.vault.envelope import DEFAULT_ID, HEADER, parse_envelope, seal
from percore.deploy.vault.passwords import Keyring
from percore.deploy.vault.values import VaultValue, find_values, plain_scalar, replace_values, scalar, sealed_scalar
from percore.errors import UsageError


def encrypt(path: Path, ring: Keyring, vault_id: str = DEFAULT_ID) -> None:
    content = _read(path)
    if content.startswith(HEADER.encode()):
        raise UsageError("it is encrypted already", where=str(path), next=to_type(f"secrets.edit {path}"))
    _write(path, _sealed_file(content, ring, vault_id))


def decrypt(path: Path, ring: Keyring) -> None:
    """The whole file, or every `!vault` value in it, as plain text."""
    content = _read(path)
    if content.startswith(HEADER.encode()):
        _write(path, ring.open_bytes(_text(content, path), str(path)))
    else:
        text = _text(content, path)
        _refuse_hidden(text, path)
        _write(
            path,
            replace_values(text, path, lambda value: plain_scalar(value, ring, path, tag=""), required=True).encode(),
        )


def view(path: Path, ring: Keyring) -> bytes:
    """The file in plain text; nothing is written."""
    content = _read(path)
    if content.startswith(HEADER.encode()):
        return ring.open_bytes(_text(content, path), str(path))
    text = _text(content, path)
    _refuse_hidden(text, path)
    return replace_values(
        text, path, lambda value: plain_scalar(value, ring, path, tag="!vault "), required=True
    ).encode()


def _refuse_hidden(text: str, path: Path) -> None:
    """A vault text behind something else: Ansible does not open it either."""
    lines = text.lstrip("\ufeff").splitlines()
    number = next((number for number, line in enumerate(lines, 1) if line.startswith(HEADER)), None)
    if number is not None:
        what = "the vault text does not begin with the first byte of the file"
        raise UsageError(what, where=f"{path}:{number}", next=f"remove what stands before {HEADER}")


def rekey(path: Path, ring: Keyring, new: Keyring, new_id: str, *, only: str = "") -> None:
    """Encrypt with another password what this file holds encrypted; `only` what has this vault id."""
    content = _read(path)

    def is_meant(ciphertext: str, place: str) -> bool:
        return not only or parse_envelope(ciphertext, place).vault_id == only

    if content.startswith(HEADER.encode()):
        if is_meant(_text(content, path), str(path)):
            _write(path, _sealed_file(ring.open_bytes(_text(content, path), str(path)), new, new_id))
        return

    def change(value: VaultValue) -> str | None:
        place = f"{path}:{value.line}"
        return sealed_scalar(ring.open(value.text, place), new, new_id, value) if is_meant(value.text, place) else None

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


def _edit_values(path: Path, text: str, ring: Keyring, vault_id: str, editor: str) -> bool:
    if not find_values(text, path):
        raise UsageError("nothing in it is encrypted", where=str(path), next=to_type(f"secrets.encrypt {path}"))
    before = {value.path: value for value in find_values(text, path)}
    plain = {key: ring.open(value.text, f"{path}:{value.line}") for key, value in before.items()}
    shown = replace_values(text, path, lambda value: plain_scalar(value, ring, path, tag="!vault "))

    def close(value: VaultValue) -> str:
        former = before.get(value.path)
        if former is not None and plain[value.path] == value.text and former.indent == value.indent:
            return text[former.start : former.end]
        kept = next((before[key].text for key in before if plain[key] == value.text), None)
        if kept or value.text.startswith(HEADER):
            return scalar(kept or value.text, value)
        kept_id = parse_envelope(former.text, str(path)).vault_id if former else vault_id
        return sealed_scalar(value.text, ring, kept_id, value)

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


# -- the editor and its file ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def private_copy(content: bytes, suffix: str) -> Iterator[Path]:
    """A file in a directory that only this user can enter, in memory where there is such a place; always removed."""
    with _signals_raise(), tempfile.TemporaryDirectory(prefix="percore-", dir=_memory_directory()) as directory:
        path = Path(directory) / f"secrets{suffix}"
        path.touch(mode=0o600)
        path.write_bytes(content)
        yield path


def _memory_directory() -> str | None:
    directories = [os.environ.get("XDG_RUNTIME_DIR", ""), "/dev/shm"]
    return next((directory for directory in directories if directory and os.access(directory, os.W_OK | os.X_OK)), None)


@contextlib.contextmanager
def _signals_raise() -> Iterator[None]:
    """A closed terminal or a kill must not leave the plain text behind."""

    def stop(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    numbers = [
        getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)
    ]  # Windows has no SIGHUP
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
