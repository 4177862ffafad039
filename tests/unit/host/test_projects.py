"""Several projects on one host: what is whose, and what is refused with both named."""

from __future__ import annotations

import io
import json
import stat
from pathlib import Path
from typing import Any

import pytest

from percore.errors import PreflightError
from percore.host.messages import TargetPaths
from percore.host.projects import conflicts, sites
from percore.host.projects.conflicts import find_conflicts
from percore.host.projects.messages import PortsRequest, SiteWish
from percore.host.projects.owner import claim, read_owner
from percore.host.release.stage import Staging
from percore.host.release.switch import Activation
from percore.host.release.target import Target
from percore.host.resources.nginx import Site
from percore.host.resources.registry import make

RELEASE = "20260101120000-aaaaaaaa"
UNIT = '[Service]\nUser=percore\nEnvironment="PERCORE_HOME=/HOME"\n'


def project(folder: Path, app: str, env: str = "production", *, place: str = "", **more: Any) -> TargetPaths:
    directory = folder / (place or app)
    (directory / "releases" / RELEASE).mkdir(parents=True, exist_ok=True)
    home = str(folder / "home")
    return TargetPaths(str(directory), [f"{home}/percore"], home, home, app=app, env=env, **more)


# -- a directory is that of one project -------------------------------------------------------------------------------


def test_a_directory_belongs_to_the_project_that_was_deployed_there_first(tmp_path: Path) -> None:
    shop = project(tmp_path, "shop")
    Target(shop)  # as long as it is nobody's, or an older version deployed there
    claim(shop)
    note = Path(shop.deploy_to) / "project.json"
    assert stat.S_IMODE(note.stat().st_mode) == 0o600
    before = note.read_bytes()
    claim(shop)
    assert note.read_bytes() == before
    assert Target(shop).paths == shop
    Target(shop._replace(app=None, env=None))  # an older control machine does not say which it is
    for other in (shop._replace(app="blog"), shop._replace(env="staging")):
        with pytest.raises(PreflightError) as caught:
            Target(other)
        assert str(caught.value) == (
            f"{shop.deploy_to} belongs to 'shop' in environment 'production', and this is '{other.app}' in environment "
            f"'{other.env}' -> set another deploy_to here; if it was renamed, set renamed_from: shop/production"
        )


@pytest.mark.parametrize(("app", "env", "renamed_from"), [
    ("store", "production", "shop"), ("store", "production", "shop/production"), ("shop", "live", "shop/production"),
])  # fmt: skip
def test_a_project_that_was_renamed_keeps_its_directory_when_it_says_so(
    tmp_path: Path, app: str, env: str, renamed_from: str
) -> None:
    shop = project(tmp_path, "shop")
    claim(shop)
    store = shop._replace(app=app, env=env)
    with pytest.raises(PreflightError):
        Target(store)
    claim(Target(store._replace(renamed_from=renamed_from)).paths)
    Target(store)  # from then on it is known by the new name
    with pytest.raises(PreflightError, match=f"belongs to '{app}' in environment '{env}'"):
        Target(shop)


def test_a_first_deploy_that_was_refused_takes_no_directory(tmp_path: Path) -> None:
    shop = project(tmp_path, "shop")
    claim(shop)
    (Path(shop.deploy_to) / "releases" / RELEASE).rmdir()
    Target(shop._replace(app="store"))


def test_a_note_that_makes_no_sense_is_none(tmp_path: Path) -> None:
    shop = project(tmp_path, "shop")
    for text in ("", "[]", '{"app": 1}', '{"app": "shop"}'):
        (Path(shop.deploy_to) / "project.json").write_text(text)
        assert read_owner(shop.deploy_to) is None
        Target(shop)


# -- what projects share ----------------------------------------------------------------------------------------------

SETTINGS = {"percore_user": "percore", "startup": "True", "unit_options": "0a1b"}


