"""Which app a name means: namespaces are part of it, and a file of another project does not replace an app by chance."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from percore.common.app_names import full_name, plain_name, selector_of
from percore.errors import UsageError
from percore.supervisor.base.home import Home
from percore.supervisor.config.app import AppConfig
from percore.supervisor.config.app_bounds import is_same_project
from percore.supervisor.config.process_file import load_process_file
from percore.supervisor.core.apps import Apps, settle_names
from percore.supervisor.core.status import select, select_all
from percore.supervisor.state.saved import Aside, read_saved


def config(name: str, namespace: str = "default", cwd: str = "/srv/a", **fields: Any) -> AppConfig:
    return AppConfig(name, fields.pop("script", "app.js"), cwd, namespace, **fields)


def file_of(directory: str, name: str = "api", **fields: Any) -> AppConfig:
    """An app of the process file in that directory."""
    return config(name, **{"cwd": directory, "source": f"{directory}/ecosystem.config.js", **fields})


@pytest.fixture
def apps(tmp_path: Path) -> Apps:
    return Apps(Home(str(tmp_path)))


def run(apps: Apps, *configs: AppConfig) -> None:
    for number, each in enumerate(configs):
        app: Any = SimpleNamespace(name=each.name, config=each, slots=[SimpleNamespace(id=number)])
        apps[each.name] = app


def test_a_name_is_plain_in_its_file_and_full_where_it_was_taken() -> None:
    assert (plain_name("api", "a"), plain_name("a:api", "a"), plain_name("a:api", "b")) == ("api", "api", "a:api")
    assert full_name("api", "a") == full_name("a:api", "a") == "a:api"
    assert plain_name("a:", "a") == "a:"
    api, other, old = {"name": "api", "namespace": "a"}, {"name": "b:api", "namespace": "b"}, {"name": "api"}
    assert [selector_of(each, [api, other]) for each in (api, other)] == ["a:api", "b:api"]
    assert selector_of(api, [api, api]) == selector_of(old, [old]) == "api"


# -- the supervisor ---------------------------------------------------------------------------------------------------


def test_an_app_of_another_namespace_is_another_app_and_keeps_its_name(apps: Apps) -> None:
    run(apps, config("api", "a"))
    first, second = config("api", "b"), config("web", "b", depends_on=("api",))
    [api, web] = settle_names(apps, [first, second])
    assert (api.name, web.name, web.depends_on) == ("b:api", "web", ("b:api",))
    run(apps, config("api", "a"), api)
    assert settle_names(apps, [first])[0].name == "b:api"
    assert settle_names(apps, [config("api", "a")])[0].name == "api"
    assert settle_names(apps, [config("api")])[0].name == "default:api"
    del apps["api"]
    assert settle_names(apps, [first])[0].name == "b:api", "what is known keeps its name"


def test_a_name_that_two_apps_would_have_is_refused(apps: Apps) -> None:
    run(apps, config("api", "a"), config("b:api"))
    with pytest.raises(UsageError, match="there is an app 'b:api' already"):
        settle_names(apps, [config("api", "b")])
    run(apps, config("web", "c"))
    with pytest.raises(UsageError, match="there is an app 'a:api' already"):
        apps.check([config("web", "c"), config("a:api", "a")])


def test_what_is_set_aside_keeps_its_name_and_is_no_app_of_another_namespace(apps: Apps) -> None:
    apps.aside.take([Aside({"config": {"name": "api", "namespace": "a"}}, "api", "broken"), Aside(None, "", "broken")])
    assert [each.name for each in settle_names(apps, [config("api", "b"), config("api", "a")])] == ["b:api", "api"]


def test_a_name_selects_the_apps_of_all_namespaces_and_a_full_name_one(apps: Apps) -> None:
    run(apps, config("api", "a"), config("b:api", "b"), config("web", "b"))

    def chosen(*selectors: str) -> list[str]:
        return [app.name for app, _ in select_all(apps, selectors)]

    assert chosen("api") == ["api", "b:api"]
    assert chosen("a:api") == ["api"]
    assert chosen("b:api") == ["b:api"]
    assert chosen("b") == ["b:api", "web"]
    assert chosen("/^api$/") == ["api", "b:api"]
    with pytest.raises(UsageError, match="no app, id or namespace is called 'c:api'"):
        select(apps, "c:api")
    assert apps.named("web").name == "web"
    with pytest.raises(UsageError, match="2 apps are called 'api' -> name one of them: a:api or b:api"):
        apps.named("api")
    assert apps.named("a:api").name == "api"


def test_an_older_supervisor_reads_the_state_of_two_apps_of_one_name() -> None:
    slot = {"number": 0, "id": 0, "wanted": True, "workers": []}
    records = [
        {"config": each.to_record(), "base_env": {}, "wanted": True, "slots": [slot], "leaving": []}
        for each in (config("api", "a"), config("b:api", "b"))
    ]
    saved = read_saved({"apps": records})
    assert [app.config.name for app in saved.apps] == ["api", "b:api"]
    assert saved.aside == ()


# -- whose app it is --------------------------------------------------------------------------------------------------

CENTRAL = "/etc/percore"
SAME = [
    (file_of("/srv/a"), file_of("/srv/a", script="dist/app.js")),
    (file_of("/srv/a"), file_of("/srv/a", cwd="/srv/b")),  # the directory was changed in the file
    (file_of("/srv/a"), config("api", source="/srv/a/production.config.js", script="dist/app.js")),
    (file_of("/srv/a/releases/1"), file_of("/srv/a/releases/2")),
    (file_of("/srv/a/releases/1"), file_of("/srv/a/current")),
    (
        config("api", cwd="/srv/a/releases/1", source="/srv/a"),
        config("api", cwd="/srv/a/releases/2/x", source="/srv/a"),
    ),
    (config("api"), file_of("/srv/a", script="dist/app.js")),  # the script was started before there was a file
    (config("api", cwd="/home/me", script="/srv/a/app.js"), file_of("/srv/a")),
    (config("api", script="dist/app.js"), file_of("/srv/a", cwd="/srv/a/dist")),
]
OTHERS = [
    (file_of("/srv/a"), file_of("/srv/b")),
    (file_of("/srv/a"), file_of("/srv/a2")),
    (file_of("/srv/a/releases/1"), file_of("/srv/b/releases/1")),
    (config("api", cwd="/srv/a/releases/1", source="/srv/a"), config("api", cwd="/srv/b/releases/1", source="/srv/b")),
    (
        config("api", cwd=CENTRAL, script="/srv/a/app.js", source=f"{CENTRAL}/a.json"),
        config("api", cwd=CENTRAL, script="/srv/b/app.js", source=f"{CENTRAL}/b.json"),
    ),
    (config("api", cwd="/srv/a", source=f"{CENTRAL}/a.json"), config("api", cwd="/srv/b", source=f"{CENTRAL}/b.json")),
    (file_of("/srv/a", script="/usr/bin/gunicorn"), file_of("/srv/b", script="/usr/bin/gunicorn")),
    (config("api"), file_of("/srv/b")),
]


@pytest.mark.parametrize(("known", "new"), SAME)
def test_a_file_replaces_the_apps_of_its_own_project(apps: Apps, known: AppConfig, new: AppConfig) -> None:
    assert is_same_project(known, new)
    assert is_same_project(new, known)
    run(apps, known)
    assert settle_names(apps, [new]) == [new]


@pytest.mark.parametrize(("known", "new"), OTHERS)
def test_a_file_of_another_project_does_not_replace_an_app_of_the_same_name(
    apps: Apps, known: AppConfig, new: AppConfig
) -> None:
    assert not is_same_project(known, new)
    assert not is_same_project(new, known)
    run(apps, known)
    with pytest.raises(UsageError) as caught:
        settle_names(apps, [new])
    told = str(caught.value)
    assert "there is an app 'api' of another project, from" in told
    assert known.source in told
    assert new.source in told
    assert "give it another name or a namespace, or add --replace" in told
    assert settle_names(apps, [new], replaces=True) == [new]
    assert settle_names(apps, [new._replace(namespace="b")])[0].name == "b:api"


# -- a process file ---------------------------------------------------------------------------------------------------


def load(folder: Path, *apps: dict[str, Any]) -> dict[str, AppConfig]:
    path = folder / "apps.json"
    path.write_text(json.dumps({"apps": [{"script": "app.js", **app} for app in apps]}))
    return {app.name: app for app in load_process_file(str(path)).apps}


def test_a_file_may_have_an_app_of_one_name_in_each_namespace(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        {"name": "api", "namespace": "a"},
        {"name": "api", "namespace": "b"},
        {"name": "api"},
        {"name": "web", "namespace": "b", "depends_on": ["api"]},
        {"name": "job", "namespace": "c", "depends_on": ["a:api", "web"]},
        {"name": "one", "namespace": "d"},
    )
    assert list(found) == ["a:api", "b:api", "api", "web", "job", "one"]
    assert found["web"].depends_on == ("b:api",)
    assert found["job"].depends_on == ("a:api", "web")


@pytest.mark.parametrize(
    ("apps", "told"),
    [
        ([{"name": "api", "namespace": "a"}, {"name": "api", "namespace": "a"}], "two apps are called 'api'"),
        ([{"name": "api", "namespace": "a"}, {"name": "a:api", "namespace": "a"}], "two apps are called 'api'"),
        (
            [{"name": "api", "namespace": "a"}, {"name": "api", "namespace": "b"}, {"name": "c", "depends_on": "api"}],
            "names 'api', as several apps are called -> write one of a:api or b:api",
        ),
    ],
)
def test_two_apps_of_one_full_name_and_a_dependency_on_one_of_several_are_refused(
    tmp_path: Path, apps: list[dict[str, Any]], told: str
) -> None:
    with pytest.raises(UsageError) as caught:
        load(tmp_path, *apps)
    assert told in str(caught.value)
