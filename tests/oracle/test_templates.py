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

EXPRESSIONS = [
    "hostvars['h2.example'].port", "hostvars['h2.example']['port'] + 1", "hostvars[inventory_hostname].base",
    "hostvars['h2.example'].through_other", "hostvars['h2.example'].nothing | default('d')", "hostvars | length",
    "hostvars.keys() | sort", "groups['web'] | map('extract', hostvars, 'port') | list", "hostvars['gone'] is defined",
    "groups['web'] | map('extract', hostvars) | map(attribute='port') | list", "groups.all | sort | first",
    "groups['web'] | map('regex_replace', '^(.*)$', 'http://\\1:80') | join(',')", "groups['gone'] | default([])",
    "'web' in group_names", "inventory_dir | basename", "inventory_file | basename", "playbook_dir is defined",
    "inventory_hostname.split('.')[0]", "vars['base']", "base is defined and nothing is not defined",
    "(base > 3) | ternary('much', 'little')", "none | ternary('a', 'b', 'c')", "'' | ternary('a', 'b')",
    "name | regex_replace('o', '0')", "'AbC' | regex_replace('b', 'x', ignorecase=true)", "'a.b' | regex_escape",
    "'web-12.example' | regex_search('[0-9]+')", "'web-12' | regex_search('(\\w+)-(\\d+)', '\\1', '\\2')",
    "'x' | regex_search('[0-9]')", "'a1b22' | regex_findall('[0-9]+')", "'a1b22' | regex_findall('([a-z])([0-9])')",
    "{'a': 1, 'l': [1]} | combine({'b': 2, 'l': [2]})", "{'a': {'x': 1}} | combine({'a': {'y': 2}}, recursive=true)",
    "{'l': [1, 2]} | combine({'l': [2, 3]}, list_merge='append_rp')", "[{'a': 1}, {'b': 2}] | combine",
    "{'l': [1, 2]} | combine({'l': [2, 3]}, {'l': [4]}, list_merge='prepend')",
    "{'a': 1, 'b': 2} | dict2items", "[{'key': 'a', 'value': 1}] | items2dict", "[1, [2, [3, none]]] | flatten",
    "[1, [2, [3]]] | flatten(levels=1)", "[1, 2, 2, 3] | unique", "[1, 2] | union([2, 3]) | sort",
    "[1, 2] | intersect([2, 3])", "[1, 2] | difference([2, 3])", "[1, 2] | symmetric_difference([2, 3]) | sort",
    "[1, 2] | zip(['a', 'b']) | list", "['a', 'b'] | product([1, 2]) | list", "'a,b' | split(',')", "'a b' | split",
    "'/a/b.tar.gz' | basename", "'/a/b.tar.gz' | dirname", "'/a/b.tar.gz' | splitext", "'x' | hash('sha256')",
    "'x' | sha1", "'x' | md5", "'abc' | b64encode | b64decode", "{'a': [1, 'é'], 'n': none} | to_json",
    "{'b': 1, 'a': [1, {'x': true}]} | to_nice_json", "{'b': 1, 'a': [1, {'x': true}]} | to_nice_yaml",
    "{'b': 1, 'a': [1, {'x': true}], 't': '1'} | to_yaml", "'{\"a\": 1}' | from_json", "'a: [1, yes]' | from_yaml",
    "'yes' | bool", "'no' | bool", "1 | bool", "'maybe' | default('x') | upper", "nothing | default(base)",
    "'' | default('x', true)", "lookup('env', 'REACH_SET')", "lookup('env', 'REACH_UNSET') | default('x', true)",
    "'a' if lookup('env', 'REACH_UNSET') else 'b'", "lookup('env', 'REACH_UNSET', default='d')",
    "lookup('env', 'REACH_UNSET') == ''", "lookup('ansible.builtin.env', 'REACH_SET') | ansible.builtin.b64encode",
    "lookup('vars', 'base')", "lookup('vars', 'nothing', default='n')", "lookup('file', 'note.txt')",
    "query('env', 'REACH_SET')", "lookup('env', 'REACH_SET', 'REACH_SET')", "'a1' is match('a')", "'ba' is match('a')",
    "'ba' is search('a')", "'ba' is regex('^b')", "'1.10' is version('1.9', '>')", "[1] is subset([1, 2])",
    "[1, 2] is contains(2)", "[1, 2] is superset([1])", "'x' is truthy", "'1' | int + 1", "[3, 1] | max",
    "['a', 'b'] | map('upper') | join('-')", "[{'n': 1}, {'n': 2}] | selectattr('n', 'gt', 1) | map(attribute='n') | list",
    "{'a': omitted_entry | default(omit), 'b': 1}", "'%s-%03d' | format(name, 7)", "'x' ~ base", "(1, 2)", "1.5 + 1",
    "'a' | quote", "'a b' | quote", "[1, 2] | to_json", "'5' | int", "range(3) | list", "'a\\nb'.splitlines()",
    "'C:\\new'", "'a\\\\b'",
    '"x\\ty"', "groups.web | map('upper')", "[nothing | default(omit), 1]", "hostvars['h2.example'].group_names", "ansible_host",
    "{'b': 1} | items", "[1, 2, 2, 3] | unique | list", "'1,2' | split(',') | map('int') | sum", "groups | list | sort",
]  # fmt: skip
"""Each the whole value of a variable."""


def test_expressions_of_inventories_mean_what_they_mean_in_ansible(
    ansible: Ansible, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = {f"v{number}": f"{{{{ {expression} }}}}" for number, expression in enumerate(EXPRESSIONS)}
    variables |= {"base": 5, "name": "shop", "through_other": "{{ port + 1 }}"}
    hosts = {"h1.example": {"port": 80}, "h2.example": {"port": 81}}
    path = tmp_path / "hosts.yml"
    path.write_text(json.dumps({"web": {"hosts": hosts}, "all": {"vars": variables}}))
    note = Path(ansible.folder, "note.txt")  # Ansible looks where it was started
    note.write_text("a note\n\n")
    (tmp_path / "note.txt").write_text("a note\n\n")
    monkeypatch.setenv("REACH_SET", "is set")
    plan = make_host_plan("h1.example", load_inventory(path), env="test", project=tmp_path)
    ours, theirs = resolve_variables(plan), {}
    for start in range(0, len(EXPRESSIONS), 12):
        names = [f"v{number}" for number in range(start, min(start + 12, len(EXPRESSIONS)))]
        message = "{{ {" + ", ".join(f"'{name}': {name}" for name in names) + "} }}"
        answer = ansible.ask("ansible", "-i", str(path), "h1.example", "-m", "debug", "-a", f"msg={message}")
        theirs.update(json.loads(answer.output.partition("=>")[2])["msg"])
    different = {
        expression: (ours[f"v{number}"], theirs[f"v{number}"])
        for number, expression in enumerate(EXPRESSIONS)
        if json.loads(json.dumps(ours[f"v{number}"])) != theirs[f"v{number}"]
    }
    assert different == {}


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
