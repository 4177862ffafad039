"""The dashboard in a browser: what it shows, by mouse, by keyboard, on a phone, and to whom it speaks."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

from percore.web.auth import Access
from percore.web.dashboard.board import PageBoard
from percore.web.dashboard.one_file import render_report
from percore.web.dashboard.orders import PageOrder
from percore.web.dashboard.sample import HostSample
from tests.pages import MACHINE, FakeSource, fill, make_app, make_worker, serving, usual_sample
from tests.waiting import wait_for

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed here"),
    pytest.mark.xdist_group("browser"),
]
GONE = HostSample([], MACHINE, "no supervisor runs in /var/lib/percore", "percore ping")
OFTEN, SELDOM = 0.2, 5.0  # seconds between two refreshes
Open = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """Pages that fail the test where a script fails, or the policy forbids something."""
    opened: list[Page] = []
    faults: list[str] = []

    def open_one(url: str, *, motion: str = "no-preference") -> Page:
        viewport: ViewportSize = {"width": 1280, "height": 844}
        page = browser.new_context(viewport=viewport, reduced_motion=motion).new_page()  # type: ignore[arg-type]
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda line: faults.append(line.text) if "Content Security" in line.text else None)
        opened.append(page)
        page.goto(url)
        page.wait_for_selector(".tiles")
        return page

    yield open_one
    for page in opened:
        page.context.close()
    assert faults == []


def violations(page: Page) -> list[tuple[str, str]]:
    """What axe-core finds, each with the first place."""
    return [(each["id"], each["nodes"][0]["target"]) for each in Axe().run(page).response["violations"]]


def make_board(*samples: HostSample, is_fleet: bool = False, every: float = OFTEN) -> tuple[PageBoard, FakeSource]:
    source = FakeSource()
    board = PageBoard("production" if is_fleet else "web1", source, every=every, is_fleet=is_fleet)
    fill(board, "web1", samples or [usual_sample(step) for step in range(60)])
    return board, source


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Of the usual page, where nobody changes anything."""
    board, _ = make_board(every=SELDOM)
    with serving(board) as address:
        yield address


@pytest.fixture(scope="module")
def fleet() -> Iterator[str]:
    """Two hundred hosts with a thousand apps."""
    board, _ = make_board(is_fleet=True)
    apps = [
        make_app(name, [make_worker(slot) for slot in range(4)]) for name in ("shop", "api", "jobs", "admin", "find")
    ]
    for number in range(2, 201):
        fill(board, f"web{number}", [HostSample(apps, MACHINE)] * 5)
    fill(board, "web17", [GONE])
    with serving(board) as address:
        yield address


# -- what it shows ---------------------------------------------------------------------------------------------------


def test_every_app_stands_with_its_figures_its_problem_and_six_charts(url: str, open_page: Open) -> None:
    page = open_page(url)
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.nth(1)).to_contain_text("exited with code 1")
    expect(rows.nth(2)).to_contain_text("4/4")
    expect(page.locator(".chart canvas")).to_have_count(6)
    expect(page.locator(".chart", has_text="Connections")).to_contain_text("21")
    expect(page.locator(".events li").first).to_contain_text("1 worker restarted: crash (59 times)")


def test_without_the_library_of_the_charts_the_figures_are_there(url: str, browser: Browser) -> None:
    page = browser.new_page()
    page.route("**/uPlot*", lambda route: route.abort())
    page.goto(url)
    expect(page.locator(".chart").first).to_contain_text("The library of the charts is missing in this checkout.")
    expect(page.locator("tbody tr")).to_have_count(3)
    page.close()


def test_names_sort_and_the_filter_leaves_what_it_says(url: str, open_page: Open) -> None:
    page = open_page(url)
    names = page.locator("tbody td.name a")
    expect(names).to_have_text(["blog", "mailer", "shop"])
    page.get_by_role("button", name="Memory").click()
    expect(names).to_have_text(["shop", "blog", "mailer"])
    expect(page.locator("th[aria-sort]")).to_have_attribute("aria-sort", "descending")
    page.get_by_label("Filter by name").fill("O")
    expect(names).to_have_text(["shop", "blog"])
    page.get_by_label("Show").select_option("troubled")
    expect(page.locator("main")).to_contain_text("No name has this text.")


