"""Inventories for the comparison with ansible-core: hard ones written by hand, and strategies that make more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import strategies

SCRIPT = """#!/bin/sh
if [ "$1" = --list ]; then cat <<'END'
{LIST}
END
else printf '{"asked_for": "%s"}' "$2"; fi
"""

HARD: dict[str, dict[str, str]] = {
    "INI values are literals of Python, or texts": {
        "hosts": "web a=1 b=True c=yes d=[1,2] e=0x10 f=1_000 g=None h=0123 i={\"a\":1} j=\"{'a': 1}\" k='\"q\"' l=b'x'\n"
        "web m=\"a b\" n={1,2} o=(1,2) p=\"b'x'\" q=1j r=1e3 s=-5 t='1 # c' u=\"'x' 'y'\" v=... w=a=b x=a\\ b # comment\n"
    },
    "INI values of groups are typed as well, and keep their comments": {
        "hosts": '[g]\nh\n[g:vars]\nv=True\nw = 1 # one\nx = foo # bar\ny= "q"\nz = {"a": 1}\nempty =\nk==5\n'
        's="a\\nb"\nt=a\\nb\nu=[1,\nlong=' + "9" * 30 + "\nneg=-1.5\nhex=0xZZ\ndate=2020-01-02\n"
    },
    "sections may come in any order": {
        "hosts": "[p:children]\na\nb\n[b:vars]\nx=1\n[b]\nx\n[a] # comment\n; comment\ny # comment\n[all:vars]\nz=1\n"
    },
    "ranges": {
        "hosts": "[g]\nh[1:3:2].x[a:b] z=1\nn[08:10]\nl[x:B]\ne[:2]\n[k]\n"
        "web[01:02]x[1:1]:22\n2001:db8::[1:3]\n[2001:db8::[a:b]]:22\n"
    },
    "a port counts where a host is named first": {"hosts": "h ansible_port=5\nh:7\ni:8\ni:9 k=1\nj:1 ansible_port=2\n"},
    "hosts in all, in ungrouped and in a group": {"hosts": "[all]\nx\n[ungrouped]\ny\n[g]\ny\n[ungrouped:vars]\nu=1\n"},
    "YAML types": {
        "x.yml": "all:\n  hosts:\n    h: {d: 2020-01-02, t: 2020-01-02 03:04:05, s: !!set {x}, v: yes, o: 0o17, n: 017, f: 1e3}\n"
        "    i: {b: 190:20:30, none: ~, nested: {1: 2, b: [1, {c: no}]}, quoted: 'yes'}\n"
        "    j:\n      folded: >-\n        a\n        b\n"
    },
    "YAML sections may be a name, null or empty": {
        "x.yml": "all:\n  hosts: one\n  children:\n    g: {hosts: two, children: k}\n"
        "    k:\n    e: {}\n    n: {hosts: , vars: }\nlone: {hosts: {}}\n"
    },
    "YAML hosts with ranges and ports": {
        "x.yml": "all: {hosts: {'h[1:2]:22': {a: 1}, 'h1:33': , 'k[a:c]': {ansible_port: 5}}}"
    },
    "YAML anchors and merge keys": {
        "x.yml": "all:\n  vars: &base {a: 1, b: 2}\n"
        "  children:\n    g: {hosts: {h: {<<: *base, b: 3}}, vars: {<<: *base, c: 4}}\n"
    },
    "templates and unsafe texts stay as written": {
        "x.yml": "all: {hosts: {h: }, vars: {t: '{{ nope }}', u: !unsafe '{{ x }}', l: ['{{ 1 + 1 }}', !unsafe '{% x %}']}}"
    },
    "encrypted values stay encrypted": {
        "x.yml": 'all: {hosts: {h: {s: !vault "$ANSIBLE_VAULT;1.1;AES256\\n6162", l: [!vault "$ANSIBLE_VAULT;1.1;AES256\\n61"]}}}'
    },
    "marked values in JSON are encrypted, or no templates": {
        "x.json": json.dumps(
            {
                "all": {
                    "hosts": {
                        "h": {
                            "s": {"__ansible_vault": "$ANSIBLE_VAULT;1.1;AES256\n6162"},
                            "u": {"__ansible_unsafe": "{{ x }}"},
                            "l": [{"__ansible_unsafe": "{{ y }}"}],
                            "d": {"a": {"__ansible_unsafe": "{{ z }}"}},
                        }
                    }
                }
            }
        ),
    },
    "marked values of a program": {
        "inv.py": SCRIPT.replace(
            "{LIST}",
            json.dumps(
                {
                    "g": {"hosts": ["h"]},
                    "_meta": {
                        "hostvars": {
                            "h": {
                                "s": {"__ansible_vault": "$ANSIBLE_VAULT;1.1;AES256\n6162"},
                                "u": {"__ansible_unsafe": "{{ x }}"},
                            }
                        }
                    },
                }
            ),
        ),
    },
    "unsafe values keep their types": {
        "x.yml": "all: {hosts: {h: {a: !unsafe 5, b: !unsafe yes, c: !unsafe '5', d: !unsafe {a: '{{ x }}'}, e: !unsafe ~}}}"
    },
    "of two values for one host the later one in the file wins": {
        "x.yml": "all:\n  children:\n    p: {children: {c: {hosts: {h: {x: child}}}}, hosts: {h: {x: parent}}}\n"
        "    q: {hosts: {i: {x: parent}}, children: {d: {hosts: {i: {x: child}}}}}\n"
    },
    "a host with the name of a group": {"hosts": "[web]\nweb\ndb\n[other]\nx\nweb y=1\n"},
    "the same variable in groups of all depths": {
        "hosts": "[a]\nh\n[z]\nh\n[m]\nh\n[top:children]\nz\n[deep:children]\ntop\n"
        "[a:vars]\nv=a\nx=a\n[z:vars]\nv=z\nx=z\n[m:vars]\nv=m\n"
        "ansible_group_priority=9\n[top:vars]\nv=top\ny=top\n[deep:vars]\ny=deep\nw=deep\n[all:vars]\nv=all\nq=all\n"
    },
    "dicts are replaced": {
        "x.yml": "all: {vars: {d: {a: 1, b: 2}}, children: {g: {hosts: {h: {e: {z: 1}}}, vars: {d: {b: 3}, e: {y: 2}}}}}"
    },
    "variable files: which ones, and in which order": {
        "hosts": "[g]\na\nb\n[h]\nb\n[gg:children]\ng\nh\n",
        **{
            name: json.dumps(
                {name.replace("/", "_").replace(".", "_").replace("~", ""): 1, "last": name, "float": 1000.0}
            )
            for name in [
                "group_vars/all/main.yml",
                "group_vars/all/b.yaml",
                "group_vars/all/c.json",
                "group_vars/all/d.txt",
                "group_vars/all/e",
                "group_vars/all/sub/x.yml",
                "group_vars/all/sub.d/x.yml",
                "group_vars/all.yml",
                "group_vars/g.yml",
                "group_vars/g.yaml",
                "group_vars/g.json",
                "group_vars/h.json",
                "host_vars/a",
                "host_vars/a.yml",
                "host_vars/b/x.yml",
                "group_vars/ungrouped",
                "group_vars/all/.hid",
                "group_vars/all/z~",
                "group_vars/all/UP.YML",
                "group_vars/all/sub/deep/y.yml",
            ]
        },
        "group_vars/gg": "yaml: 1e3\nlast: gg\n",
    },
    "JSON numbers are JSON's, YAML's are YAML's": {
        "x.json": '{"all": {"hosts": {"h": {"f": 1e3, "s": "\\ud83d\\ude00", "t": "yes"}},\n\t"vars": {"n": 17}}}',
        "host_vars/h.yml": "f: 1e3\n",
        "host_vars/h.json": "{}",
    },
    "a folder of inventories": {
        "01.ini": "[g]\na x=1\n[g:vars]\ny=1\n",
        "02.yml": "g: {hosts: {a: {x: 2}, b: }, vars: {y: 2}}",
        "sub/hosts": "[z]\nq\n[z:children]\ng\n",
        "skip.cfg": "[zz]\nbad line\n",
        "x.retry": "bad line\n",
        "group_vars/all": "m: 1\n",
        "sub/group_vars/all": "mm: 1\n",
    },
    "a program with _meta": {
        "inv.py": SCRIPT.replace(
            "{LIST}",
            '{"g": {"hosts": ["a[1:2]", "b"], "vars": {"x": "1"}, "children": ["k"]}, "l": ["c", "d:22"], "odd": {"v": 1},'
            ' "_meta": {"hostvars": {"b": {"y": true}, "nowhere": {}}}, "k": {}, "all": {"hosts": ["e"], "vars": {"z": [1]}}}',
        )
    },
    "a program without _meta": {"inv.py": SCRIPT.replace("{LIST}", '{"g": {"hosts": ["a", "b"]}}')},
}


def write(folder: Path, files: dict[str, str]) -> Path:
    """The files below `folder`; the inventory is the single one outside of variable folders, or the folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        if content.startswith("#!"):
            path.chmod(0o755)
    sources = [name for name in files if not name.startswith(("group_vars/", "host_vars/"))]
    return folder / sources[0] if len(sources) == 1 else folder


