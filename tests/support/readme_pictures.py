"""The pictures of the README: the seed's flow at the demo desk, made on the sandbox in a headless Chromium.

    PYTHONPATH=tests python -m support.readme_pictures [DIRECTORY]

From a patron's *Group Member Details* a card is scanned as a scanner does it, and the one whose card it is is moved.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support import expected_conditions as expected
from selenium.webdriver.support.wait import WebDriverWait
from support.desk_browser import Desk, Gate, chromium
from support.repository import REPOSITORY
from support.screenshots import take
from support.web_caller import served, session, settings_of

from evergreen_groups.sandbox import Sandbox
from evergreen_groups.web import close, create_app

PATRON, CARD = 1015, "20000000001052"
WIDTH, HEIGHT = 1100, 760


def scanned(desk: Desk) -> WebElement:
    """The field that takes what a scanner types, in the frame of the client's tab."""
    waiting = WebDriverWait(desk.browser, 30)
    desk.browser.switch_to.default_content()
    waiting.until(expected.frame_to_be_available_and_switch_to_it((By.CSS_SELECTOR, ".evergreen-groups-tab iframe")))
    return waiting.until(expected.element_to_be_clickable((By.NAME, "card")))


def main(directory: str = str(REPOSITORY / "docs" / "pictures")) -> None:
    target = Path(directory)
    target.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as home, Sandbox() as sandbox, chromium() as browser:
        app = create_app(settings_of(sandbox.url), {"XDG_STATE_HOME": home, "XDG_CACHE_HOME": home})
        gate = Gate(app)
        with served(gate) as url:
            browser.set_window_size(WIDTH, HEIGHT)
            desk = Desk(browser, sandbox, gate, url)
            desk.log_in(session(sandbox.url, username="consortium_staff"))
            desk.open("Angular", f"{PATRON}/group")
            desk.panel_of(PATRON)
            scanned(desk).send_keys(CARD + Keys.ENTER)
            WebDriverWait(browser, 30).until(expected.element_to_be_clickable((By.CSS_SELECTOR, "button[value=apply]")))
            browser.switch_to.default_content()
            take(browser, target / "move.png")
            scanned(desk).send_keys(Keys.ENTER)
            WebDriverWait(browser, 30).until(expected.text_to_be_present_in_element((By.TAG_NAME, "main"), "Undo"))
            browser.switch_to.default_content()
            take(browser, target / "group-member-details.png")
        close(app)


if __name__ == "__main__":
    main(*sys.argv[1:])