def test_new_figures_come_by_themselves_and_charts_go_on_where_they_were(open_page: Open) -> None:
    board, _ = make_board()
    with serving(board) as address:
        page = open_page(address + "#/app/web1/shop")
        expect(page.locator("tbody tr")).to_have_count(4)
        before = page.locator(".chart", has_text="Memory").locator(".reading").inner_text()
        larger = make_app("shop", [make_worker(0)._replace(memory=7 << 30)])
        deadline = time.monotonic() + 6.5  # three steps of the history
        while time.monotonic() < deadline:
            board.take("web1", HostSample([larger], MACHINE), time.time())
            time.sleep(0.1)
        expect(page.locator("tbody tr")).to_have_count(1)
        page.get_by_role("button", name="By worker").wait_for(state="hidden")
        expect(page.locator(".chart", has_text="Memory").locator(".reading")).to_contain_text("7.0 GB")
        assert "7.0 GB" not in before
        expect(page.locator(".events")).to_contain_text("4 -> 1 workers")


def test_a_log_is_searched_and_what_programs_wrote_is_text(url: str, open_page: Open) -> None:
    page = open_page(url + "#/app/web1/shop")
    log = page.get_by_label("Lines of the log")
    expect(log.locator("div")).to_have_count(3)
    expect(log.locator("div.err")).to_have_text("err <b>cache</b> is cold")
    page.get_by_label("Search").fill("CART")
    expect(log.locator("div")).to_have_count(1)
    expect(log.locator("mark")).to_have_text("cart")
    page.get_by_label("Search").fill("nothing like it")
    expect(log).to_contain_text("No line has this text.")


def test_a_supervisor_that_is_gone_is_told_with_what_to_type_and_the_last_figures_stay(open_page: Open) -> None:
    board, _ = make_board()
    with serving(board) as address:
        page = open_page(address)
        expect(page.locator("#banner")).to_be_hidden()
        board.take("web1", GONE, time.time())
        expect(page.get_by_role("alert")).to_have_text(
            re.compile("no supervisor runs in /var/lib/percore.*percore ping")
        )
        expect(page.locator("tbody tr")).to_have_count(3)
        board.take("web1", usual_sample(), time.time())
        expect(page.locator("#banner")).to_be_hidden()


def test_a_server_that_is_gone_is_told_until_it_is_back(open_page: Open) -> None:
    board, _ = make_board()
    with serving(board) as address:
        page = open_page(address)
        page.route("**/api/**", lambda route: route.abort())
        expect(page.get_by_role("alert")).to_contain_text("no answer from the server of this page")
        expect(page.locator("#live")).to_have_text("no connection")
        page.unroute("**/api/**")
        expect(page.locator("#banner")).to_be_hidden()


def test_a_page_without_apps_says_how_to_start_one(open_page: Open) -> None:
    board, _ = make_board(HostSample([], MACHINE))
    with serving(board) as address:
        expect(open_page(address).locator("main")).to_contain_text("No app runs here yet. Type: percore start FILE")


# -- orders ----------------------------------------------------------------------------------------------------------


def test_nothing_is_done_before_it_was_confirmed_and_the_keyboard_is_enough(open_page: Open) -> None:
    board, source = make_board()
    with serving(board) as address:
        page = open_page(address)
        page.keyboard.press("/")
        page.keyboard.type("shop")
        expect(page.locator("tbody tr")).to_have_count(1)
        page.locator("tbody a").focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_have_text("shop")
        for key in ("Escape", "Enter"):  # Enter is on Cancel
            page.get_by_role("button", name="Restart", exact=True).press("Enter")
            expect(page.get_by_role("dialog")).to_contain_text("Requests that they work on may be lost.")
            page.keyboard.press(key)
            expect(page.get_by_role("dialog")).to_be_hidden()
        assert source.orders == []
        page.get_by_role("button", name="Scale").click()
        page.get_by_role("spinbutton", name="Workers").fill("6")
        page.get_by_role("dialog").get_by_role("button", name="Scale").click()
        wait_for(lambda: source.orders, "the order")
        assert source.orders == [PageOrder("web1", "shop", "scale", "6")]
        expect(page.locator(".events")).to_contain_text("scale 6: asked for in the dashboard")


