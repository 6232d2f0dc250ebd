"""The report as the service shows it, in a clerk's browser."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from support.command import Command
from support.desk_browser import Desk
from support.web_caller import settings_of

from evergreen_groups.settings import ServeSettings, Settings
from evergreen_groups.settings.sections import LanguageSettings
from evergreen_groups.web import close, create_app

REPORT = "/evergreen-groups/reports/latest"


class Worklist:
    """A report in a browser. Each service and each run keeps its state in ``directory``.

    With ``contact``, the report says whom to contact.
    """

    def __init__(self, desk: Desk, directory: Path, cache: Path, *, contact: bool = False) -> None:
        self.desk, self.browser = desk, desk.browser
        self.run, self.until, self.press, self.text = desk.run, desk.until, desk.press, desk.text
        self._environ = {"STATE_DIRECTORY": str(directory / "state"), "CACHE_DIRECTORY": str(cache)}
        self._page = directory / "report.html"
        self._command = Command(directory, desk.sandbox.url)
        self._command.environ |= {**self._environ, "EVERGREEN_GROUPS_REPORT_CONTACT": str(contact).lower()}

    @property
    def written(self) -> str:
        """The page as it is on disk."""
        return self._page.read_text("utf-8")

    def make_report(self) -> None:
        """Make the report as the nightly run does."""
        done = self._command("report", "--history", "--output", str(self._page))
        assert done.returncode == 0, done.stderr

    def serve(self, **sections: Any) -> None:
        """Replace the service by one with these settings."""
        close(self.desk.gate.app)
        settings: Settings = settings_of(self.desk.sandbox.url, serve=ServeSettings(port=0, report=self._page))
        settings = replace(settings, **{"language": LanguageSettings(timezone="UTC"), **sections})
        self.desk.gate.app = create_app(settings, self._environ)

    def write_in(self, language: str) -> None:
        """Make and serve the report in a language (tag)."""
        self._command.environ["EVERGREEN_GROUPS_LANGUAGE_DEFAULT"] = language
        self.make_report()
        self.serve(language=LanguageSettings(default=language, timezone="UTC"))

    def open(self) -> None:
        self.browser.get(f"{self.desk.sandbox.url}{REPORT}")
        self.until(lambda: self.run("return document.readyState === 'complete'"))

    def listed(self) -> list[int]:
        """Return the numbers of the groups that are shown."""
        script = "return [...document.querySelectorAll('#groups > tbody')].filter((body) => body.offsetParent)"
        return [int(number) for number in self.run(f"{script}.map((body) => body.querySelector('th').textContent)")]

    def statuses(self) -> list[str]:
        return list(self.run("return [...document.querySelectorAll('#status option')].map((one) => one.textContent)"))

    def choose(self, status: str) -> None:
        self.run(
            "const [filter, status] = [document.getElementById('status'), arguments[0]]; filter.value = status;"
            "filter.dispatchEvent(new Event('change'))",
            status,
        )
        self.desk.framed()

    def follow_up(self, group: int) -> None:
        """Open a group's follow-up, and wait for the dialog or the page."""
        self.run("document.querySelector(`.follow-up button[value='${arguments[0]}']`).click()", group)
        self.until(lambda: self.text("dialog[open] .follow-up-page, body > main .follow-up-page"))

    def type(self, name: str, value: str) -> None:
        self.run(
            "const field = document.querySelector(`.entry-form [name=${arguments[0]}]:not([type=radio])`)"
            " ?? document.querySelector(`.entry-form [name=${arguments[0]}][value='${arguments[1]}']`);"
            "if (field.type === 'radio') field.click(); else field.value = arguments[1];"
            "field.dispatchEvent(new Event('input', { bubbles: true }))",
            name,
            value,
        )

    def save(self, do: str) -> None:
        """Select an outcome and a way (``promised phone``), or why it is closed (``closed paid``), and save it.

        ``delete`` deletes the entry.
        """
        outcome, _, way = do.partition(" ")
        if outcome != "delete":
            self.type("outcome", outcome)
            if way:
                self.type("reason" if outcome == "closed" else "how", way)
            do = "save"
        self.run("document.querySelector(`.entry-form button[value='${arguments[0]}']`).click()", do)

    def is_closed(self) -> bool:
        return bool(self.run("return !document.querySelector('dialog')?.open"))

    def save_entry(self, outcome: str) -> None:
        """Save in the dialog, and wait until the list shows it."""
        self.save(outcome)
        self.until(self.is_closed)
        self.desk.framed()

    def add_entry(self, group: int, outcome: str, note: str = "") -> None:
        self.follow_up(group)
        self.type("note", note)
        self.save_entry(outcome)

    def row(self, group: int) -> str:
        """Return what the list says was agreed with a group."""
        button = f".follow-up button[value='{group}']"
        return str(
            self.run(
                "return document.querySelector(arguments[0]).closest('tr').querySelector('.agreed')?.textContent ?? ''",
                button,
            )
        )

    def find(self, selector: str) -> list[WebElement]:
        """Return elements, also of a page without scripts."""
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def select(self, *groups: int) -> None:
        for group in groups:
            self.run("document.querySelector(`input[name=group][value='${arguments[0]}']`).click()", group)

    @contextmanager
    def without_script(self) -> Iterator[None]:
        self.desk.run_scripts(run=False)
        try:
            yield
        finally:
            self.desk.run_scripts()