def told(paths: TargetPaths, *others: TargetPaths, wanted: list[SiteWish] | None = None) -> list[str]:
    files: dict[str, str] = {}
    found = find_conflicts(paths, {other.deploy_to: files for other in others}, PortsRequest([], sites=wanted or []))
    return [f"{each.what} -> {each.next}" for each in found]


def test_the_oldest_project_decides_how_the_supervisor_is_set_up(tmp_path: Path) -> None:
    shop, blog = (project(tmp_path, app, shared=SETTINGS) for app in ("shop", "blog"))
    for each in (shop, blog):
        claim(each)
        claim(each, with_settings=True)
    assert told(blog, shop) == []
    other = blog._replace(shared={"percore_user": "web", "startup": "True", "unit_options": "ffff", "unit_new": "1"})
    assert told(other, shop) == [
        f"the supervisor of this host is shared with 'shop' in environment 'production' ({shop.deploy_to}), which sets it up "
        "otherwise: percore_user is percore, and web here, unit_options -> set the same here, or deploy the change there first"
    ]
    changed = shop._replace(shared=other.shared)
    assert told(changed, blog) == [], "the first one may change it"
    claim(changed)
    assert told(blog, shop) == [], "what was not deployed does not count"
    claim(changed, with_settings=True)
    assert "percore_user is web, and percore here" in told(blog, shop)[0]
    assert told(other, shop) == []
    (Path(shop.deploy_to) / "project.json").unlink()
    assert told(blog, shop) == [], "an older version does not say"


def test_a_home_of_its_own_beside_the_one_unit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop, blog = project(tmp_path, "shop", shared=SETTINGS), project(tmp_path, "blog", shared=SETTINGS)
    unit, home = tmp_path / "percore.service", tmp_path / "other"
    home.mkdir()
    monkeypatch.setattr(conflicts, "UNIT_FILE", str(unit))
    assert told(blog) == []
    unit.write_text(UNIT.replace("/HOME", str(home)))
    assert told(blog) == []
    claim(shop)
    (home / "state.json").write_text(json.dumps({"apps": [{"config": {"name": "web", "source": shop.deploy_to}}]}))
    assert told(blog) == [
        f"percore.service on this host has percore_home {home}, for 'shop' in environment 'production' ({shop.deploy_to}); "
        f"this project sets {blog.home} -> set percore_home: {home} here, and percore_user, package_path and launcher_path "
        "as there"
    ]
    assert told(shop) == [], "its own apps may move"
    assert told(blog._replace(shared={})) == [], "without systemd each home has a supervisor of its own"


def test_a_directory_inside_that_of_another_project_is_refused(tmp_path: Path) -> None:
    shop, near = project(tmp_path, "shop"), project(tmp_path, "shop2")
    inner = project(tmp_path, "blog", place="shop/blog")
    assert told(near, shop) == []
    for paths, other in ((inner, shop), (shop, inner)):
        [text] = told(paths, other)
        assert text.startswith(
            f"deploy_to {paths.deploy_to} and that of another project ({other.deploy_to}) lie in one"
        )


def test_a_file_that_two_projects_would_write_in_turn_is_refused(tmp_path: Path) -> None:
    shop, staging = project(tmp_path, "shop"), project(tmp_path, "shop", "staging", place="shop-staging")
    claim(shop)
    site, own = "/etc/nginx/sites-available/shop", {staging.command[0]: "1", f"{staging.package}/current": "1"}
    theirs = {site: "0a", "/etc/same": "0b", **dict.fromkeys(own, "2")}

    def refused(**files: str) -> list[str]:
        found = find_conflicts(staging, {shop.deploy_to: theirs}, PortsRequest([], files={**own, **files}))
        return [f"{each.what} -> {each.next}" for each in found]

    assert refused(**{"/etc/same": "0b", "/etc/other": "0c"}) == []
    assert refused(**{site: "ff"}) == [
        f"{site} is a file of 'shop' in environment 'production' ({shop.deploy_to}) as well, with another content -> set another "
        "app_name, such as app_name: shop-staging, or another path in the role"
    ]


