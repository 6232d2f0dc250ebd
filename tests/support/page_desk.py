"""A clerk's browser on the desk's pages, and the patrons that tests use."""

from typing import Any

from selenium.webdriver.common.keys import Keys
from support.circulators import change_rows, take_away
from support.desk_browser import Desk
from support.desk_caller import group_of
from support.desk_page import GROUP
from support.web_caller import settings_of

from evergreen_groups.web import close, create_app

NGUYEN, WHITFIELD, THOMAS, RUTH, LIN = 1017, 1036, 1037, 1038, 1019
HOSTILE = "\N{RIGHT-TO-LEFT OVERRIDE}<img src=x onerror='window.harmed = 1'>{{7*7}}</script>"
ARABIC = "\N{ARABIC LETTER MEEM}\N{ARABIC LETTER HAH}\N{ARABIC LETTER MEEM}\N{ARABIC LETTER DAL}"


class PageDesk:
    def __init__(self, desk: Desk, environ: dict[str, str]) -> None:
        self.desk, self.browser, self.sandbox = desk, desk.browser, desk.sandbox
        self.run, self.until, self.text, self.scan = desk.run, desk.until, desk.text, desk.press
        self.environ = environ

    def serve(self, **sections: Any) -> None:
        """Replace the service by one with these settings, and the state of this test."""
        close(self.desk.gate.app)
        self.desk.gate.app = create_app(settings_of(self.sandbox.url, **sections), self.environ)

    def open(self, patron: int, part: str = "", query: str = "client=eg2") -> None:
        self.browser.get(f"{self.sandbox.url}{GROUP.format(patron)}{part}?{query}")

    def open_group(self, patron: int) -> None:
        self.open(patron)
        self.arrives("#members")

    def open_tab(self, client: str = "Angular") -> None:
        """Open a family in the client's own tab."""
        self.browser.switch_to.default_content()
        self.desk.open(client, f"{NGUYEN}/group")
        self.desk.enter_tab()
        self.arrives("#members")

    def plan_move(self, patron: int, card: str, heading: str) -> None:
        """Scan a card on the page of the patron's group, and wait for the plan."""
        self.open_group(patron)
        self.scan_for(heading, card)

    def scan_for(self, heading: str, card: str) -> None:
        self.scan(card, Keys.ENTER)
        self.shows(heading)

    @property
    def heading(self) -> str:
        return str(self.run("return document.querySelector('h1')?.textContent ?? ''")).strip()

    def shows(self, heading: str) -> None:
        """Wait until a page with this heading is loaded, and the right element has the focus."""
        self.until(lambda: heading in self.heading and self.loaded())
        self.desk.framed()  # a busy browser applies autofocus after loading, but before a frame's callbacks

    def arrives(self, selector: str, text: str = "") -> None:
        """Wait until a page with this element, and this text in it, is loaded, and the right element has the focus."""
        self.until(lambda: (found := self.text(selector)) and text in found and self.loaded())
        self.desk.framed()

    def loaded(self) -> bool:
        """Return whether the page's script has run, and a scanner's second line end would have arrived."""
        return bool(self.run("return document.readyState === 'complete' && performance.now() > 450"))

    def outcome(self) -> str:
        """Wait for the message about a change, and return it."""
        return str(self.until(lambda: self.loaded() and self.text("#outcome")))

    def members(self) -> list[str]:
        return list(
            self.run(
                "return [...document.querySelectorAll('#members tbody tr')].filter((row) => !row.hidden)"
                ".map((row) => row.querySelector('bdi').textContent)"
            )
        )

    def group_of(self, patron: int) -> int:
        return group_of(self.sandbox, patron)

    def change(self, statement: str, *values: object) -> None:
        change_rows(self.sandbox, statement, *values)

    def need_approval(self) -> None:
        """Log the clerk in without the permission to change patrons."""
        take_away(self.sandbox, "UPDATE_USER", user=2)
        self.browser.switch_to.default_content()
        self.desk.log_in_as("consortium_staff")
