"""The demo desk in a headless Chromium, with the web service behind it, for the panel's tests."""

import json
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

from flask import Flask
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import ActionChains, Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait
from support.web_caller import served, session, settings_of

from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings.sections import DeskSettings
from evergreen_groups.web import close, create_app

TIMEOUT = 60
REREAD, LOST, GIVEN_UP = 800, 4_000, 15_000
"""Milliseconds until the client's figures are at rest, until the group's page is late, and until a request times out.
"""

# Runs in each new document: some timers of the panel and the tab fire only on a test's command. On a slow machine, a
# page may take longer than a clerk would wait, and refreshes would interrupt other steps.
_TIME = """
window.underWay = { waits: new Map(), held: new Set(HELD), questions: 0 };
{
  const { waits, held } = underWay;
  const [wait, stop, ask] = [setTimeout, clearTimeout, fetch.bind(window)];
  let last = 0;
  window.setTimeout = (work, ms, ...rest) => {
    if (!KNOWN.includes(ms)) return wait(work, ms, ...rest);
    const id = --last;
    const end = () => waits.delete(id) && work(...rest);
    waits.set(id, { ms, end });
    if (!held.has(ms)) wait(end, ms);
    return id;
  };
  window.clearTimeout = (id) => waits.delete(id) || stop(id);
  window.fetch = async (place, ...more) => {
    if (!String(place).endsWith("/summary")) return ask(place, ...more);
    underWay.questions += 1;
    try {
      const response = await ask(place, ...more);
      return new Response(await response.text(), response);
    } finally {
      underWay.questions -= 1;
    }
  };
}
""".replace("HELD", json.dumps([LOST, GIVEN_UP])).replace("KNOWN", json.dumps([REREAD, LOST, GIVEN_UP]))
_HOLD = "underWay.held.add(arguments[0])"
_PASS = "for (const { ms, end } of [...underWay.waits.values()]) if (ms === arguments[0]) end()"
_AT_REST = f"return !underWay.questions && ![...underWay.waits.values()].some(({{ ms }}) => ms === {REREAD})"
_ANGULAR, _ANGULARJS = "/eg2/en-US/staff/circ/patron", "/eg/staff/circ/patron"
CLIENTS = {"Angular": _ANGULAR, "AngularJS": _ANGULARJS, "Angular 3.11": _ANGULAR, "AngularJS 3.11": _ANGULARJS}
"""The path of patrons' pages in each staff client, newest and oldest."""
BETWEEN = (
    *(f"Angular 3.{minor}" for minor in range(12, 17)),
    *(f"AngularJS {release}" for release in ("3.13", "3.14", "3.15.8", "3.15.9", "3.16.2", "3.16.3")),
)
"""The same for the releases between them."""


def kind(client: str) -> str:
    """Return ``Angular`` or ``AngularJS``, for any release or a path."""
    return {"/eg2": "Angular", "/eg/": "AngularJS"}.get(client[:4], client.partition(" ")[0])


# What is visible of the panel; the patron is the one whose figures it shows.
_PANEL = """
const block = document.querySelector(".evergreen-groups");
const text = (node) => (node ? node.innerText.trim() : null);
const all = (selector) => [...block.querySelectorAll(selector)];
const link = (node) => (node ? new URL(node.href).pathname : null);
const texts = (item, selector) => [...item.querySelectorAll(selector)].map(text);
return block && block.offsetParent ? {
  text: text(block.querySelector("[role=group]")),
  state: block.dataset.state,
  patron: block.dataset.state === "ready" ? Number(block.dataset.patron) : null,
  amount: text(block.querySelector(".evergreen-groups-line:first-child > .evergreen-groups-sum")),
  lines: all("[role=group] > .evergreen-groups-line").map(text),
  page: link(block.querySelector("[role=group] > .evergreen-groups-line a")),
  height: Math.round(block.getBoundingClientRect().height),
  members: all("li").map((item) => ({
    name: item.querySelector("a").getAttribute("aria-label"),
    shown: item.querySelector("a").textContent,
    link: link(item.querySelector("a")),
    owed: text(item.querySelector(".evergreen-groups-sum")),
    marks: texts(item, ".evergreen-groups-mark"),
    blocked: texts(item, ".evergreen-groups-blocked"),
    about: [...item.querySelectorAll("[role=tooltip] > div")].map((one) => one.textContent),
  })),
  rest: text(block.querySelector(".evergreen-groups-rest")),
} : null;
"""
# Record for each frame which card is in the summary, and whose panel is shown.
_WATCH = """
window.watched = [];
const cards = ".account-id dd, #patron-summary-grid > .patron-summary-divider:not([ng-class]) > :nth-child(2), "
  + ".patron-summary-container > hr:nth-of-type(2) + .row > :nth-child(2)";
const look = () => {
  const card = document.querySelector(cards);
  const block = document.querySelector(".evergreen-groups[data-state=ready]");
  if (card && block) window.watched.push([card.textContent.trim(), block.dataset.patron]);
  requestAnimationFrame(look);
};
look();
"""
_FLAWS = """
const [rules, done] = arguments;
const options = { iframes: false, ...(rules.length ? { runOnly: rules } : {}) };
const { scrollWidth, clientWidth } = document.documentElement;
Promise.all(document.getAnimations().map((one) => one.finished)).then(() => axe.run(document, options))
  .then(({ violations }) => done([
    ...violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html.slice(0, 200))]),
    ...(scrollWidth > clientWidth ? ["sticks out"] : []),
  ]));
"""
UNFOLDED = "evergreen-groups.members"
"""The key under which the browser remembers that members are unfolded."""


