"""The whole report in a browser: nothing fails, overflows or is loaded; all is drawn and can be reached."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import factory
import pytest

from trt_pipeline.report import write_html

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

_FOUND = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(_FOUND is None, reason="no Chromium or Chrome on PATH")

# By the beginning of their ids: how many drawings there are, and which groups each has.
_DRAWN = {"plot": (1, ("mark-0", "mark-5", "front")), "distribution": (11, ("original", "candidate")),
          "histogram": (3, ("range", "covered"))}
_BOXES = """groups => [...document.querySelectorAll('svg')].map(svg => ({
    title: svg.querySelector('title').id.replace(/-title$/, ''), role: svg.getAttribute('role'),
    box: [svg.getBoundingClientRect().width, svg.getBoundingClientRect().height],
    groups: Object.fromEntries([...svg.querySelectorAll('g[id]')].map(group =>
        [group.id, Math.max(...[...group.querySelectorAll('path, use')].map(shape => {
            const box = shape.getBoundingClientRect(); return Math.max(box.width, box.height) }), 0)]))}))"""
_UNREACHED = """() => [...document.querySelectorAll('*')].filter(one => one.clientWidth > 0 &&
    (one.matches('summary, a[href]') || ['auto', 'scroll'].includes(getComputedStyle(one).overflowX))).filter(one => {
        one.focus(); return one.tabIndex < 0 || document.activeElement !== one }).map(one => one.outerHTML)"""
_COLOURS = """() => [getComputedStyle(document.querySelector('[id$="-candidate"] path')).stroke,
    getComputedStyle(document.querySelector('.panel')).backgroundColor]"""
# Colours are looked at by day and by night, and widths in both windows; what axe does takes seconds.
_ONCE_EACH = ((1280, "light"), (390, "dark"))


@dataclass
class Opened:
    """The report in a window, every fold of it open, and what the browser said."""

    page: Page
    width: int
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "report.html"
    write_html(factory.whole(), path)
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        # Containers seldom allow Chromium's own sandbox, and the page is ours.
        opened = driver.chromium.launch(executable_path=_FOUND, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module", params=[(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")], ids=str)
def opened(browser: Browser, file: Path, request: pytest.FixtureRequest) -> Iterator[Opened]:
    width, scheme = request.param
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    known = Opened(page, width)

    def refuse(route: Route) -> None:
        known.asked.append(route.request.url)
        route.abort()

    page.on("console", lambda message: known.said.append(message.text))
    page.on("pageerror", lambda error: known.said.append(str(error)))
    page.route(lambda url: not url.startswith(("file:", "data:")), refuse)
    page.goto(file.as_uri())
    known.said += _overflow(known, "folded")
    page.evaluate("document.querySelectorAll('details').forEach(fold => { fold.open = true })")
    yield known
    context.close()


def _overflow(opened: Opened, when: str) -> list[str]:
    width, window = opened.page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    return [f"{when}: the page is {width} px wide in a window of {window} px"] if width > window else []


def test_it_is_quiet_loads_nothing_and_fits_the_window(opened: Opened) -> None:
    assert opened.page.evaluate("window.innerWidth") == opened.width
    assert not opened.asked
    assert not opened.said + _overflow(opened, "unfolded")


def test_every_plot_is_drawn(opened: Opened) -> None:
    drawings: list[dict[str, Any]] = opened.page.evaluate(_BOXES)
    for kind, (count, groups) in _DRAWN.items():
        of_kind = [one for one in drawings if one["title"].partition("-")[0] == kind]
        assert len(of_kind) == count
        for one in of_kind:
            assert one["role"] == "img"
            assert min(one["box"]) > 100
            assert max(one["box"]) <= opened.width
            sizes = {group: one["groups"].get(f"{one['title']}-{group}", 0) for group in groups}
            assert min(sizes.values()) > 2, (one["title"], sizes)
    assert len(drawings) == sum(count for count, _ in _DRAWN.values())


def test_what_is_drawn_is_seen_against_the_page(opened: Opened) -> None:
    """The page's colours reach into the drawings, in light and in dark."""
    dark, light = sorted(_luminance(colour) for colour in opened.page.evaluate(_COLOURS))
    assert (light + 0.05) / (dark + 0.05) > 3


@pytest.mark.parametrize("opened", _ONCE_EACH, ids=str, indirect=True)
def test_axe_finds_nothing_serious(opened: Opened) -> None:
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(opened.page, options={"resultTypes": ["violations", "passes"]}).response
    assert {"color-contrast", "image-alt", "svg-img-alt"} & {one["id"] for one in found["passes"]}
    assert not [(one["id"], one["help"], one["nodes"][0]["html"]) for one in found["violations"]
                if one["impact"] in ("serious", "critical")]


def test_all_that_scrolls_or_folds_is_reached_by_keyboard(opened: Opened) -> None:
    assert opened.page.evaluate("document.querySelectorAll('summary').length") > 10
    assert opened.page.evaluate(_UNREACHED) == []


def test_a_fold_opens_by_a_key(browser: Browser, file: Path) -> None:
    page = browser.new_page()
    page.goto(file.as_uri())
    table = page.get_by_text("Each mark of the plot")
    assert not table.is_visible()
    page.get_by_text("The plot as a table").focus()
    page.keyboard.press("Enter")
    assert table.is_visible()
    page.close()


def test_the_file_is_small(file: Path) -> None:
    assert file.stat().st_size < 1e6


def _luminance(colour: str) -> float:
    """Relative luminance of ``rgb(r, g, b)``."""
    parts = [int(part) / 255 for part in colour[colour.index("(") + 1:-1].split(",")[:3]]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
