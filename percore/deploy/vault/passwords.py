"""Vault passwords: from a file, a program, the environment or a prompt, each asked for once and only when needed."""

from __future__ import annotations

import getpass
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import yaml

from percore.common.bounds import YamlFault, compose_yaml, read_file
from percore.common.passwords import for_programs
from percore.deploy.command_line import to_type
from percore.deploy.masking import REDACTOR
from percore.deploy.vault.envelope import DEFAULT_ID, HEADER, Sealed, open_envelope, parse_envelope
from percore.errors import UsageError

PASSWORD = "PERCORE_VAULT_PASSWORD"
PASSWORD_FILE = "ANSIBLE_VAULT_PASSWORD_FILE"
IDENTITIES = "ANSIBLE_VAULT_IDENTITY_LIST"
ID_MATCH = "ANSIBLE_VAULT_ID_MATCH"
PROGRAM_SECONDS = 60
PLAIN_TAGS = [f"tag:yaml.org,2002:{name}" for name in ("int", "float", "bool", "null")]
HOW = f"set {PASSWORD} or {PASSWORD_FILE}"


@dataclass
class Keyring:
    """Passwords by vault id. A source is `prompt`, or the path of a file that holds the password or prints it when run."""

    sources: list[tuple[str, str]]
    known: dict[str, bytes] = field(default_factory=dict, repr=False)
    only_own_id: bool = False  # ANSIBLE_VAULT_ID_MATCH: no other password is tried

    def password(self, vault_id: str, place: str = "") -> bytes:
        """The password to encrypt with under this id."""
        for name, source in self.sources:
            if name == vault_id:
                return self._read(name, source)
        if vault_id == DEFAULT_ID and not self.sources:
            return self._read(vault_id, "prompt", place)
        known = ", ".join(dict.fromkeys(name for name, _ in self.sources)) or "none"
        raise UsageError(f"there is no password for vault id '{vault_id}' (known: {known})", where=place, next=HOW)

    def open(self, text: str, place: str) -> str:
        try:
            return self.open_bytes(text, place).decode()
        except UnicodeDecodeError:
            raise UsageError("what the vault text holds is not UTF-8 text", where=place) from None

    def open_bytes(self, text: str, place: str) -> bytes:
        """What a vault text holds: the password of its own id is tried first, then all others, as Ansible does.

        A source that cannot be read is passed over as long as another one opens it: not everyone has every password.
        """
        envelope = parse_envelope(text, place)
        sources = self.sources or [(DEFAULT_ID, "prompt")]
        faults: list[UsageError] = []
        for name, source in sorted(sources, key=lambda pair: pair[0] != envelope.vault_id):
            if self.only_own_id and name != envelope.vault_id:
                continue
            try:
                plain = open_envelope(envelope, self._read(name, source, place))
            except UsageError as fault:
                faults.append(fault)
                continue
            if plain is not None:
                return plain
        if faults:
            raise faults[0]
        tried = ", ".join(dict.fromkeys(name for name, _ in sources))
        raise UsageError(
            f"no password opens this vault text of id '{envelope.vault_id}' (tried: {tried})", where=place, next=HOW
        )

    def _read(self, vault_id: str, source: str, place: str = "") -> bytes:
        if source not in self.known:
            is_prompt = source == "prompt"
            found = self._prompt(vault_id, place) if is_prompt else read_password(Path(source), vault_id)
            self.known[source] = self._unsealed(found, source) if found.startswith(HEADER.encode()) else found
        return self.known[source]

    def _unsealed(self, content: bytes, source: str) -> bytes:
        """A password file may be encrypted itself, with the password of another source."""
        others = [pair for pair in self.sources if pair[1] != source]
        if not others:
            raise UsageError("the vault password file is encrypted itself", where=source, next=f"decrypt it, or {HOW}")
        ring = Keyring(others, self.known, self.only_own_id)
        return ring.open_bytes(content.decode(errors="replace"), source).strip(b" \t\r\n")

    def _prompt(self, vault_id: str, place: str) -> bytes:
        if not sys.stdin.isatty():
            raise UsageError("a vault password is needed", where=place, next=HOW)
        return getpass.getpass(f"Vault password ({vault_id}): ").encode()


def keyring_from(environment: Mapping[str, str], named: str = "") -> Keyring:
    """`named` are `--vault-id` words, `ID@SOURCE` or SOURCE; then those of the environment, under Ansible's names and ours."""
    sources = [_parse_identity(word) for word in named.split(",") if word]
    sources += [_parse_identity(word.strip()) for word in environment.get(IDENTITIES, "").split(",") if word.strip()]
    known: dict[str, bytes] = {}
    if environment.get(PASSWORD):
        sources.append((DEFAULT_ID, PASSWORD))
        known[PASSWORD] = environment[PASSWORD].encode()
    if environment.get(PASSWORD_FILE):
        sources.append((DEFAULT_ID, environment[PASSWORD_FILE]))
    return Keyring(sources, known, environment.get(ID_MATCH, "").lower() in ("1", "true", "yes", "on", "t", "y"))