@dataclass
class Gate:
    """A proxy in front of the service, which can hold back the responses about some patrons."""

    app: Flask
    asked: list[str] = field(default_factory=list)
    held: dict[str, threading.Event] = field(default_factory=dict)
    arrived: threading.Event = field(default_factory=threading.Event)
    page: Callable[..., Iterable[bytes]] | None = None
    """Responds for the page of a patron's group instead of the service."""
    down: bool = False
    """Whether only the panel's script is served, as where Apache serves it while the service is down."""

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = str(environ["PATH_INFO"])
        self.asked.append(path)
        if self.down and not path.endswith("/panel.js"):
            start_response("503 Service Unavailable", [("Content-Type", "text/html")])
            return [b"<h1>Service Unavailable</h1>"]
        gate = self.held.get(path)
        if gate is not None:
            self.arrived.set()
            gate.wait(TIMEOUT)
        if self.page is not None and path.startswith("/evergreen-groups/patrons/"):
            return self.page(environ, start_response)
        return self.app(environ, start_response)

    @contextmanager
    def holding(self, patron: int) -> Iterator[None]:
        """Hold back responses about the patron until the end of the block."""
        path = f"/evergreen-groups/api/v1/patrons/{patron}/summary"
        self.arrived.clear()
        gate = self.held[path] = threading.Event()
        try:
            yield
        finally:
            gate.set()
            del self.held[path]

    def count(self, patron: int) -> int:
        """Return the number of requests about the patron."""
        return self.asked.count(f"/evergreen-groups/api/v1/patrons/{patron}/summary")


