"""The demo desk in a headless Chromium, with the web service behind it: what the tests of the panel do there."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

from flask import Flask
from selenium.webdriver import ActionChains, Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait
from support import page_time
from support.web_caller import served, session, settings_of

from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings.sections import DeskSettings
from evergreen_groups.web import close, create_app

TIMEOUT = 60
_ANGULAR, _ANGULARJS = "/eg2/en-US/staff/circ/patron", "/eg/staff/circ/patron"
CLIENTS = {"Angular": _ANGULAR, "AngularJS": _ANGULARJS, "Angular 3.11": _ANGULAR, "AngularJS 3.11": _ANGULARJS}
"""Where each staff client has its patrons' pages, the newest and the oldest."""
BETWEEN = (
    *(f"Angular 3.{minor}" for minor in range(12, 17)),
    *(f"AngularJS {release}" for release in ("3.13", "3.14", "3.15.8", "3.15.9", "3.16.2", "3.16.3")),
)
"""Those of releases between them."""


def kind(client: str) -> str:
    """``Angular`` or ``AngularJS``, of whatever release."""
    return client.partition(" ")[0]


# What can be seen of the panel; the patron is whose figures it shows.
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
    name: text(item.querySelector("a")),
    link: link(item.querySelector("a")),
    owed: text(item.querySelector(".evergreen-groups-sum")),
    marks: texts(item, ".evergreen-groups-mark"),
    blocked: texts(item, ".evergreen-groups-blocked"),
  })),
  rest: text(block.querySelector(".evergreen-groups-rest")),
} : null;
"""
# Each frame: which card stands in the summary, and whose panel. To be read afterwards.
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
UNFOLDED = "evergreen-groups.members"
"""Where the browser remembers that the members are unfolded."""


@dataclass
class Gate:
    """Stands before the service, and holds back the answers about some patrons until it's told to let them go."""

    app: Flask
    asked: list[str] = field(default_factory=list)
    held: dict[str, threading.Event] = field(default_factory=dict)
    arrived: threading.Event = field(default_factory=threading.Event)
    page: Callable[..., Iterable[bytes]] | None = None
    """What answers for the page of a patron's group in the service's place."""
    down: bool = False
    """Whether nothing is answered but the panel's script."""

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
        """Until the end of the block no answer about the patron gets through."""
        path = f"/evergreen-groups/api/v1/patrons/{patron}/summary"
        self.arrived.clear()
        gate = self.held[path] = threading.Event()
        try:
            yield
        finally:
            gate.set()
            del self.held[path]

    def count(self, patron: int) -> int:
        """How often the patron was asked about."""
        return self.asked.count(f"/evergreen-groups/api/v1/patrons/{patron}/summary")