def new_keyring(named: str) -> tuple[Keyring, str]:
    """The password to encrypt with from now on, and its vault id; asked for twice when no source is named."""
    if named:
        vault_id, source = _parse_identity(named)
        if source != "prompt":
            return Keyring([(vault_id, source)]), vault_id
    else:
        vault_id = DEFAULT_ID
    if not sys.stdin.isatty():
        raise UsageError("a new vault password is needed", next="name its file: --new FILE")
    password = getpass.getpass(f"New vault password ({vault_id}): ")
    if not password or getpass.getpass("The same again: ") != password:
        raise UsageError("the two passwords are not the same, or empty; nothing was changed")
    return Keyring([(vault_id, "prompt")], {"prompt": password.encode()}), vault_id


def read_password(path: Path, vault_id: str) -> bytes:
    """The content of a file, or what a program prints; `*-client` programs are told the vault id."""
    path = path.expanduser()
    if not path.is_file():
        raise UsageError("the vault password file does not exist", where=str(path))
    try:
        content = _run_program(path, vault_id) if os.access(path, os.X_OK) else read_file(str(path))
    except OSError as error:
        raise UsageError(f"the vault password cannot be read: {error.strerror}", where=str(path)) from None
    password = content.strip(b" \t\r\n")
    if not password:
        raise UsageError("the vault password is empty", where=str(path))
    return password


def _run_program(path: Path, vault_id: str) -> bytes:
    words = [str(path.absolute()), *(["--vault-id", vault_id] if path.stem.endswith("-client") else [])]
    try:
        done = subprocess.run(words, stdout=subprocess.PIPE, timeout=PROGRAM_SECONDS, check=False, env=for_programs())
    except subprocess.TimeoutExpired:
        raise UsageError(f"it printed no vault password within {PROGRAM_SECONDS} s", where=str(path)) from None
    except OSError as error:
        raise UsageError(
            f"it is executable and cannot be run: {error.strerror}",
            where=str(path),
            next="chmod -x, if it is no program",
        ) from None
    if done.returncode != 0:
        raise UsageError(f"it should print the vault password and ended with {done.returncode}", where=str(path))
    return done.stdout


def _parse_identity(word: str) -> tuple[str, str]:
    name, separator, source = word.partition("@")
    if separator and name and not re.fullmatch(r"[^\s;,@]{1,100}", name):
        raise UsageError(f"{ascii(name)[:80]} cannot be a vault id", next="use letters, digits, '-' and '_'")
    return (name or DEFAULT_ID, source) if separator else (DEFAULT_ID, word)


@cache
def keyring() -> Keyring:
    """That of this run, from the environment."""
    return keyring_from(os.environ)


def open_sealed(value: Sealed) -> str:
    """The plain text of a `!vault` value; from now on no output shows it."""
    plain = keyring().open(value.ciphertext, value.place)
    if not plain:
        raise UsageError(
            "the encrypted value is empty", where=value.place, next=f"encrypt the real one: {to_type('secrets.edit')}"
        )
    REDACTOR.hide(plain)
    return plain


def open_content(content: bytes, path: str) -> tuple[bytes, bool]:
    """A file that may be encrypted as a whole (True): no output shows the lines of one that was."""
    if not content.startswith(HEADER.encode()):
        return content, False
    plain = keyring().open_bytes(content.decode(errors="replace"), path)
    REDACTOR.hide_file(plain.decode(errors="replace"))
    return plain, True


def open_file(text: str, path: str, *, hide_other: Callable[[str], None] = REDACTOR.hide) -> str:
    """The plain text of a file that is encrypted as a whole; from now on no output shows its values.

    `hide_other` hides those of a text that is no YAML with values in it.
    """
    plain = keyring().open(text, path)
    try:
        root = compose_yaml(plain, yaml.SafeLoader)
    except YamlFault:
        root = None
    if isinstance(root, (yaml.MappingNode, yaml.SequenceNode)):
        _hide_values(root)
    else:
        hide_other(plain)
    return plain


def _hide_values(node: yaml.Node | None) -> None:
    """Texts, and numbers that are long enough to be a secret: a port in such a file is none."""
    if isinstance(node, yaml.MappingNode):
        for _, value in node.value:
            _hide_values(value)
    elif isinstance(node, yaml.SequenceNode):
        for entry in node.value:
            _hide_values(entry)
    elif isinstance(node, yaml.ScalarNode) and (node.tag not in PLAIN_TAGS or len(node.value) > 5):
        REDACTOR.hide(node.value)