def test_a_page_from_before_the_server_was_restarted_still_gives_orders(open_page: Open) -> None:
    board, source = make_board()
    access = Access([], port=0, allows_actions=True)
    with serving(board, access=access) as address:
        page = open_page(address + "#/app/web1/shop")
        page.get_by_role("button", name="Reload", exact=True).wait_for()
        access.page_token = "of another run"
        page.get_by_role("button", name="Reload", exact=True).click()
        page.get_by_role("dialog").get_by_role("button", name="Reload").click()
        wait_for(lambda: source.orders, "the order")


def test_an_answer_that_ends_in_the_middle_is_none(open_page: Open) -> None:
    board, _ = make_board()
    with serving(board) as address:
        page = open_page(address)
        expect(page.locator("#live")).to_have_text("live")
        page.route("**/api/snapshot*", lambda route: route.fulfill(status=200, body='{"hosts": [{"na'))
        expect(page.locator("#banner")).to_contain_text("no answer from the server of this page")
        page.unroute("**/api/snapshot*")
        expect(page.locator("#live")).to_have_text("live", timeout=15_000)


def test_without_the_right_there_is_no_button(open_page: Open) -> None:
    board, _ = make_board()
    with serving(board, allows_actions=False) as address:
        page = open_page(address + "#/app/web1/shop")
        expect(page.locator("tbody tr")).to_have_count(4)
        expect(page.get_by_role("button", name="Reload", exact=True)).to_have_count(0)


# -- for everyone ----------------------------------------------------------------------------------------------------


def test_axe_finds_nothing_in_light_and_dark_and_nothing_is_wider_than_a_phone(url: str, open_page: Open) -> None:
    gone, _ = make_board(usual_sample(), GONE, every=SELDOM)
    hosts, _ = make_board(is_fleet=True, every=SELDOM)
    fill(hosts, "web2", [GONE])
    with serving(gone) as gone_url, serving(hosts) as hosts_url:
        for address in (url, url + "#/app/web1/shop", url + "#/app/web1/mailer", hosts_url, gone_url):
            page = open_page(address, motion="reduce")
            for scheme, width in (("light", 1280), ("dark", 390)):
                page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
                page.set_viewport_size({"width": width, "height": 844})
                page.wait_for_selector(".chart canvas")
                assert violations(page) == [], (address, scheme)
                assert page.evaluate("document.documentElement.scrollWidth") == width, address
            page.close()


def test_nothing_moves_where_the_reader_wants_none_of_it(url: str, open_page: Open) -> None:
    animation = "getComputedStyle(document.querySelector('#live'), '::before').animationName"
    assert [open_page(url, motion=motion).evaluate(animation) for motion in ("reduce", "no-preference")] == [
        "none",
        "pulse",
    ]


# -- all hosts -------------------------------------------------------------------------------------------------------


def test_two_hundred_hosts_are_refreshed_in_less_than_a_second_and_found_by_name(fleet: str, open_page: Open) -> None:
    page = open_page(fleet)
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(200)
    expect(page.get_by_role("alert")).to_have_text("No figures of 1 of 200 hosts: web17")
    took = page.evaluate(
        """async () => {
          const began = performance.now(), fetched = window.fetch;
          return new Promise((done) => {
            let asked = 0;
            window.fetch = async (...words) => {
              if (String(words[0]).includes("snapshot")) {
                if (asked) done(performance.now() - asked);
                asked = performance.now();
              }
              return fetched(...words);
            };
          });
        }"""
    )
    assert took - 1000 * OFTEN < 1000
    page.get_by_label("Filter by name of host or app").fill("web123")
    expect(rows).to_have_count(1)
    page.get_by_role("button", name="Apps of web123").click()
    expect(rows).to_have_count(6)
    page.get_by_role("link", name="admin").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("admin")
    page.get_by_role("link", name="web123").click()
    expect(rows).to_have_count(5)


def test_a_report_opens_from_a_file_and_asks_nobody(browser: Browser, open_page: Open, tmp_path: Path) -> None:
    board, _ = make_board(is_fleet=True)
    path = tmp_path / "report.html"
    path.write_bytes(render_report(board))
    page = open_page(path.as_uri())
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    expect(page.locator(".chart canvas")).to_have_count(6)
    page.get_by_role("link", name="shop").click()
    expect(page.locator("tbody tr")).to_have_count(4)
    expect(page.locator(".live")).to_contain_text("at ")
    assert {address.split(":")[0] for address in asked} <= {"file", "data"}
    assert violations(page) == []
