"""Package managers: the app's own one is recognized, used by its lock file, and leaves only what the app needs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from percore.deploy.build.package_manager import recognize
from percore.deploy.build.source_tree import BuildError
from percore.deploy.build.workspace import find_source
from percore.deploy.masking import REDACTOR
from percore.errors import PreflightError, UsageError
from tests.archives import unpack
from tests.unit.deploy.apps import PROCESS_FILE, git, make, names, write

BERRY = "# yarn\n\n__metadata:\n  version: 8\n"
PACKAGE = {"name": "web", "dependencies": {"ms": "2.1.3"}, "scripts": {"build": "true"}}


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return write(tmp_path / "web", {"web.js": "", "ecosystem.json": PROCESS_FILE, "package.json": PACKAGE})


LOCKS = {
    "package-lock.json": ("{}", "npm", ""),
    "npm-shrinkwrap.json": ("{}", "npm", ""),
    "pnpm-lock.yaml": ("lockfileVersion: '9.0'\n", "pnpm", "10"),
    "yarn.lock": ("# yarn lockfile v1\n", "yarn", "1"),
    "bun.lock": ("{}", "bun", ""),
    "bun.lockb": ("", "bun", ""),
}


@pytest.mark.parametrize("lock", LOCKS)
def test_the_lock_file_says_which_manager_is_used(app: Path, lock: str) -> None:
    content, name, major = LOCKS[lock]
    write(app, {lock: content})
    found = recognize(app, None)
    assert (found.name, found.lock, found.major) == (name, lock, major)


@pytest.mark.parametrize(("version", "major"), [("5.4", "7"), ("6.0", "8"), ("9.0", "10")])
def test_an_older_lock_file_of_pnpm_is_read_by_the_pnpm_that_wrote_it(app: Path, version: str, major: str) -> None:
    write(app, {"pnpm-lock.yaml": f"lockfileVersion: '{version}'\n"})
    assert recognize(app, None).major == major


@pytest.mark.parametrize(("content", "berry", "major"), [("# v1\n", False, "1"), (BERRY, True, "4.9")])
def test_yarn_2_and_later_is_told_from_yarn_1(app: Path, content: str, berry: bool, major: str) -> None:
    write(app, {"yarn.lock": content})
    found = recognize(app, None)
    assert (found.is_berry, found.major) == (berry, major)


def test_package_json_names_the_manager_and_its_exact_version(app: Path) -> None:
    write(app, {"package.json": {**PACKAGE, "packageManager": "pnpm@9.15.0+sha512.abc"}, "pnpm-lock.yaml": ""})
    found = recognize(app, None)
    assert (found.name, found.version, found.package) == ("pnpm", "9.15.0", "pnpm@9.15.0")


def test_several_lock_files_are_refused_with_the_key_that_decides(app: Path) -> None:
    write(app, {"package-lock.json": "{}", "yarn.lock": ""})
    with pytest.raises(UsageError, match=r"package-lock\.json and yarn\.lock: which .* -> set package_manager"):
        recognize(app, None)
    assert recognize(app, "yarn").lock == "yarn.lock"
    write(app, {"package.json": {**PACKAGE, "packageManager": "npm@10.0.0"}})
    assert recognize(app, None).lock == "package-lock.json"


def test_the_lock_file_of_another_manager_is_refused_instead_of_passed_over(app: Path) -> None:
    write(app, {"package.json": {**PACKAGE, "packageManager": "pnpm@9.0.0"}, "package-lock.json": "{}"})
    with pytest.raises(UsageError, match=r"the package manager is pnpm, and the lock file is package-lock\.json"):
        recognize(app, None)


def test_a_manager_that_is_not_known_is_refused(app: Path) -> None:
    write(app, {"package.json": {**PACKAGE, "packageManager": "cnpm@9.0.0"}})
    with pytest.raises(UsageError, match=r"packageManager 'cnpm@9\.0\.0' is not known"):
        recognize(app, None)


# -- the commands of each manager: a program in its place notes what it is told -----------------------------------------

FAKE = """#!/bin/sh
[ "$1" = --version ] && echo "$FAKE_VERSION" && exit
echo "$(basename "$PWD"): $*; NODE_ENV=$NODE_ENV" >> "$NOTED"
mkdir -p node_modules/ms && echo {} > node_modules/ms/package.json
"""


@pytest.fixture
def noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Fake managers are first in PATH, and write here."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("pnpm", "yarn", "bun", "npm", "npx"):
        (programs / name).write_text(FAKE)
        (programs / name).chmod(0o755)
    (programs / "node").symlink_to(shutil.which("node") or "/usr/bin/node")
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setenv("NOTED", str(tmp_path / "noted"))
    monkeypatch.setenv("NODE_ENV", "production")
    monkeypatch.setenv("npm_config_omit", "dev")
    return tmp_path / "noted"


@pytest.mark.parametrize(
    ("lock", "content", "version", "install", "prune"),
    [
        ("package-lock.json", "{}", "10.0.0", "ci --include=dev", "prune --omit=dev --ignore-scripts"),
        ("pnpm-lock.yaml", "lockfileVersion: '9.0'", "10.1.0", "install --frozen-lockfile --prod=false",
         "install --prod --frozen-lockfile --offline --ignore-scripts"),
        ("yarn.lock", "# v1", "1.22.22", "install --frozen-lockfile --production=false",
         "install --production --frozen-lockfile --ignore-scripts"),
        ("yarn.lock", BERRY, "4.9.0", "install --immutable", "workspaces focus --all --production"),
        ("bun.lock", "{}", "1.2.0", "install --frozen-lockfile", "install --production --frozen-lockfile"),
    ],
)  # fmt: skip
def test_each_manager_installs_all_builds_and_then_leaves_what_runs(
    app: Path,
    noted: Path,
    monkeypatch: pytest.MonkeyPatch,
    lock: str,
    content: str,
    version: str,
    install: str,
    prune: str,
) -> None:
    monkeypatch.setenv("FAKE_VERSION", version)
    write(app, {lock: content})
    assert "node_modules/ms/package.json" in names(make(app))
    lines = noted.read_text().splitlines()
    assert [line.split(";")[0] for line in lines[:2]] == [lines[0].split(";")[0], "work: run build"]
    assert lines[0].startswith(f"work: {install}")
    assert lines[2].startswith(f"stage: {prune}")
    assert all(line.endswith("NODE_ENV=") for line in lines), "NODE_ENV of the caller leaks in"


def test_the_same_dependencies_are_installed_once(app: Path, noted: Path) -> None:
    write(app, {"package-lock.json": "{}"})
    make(app)
    write(app, {"web.js": "// another"})
    make(app)
    assert noted.read_text().count("ci --include=dev") == 1
    write(app, {"package-lock.json": '{"other": 1}'})
    make(app)
    assert noted.read_text().count("ci --include=dev") == 2


def test_another_version_than_the_wanted_one_is_taken_from_npx(
    app: Path, noted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_VERSION", "8.6.0")
    write(app, {"package.json": {**PACKAGE, "packageManager": "pnpm@9.15.0"}, "pnpm-lock.yaml": ""})
    said: list[str] = []
    make(app, said)
    assert "pnpm 8.6.0 is here; pnpm 9.15.0 comes from npx" in said
    assert noted.read_text().startswith("work: --yes pnpm@9.15.0 install --frozen-lockfile")


def test_a_manager_that_cannot_be_had_is_named_with_what_to_type(
    app: Path, noted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = noted.parent / "programs"
    for name in ("pnpm", "npx"):
        (programs / name).unlink()
    for name in ("sh", "git", "basename", "mkdir"):
        (programs / name).symlink_to(shutil.which(name) or name)
    monkeypatch.setenv("PATH", str(programs))
    write(app, {"pnpm-lock.yaml": "lockfileVersion: '9.0'"})
    with pytest.raises(PreflightError, match="pnpm 10 is missing here -> npm install -g pnpm@10"):
        make(app)


def test_without_a_lock_file_none_is_made_and_a_line_says_so(app: Path, noted: Path) -> None:
    said: list[str] = []
    make(app, said)
    assert "there is no lock file: another build may get other versions" in said
    assert noted.read_text().startswith("work: install --no-package-lock --include=dev")


def test_commands_of_the_settings_replace_those_of_the_manager(app: Path, noted: Path) -> None:
    write(app, {"package-lock.json": "{}"})
    ours = {"install_command": "echo one >> $NOTED && echo two >> $NOTED", "build_command": "echo 'a  b' >> $NOTED"}
    make(app, **ours, install_production_command="echo $(basename $PWD) >> $NOTED")
    assert noted.read_text().splitlines() == ["one", "two", "a  b", "stage"]


# -- with npm itself; nothing is fetched ----------------------------------------------------------------------------------

HUSKY = {"name": "husky-like", "version": "1.0.0", "bin": {"husky-like": "run.js"}}


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Workspaces that need each other, a tool for development that `prepare` runs, and a version of `ms` in one of them."""
    shop = write(
        tmp_path / "shop",
        {
            "package.json": {
                "name": "shop", "version": "1.0.0", "private": True, "workspaces": ["packages/*"],
                "devDependencies": {"husky-like": "file:tools/husky-like"}, "dependencies": {"ms": "file:ms/new"},
                "scripts": {"prepare": "husky-like", "postinstall": "node scripts/patch.js", "build": "node build.js"},
            },
            "tools/husky-like/package.json": HUSKY,
            "tools/husky-like/run.js": "#!/usr/bin/env node\nrequire('fs').writeFileSync('husky', '')\n",
            "ms/new/package.json": {"name": "ms", "version": "2.1.3"},
            "ms/old/package.json": {"name": "ms", "version": "2.0.0"},
            "scripts/patch.js": "require('fs').writeFileSync('patched', '')",
            "build.js": "const fs = require('fs'); fs.mkdirSync('dist'); fs.copyFileSync('web.js', 'dist/web.js')",
            "web.js": "console.log(require('@shop/api'))",
            "packages/api/package.json": {"name": "@shop/api", "version": "1.0.0", "dependencies": {"@shop/money": "*"}},
            "packages/api/index.js": "module.exports = [require('@shop/money'), require('ms/package.json').version]",
            "packages/money/package.json": {
                "name": "@shop/money", "version": "1.0.0", "dependencies": {"ms": "file:../../ms/old"},
            },
            "packages/money/index.js": "module.exports = require('ms/package.json').version",
            "ecosystem.json": {"apps": [{"name": "web", "script": "./dist/web.js"}]},
            ".npmrc": "//registry.example.com/:_authToken=${SHOP_TOKEN}\naudit=false\nfund=false\n",
        },
    )  # fmt: skip
    subprocess.run(
        ["npm", "install", "--ignore-scripts", "--offline", "--install-links=false"], cwd=shop, check=True, capture_output=True,
        env={**os.environ, "SHOP_TOKEN": "x"},
    )  # fmt: skip
    for path in (shop, shop / "packages" / "money"):
        shutil.rmtree(path / "node_modules", ignore_errors=True)
    return shop


