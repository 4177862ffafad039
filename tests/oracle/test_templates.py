"""Values that are templates: what ansible-core makes of them, and what we make."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from percore.deploy.inventory import load_inventory
from percore.deploy.plan.host_plan import make_host_plan
from percore.deploy.plan.variables import resolve_variables
from percore.deploy.vault import edit, passwords
from percore.deploy.vault.passwords import Keyring
from tests.oracle.asking import Ansible

PROJECT = Path(__file__).resolve().parents[2]
VALUES = {
    "number": "{{ base + 1 }}",
    "text": "at {{ base }}",
    "listed": "{{ [base, name] }}",
    "nested": {"a": ["{{ name }}", "{{ base }}"]},
    "mapping": "{{ {'a': {'b': base}} }}",
    "flag": "{{ base > 1 }}",
    "through": "{{ text }}!",
    "group": "{{ groups['web'] | join(',') }} {{ group_names | join(',') }} {{ inventory_hostname_short }}",
    "filtered": "{{ 'yes' | bool }}",
    "encoded": "{{ 'é' | b64encode }}",
    "defaulted": "{{ nowhere | default('x') }}",
    "unsafe": "UNSAFE",
    "sealed": "SEALED",
    "with_sealed": "[{{ sealed }}]",
}


def test_templates_become_what_they_become_in_ansible(
    ansible: Ansible, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = Keyring([("default", "p")], {"p": b"old"})
    flow = "\\n".join(line.strip() for line in edit.encrypt_string("pass-{{ base }}", ring).splitlines()[1:])
    variables = json.dumps(VALUES).replace('"UNSAFE"', '!unsafe "{{ base }}"').replace('"SEALED"', f'!vault "{flow}"')
    path = tmp_path / "hosts.yml"
    path.write_text(f"web: {{hosts: {{h.example: }}, vars: {variables}}}\nall: {{vars: {{base: 5, name: shop}}}}\n")
    (tmp_path / "password").write_text("old")
    monkeypatch.setenv("PERCORE_VAULT_PASSWORD", "old")
    passwords.keyring.cache_clear()
    inventory = load_inventory(path)
    plan = make_host_plan("h.example", inventory, env="test", project=PROJECT)
    resolved = resolve_variables(plan)
    message = "{{ {" + ", ".join(f"'{name}': {name}" for name in VALUES) + "} }}"
    words = ["-m", "debug", "-a", f"msg={message}", "--vault-password-file", str(tmp_path / "password")]
    answer = ansible.ask("ansible", "-i", str(path), "all", *words)
    theirs = json.loads(answer.output.partition("=>")[2])["msg"]
    assert {name: resolved[name] for name in VALUES} == theirs
    passwords.keyring.cache_clear()
