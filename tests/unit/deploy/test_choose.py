"""Which release the hosts of a deploy go to, and why."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from percore.common.records.diff import without_apps
from percore.deploy.build.artifact import Artifact
from percore.deploy.rollout.choose import Standing, choose, common_release, make_release_id
from percore.deploy.rollout.host import Host
from percore.deploy.rollout.inspect import Seen, is_made_of, leave_edited
from percore.deploy.rollout.scope import Scope
from percore.deploy.rollout.wanted import WantedApp, WantedHost

SHA256 = "0a1b2c3d" * 8
OLD, NEW = "20260101120000-99999999", "20260102120000-0a1b2c3d"
ARTIFACT = Artifact(
    SHA256, Path("a.tar.gz"), 1, 1, Path(), "ecosystem.json", is_node=True, was_built=True, digest=SHA256
)


def host_named(name: str, absent: Iterable[str] = (), settings: Any = None, basics: Any = None) -> Any:
    """What nothing is asked of."""
    return Host(Scope("test", Path()), SimpleNamespace(host=name), None, settings, basics, None, frozenset(absent))  # type: ignore[arg-type]


def seen(
    name: str, *, current: str = OLD, known: str | None = None, up_to_date: bool = False, absent: tuple[str, ...] = ()
) -> Seen:
    host = host_named(name, absent)
    status = {"apps": [{"name": "tick", "wanted": 1, "workers": []}]}
    reply: Any = {"current": current, "marks": {name: {} for name in (current, known) if name}, "status": status}
    wanted = WantedHost(host, state=host, package=host, app=WantedApp(ARTIFACT, record={}, fingerprint=""))
    return Seen(host, wanted, reply, known, up_to_date)


def test_hosts_without_the_release_get_a_new_one_named_by_the_artifact() -> None:
    one, two = choose([seen("web1"), seen("web2")], [seen("web1"), seen("web2")])
    assert one.release == two.release
    assert one.release.endswith("-0a1b2c3d")
    assert (one.is_staged, one.reason, one.current) == (False, "", OLD)


def test_a_release_that_all_of_them_have_is_switched_to_without_being_sent() -> None:
    behind = [seen("web1", known=NEW), seen("web2", known=NEW)]
    assert [(one.release, one.is_staged, one.reason) for one in choose(behind, behind)] == [
        (NEW, True, "it is staged already")
    ] * 2


def test_a_host_that_fell_behind_goes_to_the_release_that_it_has_and_the_others_run() -> None:
    behind = [seen("web2", known=NEW)]
    (choice,) = choose(behind, [seen("web1", current=NEW, known=NEW, up_to_date=True), *behind])
    assert (choice.release, choice.is_staged) == (NEW, True)


def test_a_new_host_gets_the_release_that_the_others_run() -> None:
    behind = [seen("web3")]
    (choice,) = choose(behind, [seen("web1", current=NEW, known=NEW, up_to_date=True), *behind])
    assert (choice.release, choice.is_staged, choice.reason) == (NEW, False, "the other hosts run it")


def test_where_only_some_have_the_release_all_get_a_new_one() -> None:
    behind = [seen("web1", known=NEW), seen("web2")]
    assert {choice.release for choice in choose(behind, behind)}.isdisjoint({OLD, NEW})


def test_a_host_that_runs_an_app_pinned_elsewhere_gives_it_up() -> None:
    behind = [seen("web1", absent=("tick",)), seen("web2", absent=("other",))]
    assert [choice.gives_up_app for choice in choose(behind, behind)] == [True, False]


def test_an_app_waits_for_none_that_another_host_runs() -> None:
    apps = [
        {"name": "migrate"},
        {"name": "api", "depends_on": ["migrate"]},
        {"name": "web", "depends_on": ["api", "migrate"]},
    ]
    assert without_apps({"apps": apps}, ["migrate"])["apps"] == [
        {"name": "api"},
        {"name": "web", "depends_on": ["api"]},
    ]
    assert without_apps({"apps": apps}, []) == {"apps": apps}


def test_the_release_of_the_environment_is_what_most_good_hosts_run_and_the_newest_of_equals() -> None:
    def standing(current: str, is_good: bool = True) -> Standing:
        return Standing(SimpleNamespace(name=current), current, is_good, is_unfinished=False, runs_well=True)  # type: ignore[arg-type]

    assert common_release([standing(OLD), standing(NEW)]) == NEW
    assert common_release([standing(OLD), standing(OLD), standing(NEW)]) == OLD
    assert common_release([standing(OLD, is_good=False), standing(NEW)]) == NEW


def test_a_host_where_something_does_not_run_is_behind() -> None:
    def standing(current: str, **more: bool) -> Standing:
        return Standing(
            SimpleNamespace(name="web1"), current, True, **{"is_unfinished": False, "runs_well": True, **more}
        )  # type: ignore[arg-type]

    assert not standing(NEW).is_behind(NEW)
    assert standing(NEW, runs_well=False).is_behind(NEW)
    assert standing(NEW, is_unfinished=True).is_behind(NEW)
    assert standing(OLD).is_behind(NEW)


def test_all_hosts_leave_a_release_that_was_edited_on_one_of_them() -> None:
    one, two = (seen(name, current=NEW, known=NEW, up_to_date=True) for name in ("web1", "web2"))
    assert leave_edited([one, two]) == [one, two]
    two.reply["edits"] = {NEW: ["change out/api.js"]}
    left = leave_edited([one, two])
    assert [(each.known_release, each.is_up_to_date) for each in left] == [(None, False)] * 2
    releases = {choice.release for choice in choose(left, left)}
    assert len(releases) == 1
    assert NEW not in releases


def test_two_releases_of_one_artifact_within_a_second_have_ids_of_their_own() -> None:
    taken: set[str] = set()
    for _ in range(3):
        taken.add(make_release_id(SHA256, taken))
    assert len(taken) == 3
    assert all(is_made_of(name, SHA256) for name in taken)


def test_an_id_is_believed_only_where_it_is_of_the_artifact_and_not_of_the_future() -> None:
    """A host that says otherwise would keep all others on its release for ever: the newest wins."""
    now = datetime.now(timezone.utc)
    assert is_made_of(f"{now:%Y%m%d%H%M%S}-0a1b2c3d", SHA256)
    assert is_made_of(f"{now + timedelta(hours=23):%Y%m%d%H%M%S}-0a1b2c3d", SHA256)  # another machine's clock
    assert not is_made_of(f"{now + timedelta(hours=25):%Y%m%d%H%M%S}-0a1b2c3d", SHA256)
    assert not is_made_of(f"{now:%Y%m%d%H%M%S}-99999999", SHA256)