# -- sites of NGINX ---------------------------------------------------------------------------------------------------

CONF = """\
user "www-data"; events {}
http {
    server_names_hash_bucket_size 64;
    include /etc/nginx/conf.d/*.conf; include sites-enabled/*;
}
"""


class Nginx:
    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("conf.d", "sites-available", "sites-enabled"):
            (root / name).mkdir(parents=True)
        (root / "nginx.conf").write_text(CONF.replace("/etc/nginx", str(root)))

    def site(self, app: str, body: str, *, enabled: bool = True) -> Path:
        path = self.root / "sites-available" / app
        path.write_text(f"# Written by percore for {app}. Changes are overwritten.\n{body}\n")
        if enabled:
            (self.root / "sites-enabled" / app).symlink_to(path)
        return path

    def wish(self, body: str, app: str = "blog", leaving: tuple[str, ...] = ()) -> SiteWish:
        gone = [str(self.root / "sites-enabled" / name) for name in leaving]
        path, link = self.root / "sites-available" / app, self.root / "sites-enabled" / app
        return SiteWish(str(path), str(link), body, gone)


@pytest.fixture
def nginx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Nginx:
    made = Nginx(tmp_path / "nginx")
    monkeypatch.setattr(sites, "NGINX", str(made.root))
    return made


DEFAULT = "server { listen 80 default_server; listen [::]:80 default_server; server_name _; }"
PLAIN = "server { listen 80; listen [::]:80; server_name NAMES; }"


@pytest.mark.parametrize(
    ("there", "wanted", "what"),
    [
        (DEFAULT, DEFAULT, "is the default server on port 80, as 'blog' would be"),
        ("server { listen *:80 default; }", "server { listen 0.0.0.0:80 default_server; }", "is the default server on port 80"),
        (PLAIN, PLAIN, "server_name _ on port 80 is that of"),
        ("server { listen 8080; server_name a.example; }", "server { listen 8080; server_name b.example A.example; }",
         "server_name a.example on port 8080 is that of"),
        ("server { server_name a.example; }", "server { listen 80; server_name 'a.example'; }", "a.example on port 80"),
        ("server { listen 443 ssl; server_name *.example; }", "server { listen 443 ssl; server_name *.example; }",
         "server_name *.example on port 443"),
        ("# server_name c;\nmap $a $b { default 'x}'; }\n" + PLAIN.replace("NAMES", "c.example"),
         PLAIN.replace("NAMES", "d.example c.example"), "server_name c.example on port 80"),
    ],
)  # fmt: skip
def test_a_site_that_another_project_has_is_refused_with_both_named(
    nginx: Nginx, tmp_path: Path, there: str, wanted: str, what: str
) -> None:
    there, wanted = there.replace("NAMES", "_"), wanted.replace("NAMES", "_")
    nginx.site("shop", there, enabled=False)
    blog = project(tmp_path, "blog")
    assert told(blog, wanted=[nginx.wish(wanted)]) == [], "what is not enabled is nobody's"
    nginx.site("shop", there)
    [text] = told(blog, wanted=[nginx.wish(wanted)])
    assert what in text
    assert f"the site of 'shop' ({nginx.root}/sites-enabled/shop)" in text
    assert "'blog'" in text
    assert told(blog, wanted=[nginx.wish(wanted, leaving=("shop",))]) == []
    assert told(project(tmp_path, "shop"), wanted=[nginx.wish(wanted, "shop")]) == [], "one's own may change"