class Desk:
    def __init__(self, browser: Chrome, sandbox: Sandbox, gate: Gate, service_url: str) -> None:
        self.browser = browser
        self.sandbox = sandbox
        self.gate = gate
        self._service_url = service_url
        self._release: str | None = None
        self.browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": _TIME})
        self.service_up()

    def begin(self) -> None:
        """Restore the initial state, in one window, with a user logged in."""
        self.sandbox.reset()
        self.gate.page = None
        self._release = None
        self.service_up()
        first, *others = self.browser.window_handles
        for other in others:
            self.browser.switch_to.window(other)
            self.browser.close()
        self.browser.switch_to.window(first)
        self.run_scripts()
        self.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
        self.log_in_as("consortium_staff")
        self.browser.delete_cookie("eg_locale")

    def run_scripts(self, *, run: bool = True) -> None:
        """Run pages' scripts, or from now on run none."""
        self.browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not run})

    def service_up(self) -> None:
        self.gate.down = False
        self._serve(self._service_url)

    def service_down(self) -> None:
        self._serve("http://127.0.0.1:9")  # the discard port: nothing listens there

    def _serve(self, service_url: str) -> None:
        self._behind = service_url
        self.sandbox.serve_desk(service_url, self._release)

    @contextmanager
    def with_settings(self, directory: Path, settings: DeskSettings) -> Iterator[None]:
        """Replace the service by one with these settings."""
        home = {"XDG_STATE_HOME": str(directory), "XDG_CACHE_HOME": str(directory)}
        usual, self.gate.app = self.gate.app, create_app(settings_of(self.sandbox.url, desk=settings), home)
        try:
            yield
        finally:
            close(self.gate.app)
            self.gate.app = usual

    def log_in_as(self, username: str) -> str:
        """Begin a session, and return its token."""
        token = session(self.sandbox.url, username=username)
        self.log_in(token)
        return token

    def log_in(self, token: str) -> None:
        """Set the staff client's cookie, and reset its choices."""
        self.browser.get(f"{self.sandbox.url}/sandbox/desk/desk.css")
        self.have_cookie(token)
        self.run("localStorage.clear(); sessionStorage.clear()")
        # The history holds 50 pages; beyond that, Chromium first drops those that a script navigated to.
        self.browser.execute_cdp_cmd("Page.resetNavigationHistory", {})

    def have_cookie(self, token: str) -> None:
        self.browser.add_cookie({"name": "eg.auth.token", "value": quote(json.dumps(token), safe=""), "path": "/"})

    def speak(self, language: str) -> None:
        """Choose a language (tag) for the clients' pages and ours."""
        self.browser.add_cookie({"name": "eg_locale", "value": language, "path": "/"})

    @contextmanager
    def in_new_pages(self, script: str) -> Iterator[None]:
        """Run a script in each new page, before the page's own."""
        added = self.browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
        try:
            yield
        finally:
            self.browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)

    def open(self, client: str, place: str) -> None:
        """Open a page of a client, for example ``1001/checkout``; ``client`` is a name or a path."""
        self._release = client.partition(" ")[2] or None
        self._serve(self._behind)
        self.browser.get(f"{self.sandbox.url}{self.address(client)}/{place}")

    def address(self, client: str) -> str:
        return client if client.startswith("/") else CLIENTS[kind(client)]

    def run(self, script: str, *arguments: object) -> Any:
        return self.browser.execute_script(script, *arguments)

    def panel(self) -> Any:
        """Return what is visible of the panel, or None."""
        return self.run(_PANEL)

    def until(self, condition: Callable[[], Any]) -> Any:
        """Wait for a condition. The client may replace an element while it is being looked at."""
        waiting = WebDriverWait(self.browser, TIMEOUT, 0.03, ignored_exceptions=(StaleElementReferenceException,))
        return waiting.until(lambda _: condition())

    def panel_of(self, patron: int) -> Any:
        """Wait until the panel shows the patron, each text in the form that fits, and return it."""
        self.until(lambda: (panel := self.panel()) and panel["patron"] == patron)
        self.framed()
        return self.panel()

    def comes_to(self, amount: str) -> None:
        """Wait until the panel shows an amount."""
        self.until(lambda: (panel := self.panel()) and panel["amount"] == amount)

    def unfold(self) -> None:
        """Unfold the members on all pages opened from now on."""
        self.run("localStorage.setItem(arguments[0], 'true')", UNFOLDED)

    def problem(self, words: str) -> Any:
        """Wait until the panel shows an error, and return it."""
        return self.until(lambda: (panel := self.panel()) and words in (panel["text"] or "") and panel)

    def owed(self) -> str:
        """Return the own fines that the client shows."""
        return str(self.run("return document.querySelector('[data-field=owed]')?.textContent.trim() ?? ''"))

    def shows(self, owed: str) -> None:
        """Wait until the client itself has loaded the patron's amounts."""
        self.until(lambda: self.owed() == owed)

    def answered_with(self, ending: str) -> None:
        """Wait for a response from any URL with this ending, and for a frame."""
        script = (
            "return performance.getEntriesByType('resource')"
            ".some((one) => new URL(one.name).pathname.endsWith(arguments[0]) && one.responseEnd > 0)"
        )
        self.until(lambda: self.run(script, ending))
        self.framed()

    def framed(self) -> None:
        """Wait until the page is drawn in its current state, and code that runs with each frame has seen it.

        On a busy machine, the document may be read several times before its next frame.
        """
        self.browser.execute_async_script(
            "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done))"
        )

    def comes_to_rest(self) -> None:
        """Wait until the panel has seen the client's current figures, and has its responses."""
        # Twice, because the changes of a frame may cause another look.
        self.until(lambda: all(self.framed() or self.run(_AT_REST) for _ in range(2)))

    def hold(self, wait: int) -> None:
        """From now on, keep timers of so many milliseconds from firing on this page, except by :meth:`let_pass`."""
        self.run(_HOLD, wait)

    def let_pass(self, wait: int) -> None:
        """Fire the timers of so many milliseconds that start before the next frame."""
        self.framed()
        self.run(_PASS, wait)

    def click(self, selector: str) -> None:
        self.run("document.querySelector(arguments[0]).click()", selector)

    def go(self, client: str, patron: int, tab: str = "checkout") -> None:
        """Navigate to another patron within the page, like a click on one of the client's links."""
        path = f"{self.address(client)}/{patron}/{tab}"
        if kind(client) == "Angular":
            self.run("history.pushState(null, '', arguments[0]); dispatchEvent(new PopStateEvent('popstate'))", path)
        else:
            self.run(
                "const link = document.createElement('a'); link.href = arguments[0];"
                "document.getElementById('view').append(link); link.click()",
                path,
            )

    def watch(self) -> None:
        self.run(_WATCH)

    def watched(self) -> set[tuple[str, int]]:
        """Return the pairs of a card in the summary and the panel's patron, for all frames since :meth:`watch`."""
        self.framed()
        return {(card, int(patron)) for card, patron in self.run("return window.watched")}

    def shown_stock_row(self) -> bool:
        """Return whether the client's own Group Fines row is visible."""
        script = "const row = document.querySelector('[data-field=group]'); return Boolean(row && row.offsetParent)"
        return bool(self.run(script))

    def focused(self) -> str:
        """Return the text of the focused element, in one script: the client may replace elements at any time."""
        return str(self.run("return document.activeElement.innerText.trim()"))

    def press(self, *keys: str) -> None:
        ActionChains(self.browser, duration=0).send_keys(*keys).perform()

    def press_with(self, modifier: str, key: str) -> None:
        chain = ActionChains(self.browser, duration=0)
        chain.key_down(modifier).send_keys(key).key_up(modifier).perform()

    def dark(self, mode: str) -> None:
        """Set the color scheme of pages opened from now on."""
        self.run("localStorage.setItem('eg.ui.general.colormode', arguments[0])", json.dumps(mode))

    def flaws(self, *rules: str) -> list[object]:
        """Return what axe finds on the page by all or some rules, and whether anything sticks out on the right."""
        self.run(resources.files("axe_core_python").joinpath("axe.min.js").read_text("utf-8"))
        return list(self.browser.execute_async_script(_FLAWS, list(rules)))

    def tab_state(self) -> str | None:
        """Return the state of the group's page in the client's tab, or None if it isn't there."""
        found = self.run("return document.querySelector('.evergreen-groups-tab')?.dataset.state ?? null")
        return None if found is None else str(found)

    def tab_shown(self) -> None:
        """Wait until the client's tab shows the group's page."""
        self.until(lambda: self.tab_state() == "shown")

    def enter_tab(self) -> None:
        """Wait for the group's page in the client's tab, and switch to its frame."""
        self.tab_shown()
        self.browser.switch_to.frame(self.element(".evergreen-groups-tab iframe"))

    def text(self, selector: str) -> str:
        return str(self.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector)).strip()

    def element(self, selector: str) -> Any:
        return self.browser.find_element(By.CSS_SELECTOR, selector)


