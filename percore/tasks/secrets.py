"""The tasks for files and values in Ansible Vault's format."""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from invoke.context import Context

from percore.deploy.report import print_line
from percore.tasks.decorators import operator_task

if TYPE_CHECKING:
    from percore.deploy.vault.passwords import Keyring


@operator_task
def encrypt(context: Context, file: str, vault_id: str = "") -> None:
    """Encrypt a whole file in Ansible Vault's format."""
    from percore.deploy.vault import edit as vault_files

    vault_files.encrypt(Path(file), *_vault(vault_id))


@operator_task
def decrypt(context: Context, file: str, vault_id: str = "") -> None:
    """Write a file, or the !vault values in it, as plain text."""
    from percore.deploy.vault import edit as vault_files

    vault_files.decrypt(Path(file), _vault(vault_id)[0])


@operator_task
def view(context: Context, file: str, vault_id: str = "") -> None:
    """Print a file in plain text, and write nothing."""
    from percore.deploy.vault import edit as vault_files

    sys.stdout.buffer.write(vault_files.view(Path(file), _vault(vault_id)[0]))


@operator_task
def edit(context: Context, file: str, vault_id: str = "") -> None:
    """Open a file, or the !vault values in it, in $EDITOR; what is not changed keeps its ciphertext."""
    from percore.deploy.vault import edit as vault_files

    ring, name = _vault(vault_id)
    print_line("saved" if vault_files.edit(Path(file), ring, name) else "nothing was changed")


@operator_task
def rekey(context: Context, file: str, vault_id: str = "", new: str = "", only: str = "") -> None:
    """Encrypt with another password what a file holds encrypted."""
    from percore.deploy.vault import edit as vault_files
    from percore.deploy.vault.passwords import new_keyring

    ring, name = new_keyring(new)
    vault_files.rekey(Path(file), _vault(vault_id)[0], ring, name, only=only)


@operator_task
def encrypt_string(context: Context, name: str = "", vault_id: str = "") -> None:
    """Print a !vault value for an inventory; the secret is asked for, or read from standard input."""
    from percore.deploy.vault import edit as vault_files

    ring, vault_name = _vault(vault_id)
    secret = getpass.getpass("Secret: ") if sys.stdin.isatty() else sys.stdin.read().removesuffix("\n")
    sys.stdout.write(f"{vault_files.encrypt_string(secret, ring, vault_name, name=name)}\n")


def _vault(words: str) -> tuple[Keyring, str]:
    """The passwords, and the vault id to encrypt with: the first that was named."""
    from percore.deploy.vault.envelope import DEFAULT_ID
    from percore.deploy.vault.passwords import keyring_from

    ring = keyring_from(os.environ, words)
    return ring, ring.sources[0][0] if words else DEFAULT_ID