@pytest.mark.parametrize(
    ("there", "wanted"),
    [
        (DEFAULT, PLAIN.replace("NAMES", "a.example")),
        (PLAIN.replace("NAMES", "a.example"), PLAIN.replace("NAMES", "b.example")),
        (DEFAULT, "server { listen 8080 default_server; server_name _; }"),
        ("server { listen 80; server_name a.example; }", "server { listen 443 ssl; server_name a.example; }"),
        ("server { listen 127.0.0.1:80 default_server; }", DEFAULT),
        (PLAIN.replace("NAMES", "_"), DEFAULT),  # the default server is asked
        ("server { listen unix:/run/a.sock; server_name a; }", "server { listen unix:/run/b.sock; server_name a; }"),
        ("server { location / { return 200 'server { listen 80 default_server; }'; } listen 81; }", DEFAULT),
        ("}}}; server {", DEFAULT),
        ("", ""),
    ],
)  # fmt: skip
def test_sites_that_want_different_things_may_stand_together(
    nginx: Nginx, tmp_path: Path, there: str, wanted: str
) -> None:
    nginx.site("shop", there)
    assert told(project(tmp_path, "blog"), wanted=[nginx.wish(wanted)]) == []


def test_a_site_of_nobody_is_named_by_its_file(nginx: Nginx, tmp_path: Path) -> None:
    file = nginx.root / "conf.d/own.conf"
    file.write_text(DEFAULT)
    [text] = told(project(tmp_path, "blog"), wanted=[nginx.wish(DEFAULT)])
    assert text.startswith(
        f"{file} is the default server on port 80, as 'blog' would be -> set server_name to the names"
    )
    (nginx.root / "nginx.conf").unlink()
    assert told(project(tmp_path, "blog"), wanted=[nginx.wish(DEFAULT)]) == []


# -- a site that goes when another one comes --------------------------------------------------------------------------


def site_of(nginx: Nginx, name: str) -> dict[str, Any]:
    return {
        "kind": "site", "path": f"{nginx.root}/sites-available/{name}", "link": f"{nginx.root}/sites-enabled/{name}",
        "sha256": "0" * 64, "without": ["/etc/nginx/sites-enabled/default"],
    }  # fmt: skip


def test_the_site_of_a_former_name_goes_before_nginx_reads_the_new_one(
    nginx: Nginx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, seen = project(tmp_path, "store"), []
    nginx.site("shop", DEFAULT)
    target, new = Target(store), "20260102120000-bbbbbbbb"
    for release, name in ((RELEASE, "shop"), (new, "store")):
        place = Path(target.releases.path(release)) / ".percore"
        place.mkdir(parents=True)
        (place / "activation.json").write_text(json.dumps({"before": [], "after": [site_of(nginx, name)]}))
        (place.parent / ".percore.json").write_text('{"apps": []}')
    Path(target.releases.link).symlink_to(f"releases/{RELEASE}")
    monkeypatch.setattr(Site, "difference", lambda _: "other")
    monkeypatch.setattr(Site, "verify", lambda site, coming: seen.append(site.spec["without"]))
    Staging(target, io.BytesIO(), lambda _: None).verify(new)
    assert seen == [["/etc/nginx/sites-enabled/default", f"{nginx.root}/sites-enabled/shop"]]

    done: list[str] = []
    monkeypatch.setattr(
        Activation, "_install", lambda _, specs, *rest: done.extend(f"{s['kind']} {s.get('path')}" for s in specs)
    )
    for name in ("_replace_supervisor", "_apply_apps", "_run_handlers"):
        monkeypatch.setattr(Activation, name, lambda *_: None)
    monkeypatch.setattr(Activation, "_check_health", lambda *_: {"apps": []})
    change = Activation(target.releases, target.supervisor, new, lambda _: None)
    change._switch()
    gone, comes = (f"{nginx.root}/sites-{place}" for place in ("enabled/shop", "available/store"))
    assert done[:2] == [f"absent-site {gone}", f"site {comes}"]
    assert done[-1].startswith("nginx-reload")
    undone = make({"kind": "absent-site", "path": gone}).former()
    assert [each["kind"] for each in undone] == ["link", "nginx-reload"], "it serves again when the new one failed"
