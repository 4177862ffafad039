"""Which files of an app are built and deployed, and what the build can ask git."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

import pytest

from percore.deploy.build.app import hash_source
from percore.deploy.build.git import describe_commit
from percore.deploy.build.source_tree import BuildError
from tests.unit.deploy.apps import PROCESS_FILE, commit, git, make, names, settings, write


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return write(tmp_path / "web", {"web.js": "", "ecosystem.json": PROCESS_FILE})


# -- what git ignores ------------------------------------------------------------------------------------------------------


def test_what_git_ignores_stays_at_home_and_a_line_says_so(app: Path) -> None:
    write(app, {".gitignore": "uploads/\n*.pem\n", "uploads/a.jpg": "", "key.pem": "", "src/key.pem": "", "new.js": ""})
    git(app, "init", "-q")
    said: list[str] = []
    assert names(make(app, said)) == {"web.js", "ecosystem.json", ".gitignore", "new.js"}
    assert any("ignored by git and left out: key.pem, src/, uploads/ (artifact_include" in line for line in said), said


def test_output_of_the_build_is_deployed_although_git_ignores_it(app: Path) -> None:
    write(app, {".gitignore": "dist/\n", "dist/old.js": ""})
    git(app, "init", "-q")
    found = names(make(app, build_command="mkdir dist && echo new > dist/new.js"))
    assert {"dist/new.js"} == {name for name in found if name.startswith("dist")}


def test_what_was_deployed_into_the_apps_own_directory_is_not_deployed_with_it(app: Path) -> None:
    write(app, {".deployed/releases/20260101120000-aaaaaaaa/web.js": "", ".deployed/shared/uploads/a.jpg": ""})
    place = {"deploy_to": str(app / ".deployed")}
    assert names(make(app, **place)) == {"web.js", "ecosystem.json"}
    before = hash_source(settings(app, **place), app.parent / "project")
    write(app, {".deployed/releases/20260102120000-bbbbbbbb/web.js": ""})
    assert hash_source(settings(app, **place), app.parent / "project") == before
    assert "web.js" in names(make(app, deploy_to=str(app))), "the app itself is source, whatever deploy_to says"


def test_what_is_tracked_is_source_whatever_it_is_called(app: Path) -> None:
    write(app, {"src/coverage/rates.js": "", "build/script.js": "", "server.log": "", ".env.schema": "A="})
    commit(app)
    wanted = {"src/coverage/rates.js", "build/script.js", "server.log", ".env.schema"}
    assert wanted <= names(make(app, build_command="test -f build/script.js"))


def test_an_untracked_result_of_an_earlier_build_is_made_again(app: Path) -> None:
    git(app, "init", "-q")
    write(app, {"dist/old.js": ""})
    assert not any(name.startswith("dist") for name in names(make(app, build_command="true")))
    assert "dist/old.js" in names(make(app)), "without a build command it is what the app consists of"


def test_a_gitignore_counts_without_a_repository(app: Path) -> None:
    write(app, {".gitignore": "uploads/\n", "uploads/a.jpg": ""})
    assert not any(name.startswith("uploads") for name in names(make(app)))


def test_an_app_that_the_repository_around_it_ignores_is_in_none(app: Path) -> None:
    write(app.parent, {".gitignore": "*\n"})
    git(app.parent, "init", "-q")
    artifact = make(app)
    assert "web.js" in names(artifact)
    assert artifact.commit is None


SECRETS = (".env", ".env.production", "deep/.env.local", ".npmrc", ".yarnrc.yml", ".pypirc")


@pytest.mark.parametrize("name", SECRETS)
def test_secrets_and_registry_tokens_stay_at_home_also_when_they_are_tracked(app: Path, name: str) -> None:
    write(app, {name: "TOKEN=1"})
    commit(app)
    assert name not in names(make(app))


def test_a_shared_directory_stays_at_home(app: Path) -> None:
    write(app, {"uploads/a.jpg": "", "data/files/b": "", "data/code.js": "", "lib/uploads/c.js": ""})
    found = names(make(app, shared=["uploads", "data/files"]))
    assert found == {"web.js", "ecosystem.json", "data/code.js", "lib/uploads/c.js"}
    commit(app)
    assert names(make(app, shared=["uploads", "data/files"])) == found


# -- include and exclude --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", ["config/", "config/local.json", "/config", "*.json", "./config"])
def test_artifact_include_takes_ignored_files_along(app: Path, pattern: str) -> None:
    write(app, {".gitignore": "config/\nother/\n", "config/local.json": "{}", "other/x.js": ""})
    commit(app)
    found = names(make(app, artifact_include=[pattern]))
    assert "config/local.json" in found
    assert "other/x.js" not in found


@pytest.mark.parametrize("pattern", ["private", "private/", "./private", "/private/", "private/**", "**/secret.txt"])
def test_artifact_exclude_is_read_as_in_a_gitignore(app: Path, pattern: str) -> None:
    write(app, {"private/secret.txt": "", "public/private.js": ""})
    said: list[str] = []
    found = names(make(app, said, artifact_exclude=[pattern]))
    assert "private/secret.txt" not in found
    assert "public/private.js" in found
    assert not any("matches nothing" in line for line in said)


def test_an_excluded_file_is_there_for_the_build(app: Path) -> None:
    write(app, {"src/main.ts": ""})
    assert "src/main.ts" not in names(make(app, artifact_exclude=["src/"], build_command="test -f src/main.ts"))


def test_a_pattern_that_matches_nothing_is_named(app: Path) -> None:
    said: list[str] = []
    make(app, said, artifact_exclude=["*.md", "web.jsx", "# a comment"])
    assert [line for line in said if "matches nothing" in line] == [
        "warning: artifact_exclude: '*.md' matches nothing",
        "warning: artifact_exclude: 'web.jsx' matches nothing",
    ]


# -- as it is --------------------------------------------------------------------------------------------------------------


def test_output_with_dependencies_of_its_own_is_deployed_as_built(app: Path) -> None:
    build = "mkdir -p .output/server/node_modules/h9/.cache && echo 1 > .output/server/node_modules/h9/index.js"
    assert ".output/server/node_modules/h9/index.js" in names(make(app, build_command=build))


def test_empty_directories_arrive_and_count_as_source(app: Path) -> None:
    before = hash_source(settings(app), app.parent)
    (app / "uploads" / "new").mkdir(parents=True)
    with tarfile.open(make(app).path) as tar:
        assert tar.getmember("uploads/new").isdir()
    assert hash_source(settings(app), app.parent) != before


def test_the_incremental_state_of_a_compiler_is_not_copied(app: Path) -> None:
    write(app, {"tsconfig.tsbuildinfo": "{}"})
    assert "tsconfig.tsbuildinfo" not in names(make(app, build_command="test ! -f tsconfig.tsbuildinfo"))


def test_a_large_artifact_says_what_is_large(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from percore.deploy.build import pack

    monkeypatch.setattr(pack, "LARGE_BYTES", 10)
    write(app, {"media/film.bin": "x" * 3_000_000, "node_modules/big/a.js": ""})
    said: list[str] = []
    make(app, said)
    assert any("the largest parts, unpacked: media 3 MB" in line for line in said), said


# -- git in the build -------------------------------------------------------------------------------------------------------

ASK = "git rev-parse HEAD > sha; git describe --always --dirty > version; git status --porcelain -uno > state"


def built(artifact_tree: Path, name: str) -> str:
    return (artifact_tree / name).read_text().strip()


@pytest.mark.parametrize("inner", ["", "apps/web"])
def test_git_in_the_build_sees_the_commit_of_the_app(app: Path, inner: str) -> None:
    top = app if not inner else app.parent / "mono"
    app = write(top / inner, {"web.js": "", "ecosystem.json": PROCESS_FILE})
    write(top, {"other/file": ""})
    sha = commit(top)
    artifact = make(app, build_command=ASK)
    assert built(artifact.tree, "sha") == sha
    assert built(artifact.tree, "version") == sha[:7]
    assert built(artifact.tree, "state") == ""
    assert artifact.commit == (sha, "main", False)


def test_nothing_that_the_build_does_with_git_reaches_the_repository(app: Path) -> None:
    sha = commit(app)
    make(
        app, build_command="git config core.hooksPath .husky && git commit -q --allow-empty -m x && git tag made; true"
    )
    assert git(app, "rev-parse", "HEAD") == sha
    assert git(app, "tag") == ""
    with pytest.raises(subprocess.CalledProcessError):
        git(app, "config", "--local", "core.hooksPath")


def test_without_a_repository_git_fails_instead_of_finding_another_one(app: Path) -> None:
    write(app.parent, {".gitignore": "web/\n"})
    git(app.parent, "init", "-q")
    with pytest.raises(BuildError, match="git rev-parse HEAD"):
        make(app, build_command="git rev-parse HEAD")


def test_the_release_knows_commit_branch_and_changes(app: Path) -> None:
    sha = commit(app)
    git(app, "checkout", "-q", "-b", "fix/it")
    assert make(app).commit == (sha, "fix/it", False)
    write(app, {"web.js": "// changed"})
    found = make(app).commit
    assert found
    assert found.text == f"{sha[:7]} fix/it, with uncommitted changes"
    git(app, "checkout", "-q", "--", ".")
    git(app, "checkout", "-q", "--detach")
    found = make(app).commit
    assert found
    assert found.text == sha[:7]
    assert describe_commit(None) == ""


def test_what_percore_writes_into_the_project_is_no_change(app: Path) -> None:
    commit(app)
    write(app, {".percore/x": "", "build/nginx/production/web.conf": ""})
    found = make(app).commit
    assert found
    assert not found.is_dirty


# -- the environment of the build ----------------------------------------------------------------------------------------


def test_the_build_sees_the_env_file_and_build_env(app: Path) -> None:
    write(app.parent, {"project/x": ""})
    ours = settings(app, build_env={"PUBLIC_URL": "https://a b"}, env={"RUNTIME": "1"})
    write(app, {".env.test": ""})
    assert ours.build_env == {"PUBLIC_URL": "https://a b"}
    artifact = make(
        app, build_command='echo "$PUBLIC_URL|$RUNTIME|$NODE_ENV" > seen', build_env={"PUBLIC_URL": "https://a b"},
        env={"RUNTIME": "1"},
    )  # fmt: skip
    assert built(artifact.tree, "seen") == "https://a b||"


def test_another_value_for_the_build_is_another_build(app: Path) -> None:
    assert make(app, build_env={"A": "1"}).was_built
    assert make(app, build_env={"A": "2"}).was_built
    assert not make(app, build_env={"A": "1"}).was_built


def test_commands_have_a_shell(app: Path) -> None:
    artifact = make(app, build_command="""A=1 sh -c 'echo "one $A" > seen' && echo two >> seen""")
    assert built(artifact.tree, "seen") == "one 1\ntwo"


# -- the process file -------------------------------------------------------------------------------------------------------


def test_the_process_file_may_be_made_by_the_build(app: Path) -> None:
    (app / "ecosystem.json").unlink()
    artifact = make(app, build_command="""echo '{"apps": [{"name": "web", "script": "./web.js"}]}' > ecosystem.json""")
    assert artifact.process_file == "ecosystem.json"


def test_the_process_file_may_need_dependencies(app: Path) -> None:
    (app / "ecosystem.json").unlink()
    write(
        app,
        {
            "ecosystem.config.js": "module.exports = {apps: [{name: require('names'), script: './web.js'}]}",
            "package.json": {"name": "web", "dependencies": {"names": "file:./names"}},
            "names/package.json": {"name": "names", "version": "1.0.0"},
            "names/index.js": "module.exports = 'from-a-dependency'",
        },
    )
    assert make(app, install_command="npm install --offline --no-package-lock").process_file == "ecosystem.config.js"


def test_a_cwd_outside_of_the_release_is_refused(app: Path) -> None:
    write(app, {"ecosystem.json": {"apps": [{"name": "web", "script": "./web.js", "cwd": "/var/www/shop"}]}})
    with pytest.raises(BuildError, match="app 'web' runs in /var/www/shop, which is outside of the release"):
        make(app)