def test_workspaces_run_as_they_were_locked_and_lifecycle_scripts_find_the_app(
    shop: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NODE_ENV", "production")
    monkeypatch.setenv("SHOP_TOKEN", "top-secret-token")
    said: list[str] = []
    artifact = make(shop, said, build_command="")
    found = names(artifact)
    assert {"dist/web.js", "husky", "patched", "packages/api/index.js"} <= found
    assert not any("husky-like" in name for name in found if "node_modules" in name), (
        "tools for development are deployed"
    )
    assert ".npmrc" not in found
    unpack(artifact.path, tmp_path / "host")
    done = subprocess.run(
        ["node", "dist/web.js"], cwd=tmp_path / "host", capture_output=True, text=True, check=True
    ).stdout
    assert done == "[ '2.0.0', '2.1.3' ]\n"
    assert "top-secret-token" not in " ".join(said)


def test_a_token_is_never_shown_when_the_build_fails(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_TOKEN", "top-secret-token")
    with pytest.raises(BuildError) as caught:
        make(shop, install_command="npm ci --offline", build_command="echo $SHOP_TOKEN; exit 1")
    assert "top-secret-token" not in REDACTOR.text(caught.value.detail) + str(caught.value)
    assert "********" in caught.value.detail


# -- where the tree begins ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patterns", "inner", "is_member"),
    [
        (["packages/*"], "packages/api", True),
        (["packages/*"], "packages/api/deep", False),
        (["./packages/**"], "packages/api/deep", True),
        (["packages/*", "!packages/api"], "packages/api", False),
        (["apps/api"], "apps/api", True),
        (["apps/web"], "apps/api", False),
    ],
)
@pytest.mark.parametrize("manifest", ["npm", "yarn", "pnpm", "uv"])
def test_an_app_in_a_workspace_is_built_with_its_workspace(
    tmp_path: Path, manifest: str, patterns: list[str], inner: str, is_member: bool
) -> None:
    files: dict[str, dict[str, Any]] = {
        "npm": {"package.json": {"workspaces": patterns}},
        "yarn": {"package.json": {"workspaces": {"packages": patterns}}},
        "pnpm": {"pnpm-workspace.yaml": json.dumps({"packages": patterns})},
        "uv": {"pyproject.toml": f"[tool.uv.workspace]\nmembers = {json.dumps(patterns)}\n"},
    }
    write(tmp_path, files[manifest])
    app = write(tmp_path / inner, {"package.json": {}})
    assert (find_source(app, tmp_path).inner == inner) == is_member
    assert find_source(app, None).inner == "", "no repository says where the workspace could end"


def test_a_member_is_deployed_from_its_own_directory_of_the_workspace(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_TOKEN", "x")
    write(shop / "packages" / "api", {"ecosystem.json": {"apps": [{"name": "web", "script": "./index.js"}]}})
    git(shop, "init", "-q")
    artifact = make(shop / "packages" / "api", build_command="")
    assert artifact.process_file == "packages/api/ecosystem.json"
    assert {"packages/money/index.js", "packages/api/index.js", "dist/web.js"} <= names(artifact)


def test_a_dependency_beside_the_app_is_refused_with_what_to_set(app: Path) -> None:
    write(app, {"package.json": {"name": "web", "dependencies": {"shared": "file:../shared"}}})
    with pytest.raises(BuildError, match=r"'shared' lies outside of the app's directory.* -> set app_path"):
        make(app)