HOSTS = [f"h{n}" for n in range(6)]
GROUPS = [f"g{n}" for n in range(5)]
NAMES = ["v", "w", "x"]

values = strategies.one_of(
    strategies.integers(-9, 9),
    strategies.booleans(),
    strategies.none(),
    strategies.sampled_from(["text", "yes", "0123", "1e3", "a: b", "# no", "{{ v }}", "é", "", "2020-01-02", "[1"]),
    strategies.lists(strategies.integers(0, 3), max_size=2),
    strategies.dictionaries(strategies.sampled_from("ab"), strategies.integers(0, 3), max_size=2),
)
variables = strategies.dictionaries(strategies.sampled_from(NAMES), values, max_size=3)


@strategies.composite
def groups(draw: strategies.DrawFn) -> dict[str, Any]:
    """Groups that contain only later ones, so that none contains itself."""
    made: dict[str, Any] = {}
    for number, name in enumerate(GROUPS):
        body = {
            "hosts": {
                host: draw(variables) for host in draw(strategies.lists(strategies.sampled_from(HOSTS), max_size=3))
            },
            "children": dict.fromkeys(draw(_some(GROUPS[number + 1 :]))),
            "vars": draw(variables),
        }
        if draw(strategies.booleans()):
            body["vars"]["ansible_group_priority"] = draw(strategies.integers(0, 3))
        made[name] = {key: value for key, value in body.items() if value or draw(strategies.booleans())}
    made["all"] = {"hosts": dict.fromkeys(HOSTS), "vars": draw(variables)}
    return made


