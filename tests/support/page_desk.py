"""A clerk's browser on the desk's pages, and the patrons that tests use."""

from __future__ import annotations

from selenium.webdriver.common.keys import Keys
from support.desk_browser import Desk
from support.desk_page import GROUP
from support.web_caller import settings_of

from evergreen_groups.web import close, create_app

NGUYEN, WHITFIELD, THOMAS, RUTH, LIN = 1017, 1036, 1037, 1038, 1019
HOSTILE = "\N{RIGHT-TO-LEFT OVERRIDE}<img src=x onerror='window.harmed = 1'>{{7*7}}</script>"
ARABIC = "\N{ARABIC LETTER MEEM}\N{ARABIC LETTER HAH}\N{ARABIC LETTER MEEM}\N{ARABIC LETTER DAL}"


class PageDesk:
    def __init__(self, desk: Desk, environ: dict[str, str]) -> None:
        self.desk = desk
        self.gate = desk.gate
        self.environ = environ
        self.browser = desk.browser
        self.sandbox = desk.sandbox
        self.run = desk.run
        self.until = desk.until

    def open(self, patron: int, part: str = "", query: str = "client=eg2") -> None:
        self.browser.get(f"{self.sandbox.url}{GROUP.format(patron)}{part}?{query}")

    def open_group(self, patron: int) -> None:
        self.open(patron)
        self.shows("Group Member Details")

    def plan_move(self, patron: int, card: str, heading: str) -> None:
        """Scan a card on the page of the patron's group, and wait for the plan."""
        self.open_group(patron)
        self.scan(card, Keys.ENTER)
        self.shows(heading)

    @property
    def heading(self) -> str:
        return str(self.run("return document.querySelector('h1')?.textContent ?? ''")).strip()

    def text(self, selector: str) -> str:
        return str(self.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector)).strip()

    def shows(self, heading: str) -> None:
        """Wait until a page with this heading is loaded, and the right element has the focus."""
        self.until(lambda: heading in self.heading and self.loaded())
        self.desk.framed()  # a busy browser applies autofocus after loading, but before a frame's callbacks

    def loaded(self) -> bool:
        """Return whether the page's script has run, and a scanner's second line end would have arrived."""
        return bool(self.run("return document.readyState === 'complete' && performance.now() > 450"))

    def outcome(self) -> str:
        """Wait for the message about a change, and return it."""
        return str(self.until(lambda: self.loaded() and self.text("#outcome")))

    def scan(self, *keys: str) -> None:
        """Type like a scanner: into the focused element."""
        self.desk.press(*keys)

    def members(self) -> list[str]:
        return list(
            self.run(
                "return [...document.querySelectorAll('#members tbody tr')].filter((row) => !row.hidden)"
                ".map((row) => row.querySelector('bdi').textContent)"
            )
        )

    def group_of(self, patron: int) -> int:
        with self.sandbox._store.transaction() as connection:
            return int(connection.execute("SELECT usrgroup FROM au WHERE id = ?", (patron,)).fetchone()[0])

    def change(self, statement: str, *values: object) -> None:
        with self.sandbox._store.transaction() as connection:
            connection.execute(statement, values)

    def start_anew(self) -> None:
        """Start another process of the service, with the same state."""
        close(self.gate.app)
        self.gate.app = create_app(settings_of(self.sandbox.url), self.environ)
