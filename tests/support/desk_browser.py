"""The demo desk in a headless Chromium, with the web service behind it: what the tests of the panel do there."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from flask import Flask
from selenium.webdriver import ActionChains, Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from evergreen_groups.sandbox import Sandbox

TIMEOUT = 30
CLIENTS = {"Angular": "/eg2/en-US/staff/circ/patron", "AngularJS": "/eg/staff/circ/patron"}

# What can be seen of the panel. The patron whose panel it is: the member marked as current.
_PANEL = """
const rows = [...document.querySelectorAll(".evergreen-groups")].filter((row) => row.offsetParent);
const text = (node) => (node ? node.innerText.trim() : null);
const within = (selector) => rows.flatMap((row) => [...row.querySelectorAll(selector)]);
const current = within("[aria-current]")[0];
return rows.length ? {
  text: rows.map(text).join("\\n"),
  amount: text(within("dd.numeric, .col-md-7")[0]),
  patron: current ? Number(/patron\\/(\\d+)/.exec(current.href)[1]) : null,
  members: within("li").map((item) => ({
    name: text(item.querySelector("a") || item.firstChild),
    link: item.querySelector("a") ? new URL(item.querySelector("a").href).pathname : null,
    owed: text(item.querySelector(".evergreen-groups-sum")),
    blocked: Boolean(item.querySelector(".badge-danger")),
  })),
} : null;
"""
# Each frame: which card stands in the summary, and whose panel. To be read afterwards.
_WATCH = """
window.watched = [];
const cards = ".account-id dd, #patron-summary-grid > .patron-summary-divider:not([ng-class]) > :nth-child(2)";
const look = () => {
  const card = document.querySelector(cards);
  const current = document.querySelector(".evergreen-groups [aria-current]");
  if (card && current) window.watched.push([card.textContent.trim(), /patron\\/(\\d+)/.exec(current.href)[1]]);
  requestAnimationFrame(look);
};
look();
"""


@dataclass
class Gate:
    """Stands before the service, and holds back the answers about some patrons until it's told to let them go."""

    app: Flask
    asked: list[str] = field(default_factory=list)
    held: dict[str, threading.Event] = field(default_factory=dict)
    arrived: threading.Event = field(default_factory=threading.Event)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = str(environ["PATH_INFO"])
        self.asked.append(path)
        gate = self.held.get(path)
        if gate is not None:
            self.arrived.set()
            gate.wait(TIMEOUT)
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
        self.service_up()

    def service_up(self) -> None:
        self.sandbox.serve_desk(self._service_url)

    def service_down(self) -> None:
        self.sandbox.serve_desk("http://127.0.0.1:9")  # the discard port: nothing listens there

    def log_in(self, token: str) -> None:
        """Have the cookie as the staff client sets it, and none of its choices."""
        self.browser.get(f"{self.sandbox.url}/sandbox/desk/desk.css")
        self.have_cookie(token)
        self.run("localStorage.clear()")

    def have_cookie(self, token: str) -> None:
        self.browser.add_cookie({"name": "eg.auth.token", "value": quote(json.dumps(token), safe=""), "path": "/"})

    def open(self, client: str, place: str) -> None:
        """Open a page of a client, such as ``1001/checkout``."""
        self.browser.get(f"{self.sandbox.url}{CLIENTS.get(client, client)}/{place}")

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

    def problem(self, words: str) -> Any:
        """The panel, as soon as it says that something's wrong."""
        return self.until(lambda: (panel := self.panel()) and words in panel["text"] and panel)

    def owed(self) -> str:
        """The own fines that the client shows."""
        return str(self.run("return document.querySelector('[data-field=owed]')?.textContent.trim() ?? ''"))

    def shows(self, owed: str) -> None:
        """Wait until the client itself has loaded the patron's amounts."""
        self.until(lambda: self.owed() == owed)

    def answered(self, patron: int) -> None:
        """Wait until the page has the service's answer about a patron, and has had a frame to show it in."""
        script = (
            "return performance.getEntriesByType('resource').some((one) => one.name.endsWith(arguments[0]) "
            "&& one.responseEnd > 0)"
        )
        self.until(lambda: self.run(script, f"/patrons/{patron}/summary"))
        self.browser.execute_async_script(
            "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done))"
        )

    def click(self, selector: str) -> None:
        self.run("document.querySelector(arguments[0]).click()", selector)

    def go(self, client: str, patron: int) -> None:
        """Go to another patron within the page, as a click on a link of the client does."""
        path = f"{CLIENTS[client]}/{patron}/checkout"
        if client == "Angular":
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
        """Pairs of a card in the summary and whose panel stood beside it, of all frames since :meth:`watch`."""
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

    def element(self, selector: str) -> Any:
        return self.browser.find_element(By.CSS_SELECTOR, selector)


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