@contextmanager
def desk_browser(directory: Path, release: str | None = None) -> Iterator[Desk]:
    """Yield a browser at a new desk, whose service keeps files in ``directory``."""
    with chromium() as browser, desk_of(browser, directory, release) as desk:
        yield desk


@contextmanager
def desk_of(browser: Chrome, directory: Path, release: str | None = None) -> Iterator[Desk]:
    """Yield the demo desk of a new sandbox, with a user logged in."""
    home = {"XDG_STATE_HOME": str(directory / "state"), "XDG_CACHE_HOME": str(directory / "cache")}
    with Sandbox(release=release) as sandbox:
        gate = Gate(create_app(settings_of(sandbox.url), home))
        with served(gate) as url:
            desk = Desk(browser, sandbox, gate, url)
            desk.begin()
            yield desk
        close(gate.app)


@contextmanager
def chromium() -> Iterator[Chrome]:
    """Yield the system's Chromium, headless."""
    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium"
    for option in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(option)
    options.add_argument("--window-size=1500,1000")
    browser = Chrome(options, Service(shutil.which("chromedriver") or "chromedriver"))
    browser.set_script_timeout(TIMEOUT)
    try:
        yield browser
    finally:
        browser.quit()


def look(
    browser: Chrome, width: int, scheme: str = "light", *, height: int = 900, mobile: bool = False, medium: str = ""
) -> None:
    """Show pages on a screen of this size, in a color scheme, or as on another medium (``print``)."""
    screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features, "media": medium})