@strategies.composite
def variable_files(draw: strategies.DrawFn) -> dict[str, str]:
    places = [f"group_vars/{name}" for name in ["all", *GROUPS]] + [f"host_vars/{name}" for name in HOSTS]
    chosen = draw(_some(places))
    return {
        f"{place}{draw(strategies.sampled_from(['', '.yml', '.json']))}": json.dumps(draw(variables))
        for place in chosen
    }


def _some(names: list[str]) -> Any:
    return strategies.lists(strategies.sampled_from(names), unique=True, max_size=3) if names else strategies.just([])


def terms(*, slices: bool) -> Any:
    """One term of a pattern. Every plain name exists."""
    names = strategies.sampled_from([*HOSTS, *GROUPS, "all", "ungrouped"])
    wild = strategies.sampled_from(["h*", "g?", "*1", "~h[0-2]$", "~g", "[gh]1", "*", "~.*3", "nothing*"])
    sliced = strategies.builds(
        "{}[{}]".format,
        strategies.sampled_from([*GROUPS, "all"]),
        strategies.sampled_from(["0", "1", "-1", "0:1", "1:", "2:1", "0:0", "5:9", "9"]),
    )
    return strategies.one_of(names, wild, sliced) if slices else strategies.one_of(names, wild)


def patterns(*, slices: bool = False) -> Any:
    """Several terms, each plain, required or excluded, joined by one of the separators."""
    signed = strategies.builds("{}{}".format, strategies.sampled_from(["", "", "", "&", "!"]), terms(slices=slices))
    joined = strategies.lists(signed, min_size=1, max_size=4)
    return strategies.builds(lambda parts, sign: sign.join(parts), joined, strategies.sampled_from([":", ",", ", "]))
