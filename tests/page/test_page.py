"""The page for a person in Chromium: what a browser makes of it, and a person who hears it.

Pictures are written to build/page, to be looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ksmwatch.snapshot.model import Snapshot
from tests.fake_front import Served
from tests.guests import ROOT
from tests.made_up import poll, snapshot
from tests.page.browser import Browser
from tests.page.hosts import HOSTILE_NAMES, Ordinary, Remembered, hostile

PICTURES = ROOT / "build/page"
DESK, PHONE = 1100, 360
# WCAG 2.2, 1.4.3: text in sizes that are not large.
CONTRAST = 4.5

# The lowest contrast of any text with its background, by WCAG's formula.
LEAST_CONTRAST = """
(() => {
  const light = c => {
    const [r, g, b] = c.match(/[\\d.]+/g).map(Number).map(
      v => v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = e => {
    for (; e; e = e.parentElement) {
      const c = getComputedStyle(e).backgroundColor;
      if (c !== 'rgba(0, 0, 0, 0)') return c;
    }
    return 'rgb(255, 255, 255)';
  };
  let least = 99;
  for (const e of document.querySelectorAll('body *')) {
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
    const [a, b] = [light(getComputedStyle(e).color), light(behind(e))].sort((x, y) => y - x);
    least = Math.min(least, (a + 0.05) / (b + 0.05));
  }
  return least;
})()
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    PICTURES.mkdir(parents=True, exist_ok=True)
    with Browser() as found:
        yield found


def url(served: Served, path: str = "/?refresh=off") -> str:
    return f"http://127.0.0.1:{served.port}{path}"


def go(browser: Browser, served: Served, path: str = "/?refresh=off") -> None:
    """Load the page, of a front that has had its first answer: for that a scrape waits."""
    assert served.get("/metrics")[0] == 200
    browser.go(url(served, path))


HOSTS: dict[str, Callable[[], Snapshot]] = {
    "ordinary": Ordinary(),
    "hostile": hostile,
    "notes": snapshot,
    "polling": poll,
}


@pytest.mark.parametrize("name", HOSTS)
@pytest.mark.parametrize("width", [DESK, PHONE])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_fits_the_screen_and_can_be_read(
    browser: Browser,
    name: str,
    width: int,
    dark: bool,  # noqa: FBT001
) -> None:
    with Served(make=HOSTS[name]) as served:
        browser.look(width=width, dark=dark)
        go(browser, served)
        browser.picture(PICTURES / f"{name}-{width}-{'dark' if dark else 'light'}.png")
        # The policy refused nothing, and the page requested nothing else.
        assert browser.said == []
        assert browser.asked == [url(served)]
        assert browser.evaluate("document.documentElement.scrollWidth") == width
        assert browser.evaluate(LEAST_CONTRAST) >= CONTRAST
        back = browser.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(int(part) for part in back[4:-1].split(",")) < 384) is dark


def test_hostile_names_are_read_as_they_are_and_do_nothing(browser: Browser) -> None:
    with Served(make=hostile) as served:
        browser.look(width=DESK)
        go(browser, served)
        names = browser.evaluate(
            "[...document.querySelectorAll('tbody th > bdi')].map(e => e.textContent)"
        )
        assert names == list(HOSTILE_NAMES)
        title = browser.evaluate("document.title")
        assert title.endswith("0 problems - ksmwatch")
        assert browser.evaluate("document.querySelectorAll('h1').length") == 1
        assert browser.evaluate("document.querySelectorAll('script,img,iframe,object').length") == 0
        assert browser.evaluate("location.href") == url(served)
        # A name from right to left turns only itself.
        numbers = "[...document.querySelectorAll('tbody td')].map(e => e.textContent)"
        assert all(text[0].isdigit() for text in browser.evaluate(numbers))


def test_a_script_that_was_smuggled_in_would_not_run(browser: Browser) -> None:
    """The policy holds by itself: the test puts in what escaping keeps out."""
    with Served(make=Ordinary()) as served:
        go(browser, served)
        browser.evaluate(
            "document.body.insertAdjacentHTML('beforeend',"
            ' \'<img src=x onerror="document.title=1"><p style="display:none">x</p>\');'
            "const s = document.createElement('script'); s.textContent = 'document.title=2';"
            "document.body.append(s); 0"
        )
        assert browser.evaluate("document.title").endswith("ksmwatch")
        assert (
            browser.evaluate("getComputedStyle(document.body.querySelector('p[style]')).display")
            == "block"
        )
        browser.evaluate("new Promise(r => setTimeout(r, 0))")
        assert [text for text in browser.said if "Content Security Policy" in text]


def test_a_screen_reader_hears_it_in_order(browser: Browser) -> None:
    with Served(make=poll) as served:
        browser.look(width=DESK)
        go(browser, served)
        heard = browser.heard()
    headings = [name for role, name in heard if role == "heading"]
    assert headings[0].startswith("KSM on ")
    assert headings[1:] == ["What is wrong now", "Now", "The last hour", "Largest owners"]
    roles = {role for role, _ in heard}
    assert {"main", "navigation", "table", "row", "rowheader", "columnheader", "list"} <= roles
    assert ("columnheader", "Mapped") in heard
    assert ("link", "What to do: KsmwatchPolling") in heard
    # Bars show the same as the number beside them.
    assert "img" not in roles
    assert not [name for role, name in heard if role == "link" and not name]


def test_its_links_lead_somewhere(browser: Browser) -> None:
    with Served(make=poll) as served:
        go(browser, served)
        links = browser.evaluate(
            "[...document.querySelectorAll('a')].map(e => e.getAttribute('href'))"
        )
        assert "/runbook/KsmwatchPolling" in links
        assert {path: served.get(path)[0] for path in links} == dict.fromkeys(links, 200)
        browser.look(width=PHONE)
        go(browser, served, "/runbook/KsmwatchPolling")
        browser.picture(PICTURES / "runbook.png")
        assert browser.said == []
        assert browser.evaluate("document.documentElement.scrollWidth") == PHONE
        assert "## What to do" in browser.evaluate("document.body.innerText")


def test_it_refreshes_itself_draws_lines_and_can_be_stopped(browser: Browser) -> None:
    with Served(make=Ordinary()) as served:
        browser.look(width=DESK)
        go(browser, served, "/")
        seen = [browser.evaluate("document.querySelector('dd strong').textContent")]
        for _ in range(3):
            browser.wait_for("Page.loadEventFired")
            seen.append(browser.evaluate("document.querySelector('dd strong').textContent"))
        assert len(set(seen)) == len(seen)
        assert browser.evaluate("document.querySelectorAll('polyline').length") == 4
        labels = browser.evaluate(
            "[...document.querySelectorAll('svg[role=img]')].map(e => e.ariaLabel)"
        )
        assert labels[0].startswith("Memory with KSM mappings, line of the last 45 seconds: now ")
        browser.picture(PICTURES / "lines.png")
        browser.evaluate("document.querySelector('footer a').click()")
        browser.wait_for("Page.loadEventFired")
        assert browser.evaluate("location.search") == "?refresh=off"
        assert browser.evaluate("document.querySelector('meta[http-equiv=refresh]')") is None


def test_a_history_is_drawn_at_the_first_view(browser: Browser) -> None:
    with Served(make=Remembered()) as served:
        browser.look(width=DESK)
        go(browser, served)
        browser.picture(PICTURES / "history.png")
        # Each line has a gap where nobody counted.
        assert browser.evaluate("document.querySelectorAll('polyline').length") == 8
        assert "The points are those of the history." in browser.evaluate("document.body.innerText")


def test_with_a_password_it_is_nobody_elses(browser: Browser, tmp_path: Path) -> None:
    with Served(make=Ordinary(), web_config_file=config(tmp_path)) as served:
        status, text = served.get("/")
        assert (status, "KSM" in text) == (401, False)
        assert served.get("/runbook/KsmwatchPolling")[0] == 401


def config(directory: Path) -> Path:
    """A user `u`, with the hash of a password that nobody knows."""
    path = directory / "web.yml"
    path.write_text(
        "basic_auth_users: {u: $2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG}\n"
    )
    return path