class Desk:
    """One browser at the demo desk."""

    def __init__(self, browser: Chrome, sandbox: Sandbox, gate: Gate, service_url: str) -> None:
        self.browser = browser
        self.sandbox = sandbox
        self.gate = gate
        self._service_url = service_url
        self._release: str | None = None
        self.browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": page_time.SCRIPT})
        self.service_up()

    def begin(self, username: str = "consortium_staff") -> None:
        """Everything as at first, and somebody logged in."""
        self.sandbox.reset()
        self.gate.page = None
        self._release = None
        self.service_up()
        self.log_in(session(self.sandbox.url, username=username))

    def service_up(self) -> None:
        self.gate.down = False
        self._serve(self._service_url)

    def service_down(self) -> None:
        self._serve("http://127.0.0.1:9")  # the discard port: nothing listens there

    def _serve(self, service_url: str) -> None:
        self._behind = service_url
        self.sandbox.serve_desk(service_url, self._release)

    def service_down_but_for_the_script(self) -> None:
        """As where Apache hands out the panel's script itself."""
        self.gate.down = True

    @contextmanager
    def with_settings(self, directory: Path, settings: DeskSettings) -> Iterator[None]:
        """The service as it is with these settings."""
        home = {"XDG_STATE_HOME": str(directory), "XDG_CACHE_HOME": str(directory)}
        usual, self.gate.app = self.gate.app, create_app(settings_of(self.sandbox.url, desk=settings), home)
        try:
            yield
        finally:
            close(self.gate.app)
            self.gate.app = usual

    def log_in(self, token: str) -> None:
        """Have the cookie as the staff client sets it, and none of its choices."""
        self.browser.get(f"{self.sandbox.url}/sandbox/desk/desk.css")
        self.have_cookie(token)
        self.run("localStorage.clear(); sessionStorage.clear()")
        # It holds 50 pages; beyond that Chromium drops those first that a script went to.
        self.browser.execute_cdp_cmd("Page.resetNavigationHistory", {})

    def have_cookie(self, token: str) -> None:
        self.browser.add_cookie({"name": "eg.auth.token", "value": quote(json.dumps(token), safe=""), "path": "/"})

    def open(self, client: str, place: str) -> None:
        """Open a page of a client, such as ``1001/checkout``; the client is named, or its address is."""
        self._release = client.partition(" ")[2] or None
        self._serve(self._behind)
        self.browser.get(f"{self.sandbox.url}{self.address(client)}/{place}")

    def address(self, client: str) -> str:
        """Where a client has its patrons' pages."""
        return client if client.startswith("/") else CLIENTS[kind(client)]

    def run(self, script: str, *arguments: object) -> Any:
        return self.browser.execute_script(script, *arguments)

    def panel(self) -> Any:
        """What is seen of the panel; none if there's nothing."""
        return self.run(_PANEL)

    def until(self, condition: Callable[[], Any]) -> Any:
        """Wait for something true, and give it back."""
        return WebDriverWait(self.browser, TIMEOUT, poll_frequency=0.03).until(lambda _: condition())

    def panel_of(self, patron: int) -> Any:
        """The panel, as soon as it's that patron's."""
        return self.until(lambda: (panel := self.panel()) and panel["patron"] == patron and panel)

    def comes_to(self, amount: str) -> None:
        """Wait until the panel shows an amount."""
        self.until(lambda: (panel := self.panel()) and panel["amount"] == amount)

    def unfold(self) -> None:
        """Have the members unfolded on the pages that are opened from now on."""
        self.run("localStorage.setItem(arguments[0], 'true')", UNFOLDED)

    def problem(self, words: str) -> Any:
        """The panel, as soon as it says that something's wrong."""
        return self.until(lambda: (panel := self.panel()) and words in (panel["text"] or "") and panel)

    def owed(self) -> str:
        """The own fines that the client shows."""
        return str(self.run("return document.querySelector('[data-field=owed]')?.textContent.trim() ?? ''"))

    def shows(self, owed: str) -> None:
        """Wait until the client itself has loaded the patron's amounts."""
        self.until(lambda: self.owed() == owed)

    def answered(self, patron: int) -> None:
        """Wait until the page has the service's answer about a patron, and has had a frame to show it in."""
        self.answered_with(f"/patrons/{patron}/summary")

    def answered_with(self, ending: str) -> None:
        """The same for an answer from any address that ends so."""
        script = (
            "return performance.getEntriesByType('resource')"
            ".some((one) => new URL(one.name).pathname.endsWith(arguments[0]) && one.responseEnd > 0)"
        )
        self.until(lambda: self.run(script, ending))
        self.framed()

    def framed(self) -> None:
        """Wait until the page has been drawn as it is now, and what looks at each frame has seen it.

        On a busy machine the document may be read several times before its next frame.
        """
        self.browser.execute_async_script(
            "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done))"
        )

    def comes_to_rest(self) -> None:
        """Wait until the panel has looked at the client's figures as they are now, and has its answers."""
        self.until(self._is_at_rest)

    def _is_at_rest(self) -> bool:
        """Twice: what a frame changes may lead to the next look."""
        return all(self.framed() or self.run(page_time.AT_REST) for _ in range(2))

    def hold(self, wait: int) -> None:
        """From now on let no wait of so many milliseconds end in this page, unless by :meth:`let_pass`."""
        self.run(page_time.HOLD, wait)

    def let_pass(self, wait: int) -> None:
        """Let the waits of so many milliseconds be over that have begun by the next frame."""
        self.framed()
        self.run(page_time.PASS, wait)

    def click(self, selector: str) -> None:
        self.run("document.querySelector(arguments[0]).click()", selector)

    def go(self, client: str, patron: int, tab: str = "checkout") -> None:
        """Go to another patron within the page, as a click on a link of the client does."""
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

    def watch_owed(self) -> None:
        """Note every text that comes to stand as own fines."""
        self.run(
            "const cell = document.querySelector('[data-field=owed]'); window.owed = [];"
            "new MutationObserver(() => window.owed.push(cell.textContent))"
            ".observe(cell, { characterData: true, childList: true, subtree: true })"
        )

    def watched(self) -> set[tuple[str, int]]:
        """Pairs of a card in the summary and whose panel stood beside it, of all frames from :meth:`watch` to now."""
        self.framed()
        return {(card, int(patron)) for card, patron in self.run("return window.watched")}

    def shown_stock_row(self) -> bool:
        """Whether the client's own Group Fines row can be seen."""
        script = "const row = document.querySelector('[data-field=group]'); return Boolean(row && row.offsetParent)"
        return bool(self.run(script))

    def focused(self) -> str:
        """The text of what has the focus, in one go: the client may put another node in its place at any time."""
        return str(self.run("return document.activeElement.innerText.trim()"))

    def press(self, *keys: str) -> None:
        ActionChains(self.browser, duration=0).send_keys(*keys).perform()

    def press_with(self, modifier: str, key: str) -> None:
        """Press a key while another is held."""
        chain = ActionChains(self.browser, duration=0)
        chain.key_down(modifier).send_keys(key).key_up(modifier).perform()

    def dark(self, mode: str) -> None:
        """Choose the colours of the pages that are opened from now on."""
        self.run("localStorage.setItem('eg.ui.general.colormode', arguments[0])", json.dumps(mode))

    def axe(self) -> Any:
        """What axe finds on the page."""
        self.run(resources.files("axe_core_python").joinpath("axe.min.js").read_text("utf-8"))
        return self.browser.execute_async_script("const done = arguments[0]; axe.run().then(done)")

    def element(self, selector: str) -> Any:
        return self.browser.find_element(By.CSS_SELECTOR, selector)


@contextmanager
def desk_browser(
    directory: Path,
    dataset: Path | None = None,
    environ: Mapping[str, str] | None = None,
    release: str | None = None,
) -> Iterator[Desk]:
    """A browser at a desk of its own; its service keeps files in ``directory``, or where ``environ`` says."""
    with Sandbox(dataset, release=release) as sandbox, chromium() as browser:
        home = {"XDG_STATE_HOME": str(directory / "state"), "XDG_CACHE_HOME": str(directory / "cache")}
        gate = Gate(create_app(settings_of(sandbox.url), home if environ is None else environ))
        with served(gate) as url:
            yield Desk(browser, sandbox, gate, url)
        close(gate.app)


@contextmanager
def chromium() -> Iterator[Chrome]:
    """A headless Chromium of the system."""
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
