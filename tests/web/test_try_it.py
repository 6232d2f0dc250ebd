"""What docs/try-it.md has a newcomer do: from the report of a sandbox to a letter, and a promise that is honored."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait
from support.command import Command
from support.desk_browser import chromium
from support.repository import REPOSITORY

from evergreen_groups import exit_status

pytestmark = pytest.mark.long  # needs a browser

PAGE = (REPOSITORY / "docs" / "try-it.md").read_text("utf-8")
PIETER = 1033


@pytest.fixture
def run(tmp_path: Path) -> Command:
    (configuration,) = re.findall(r"<<'END'\n(.*?)^END$", PAGE, re.DOTALL | re.MULTILINE)
    command = Command(tmp_path, None)
    command.config.write_text(configuration.replace("try-report.html", str(tmp_path / "try-report.html")))
    return command


@contextmanager
def desk(run: Command, file: Path) -> Iterator[str]:
    """Run the demo desk, and yield the address of the report."""
    words = run.arguments(f"--sandbox={file}", "serve", "--demo-desk", "--port", "0")
    with subprocess.Popen(
        words, env=run.environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as served:
        assert served.stdout is not None
        try:
            printed = ""
            for line in served.stdout:
                printed += line
                if "Serving at" in line:
                    break
            yield re.findall(r"http://\S+/reports/latest", printed)[0]
        finally:
            served.send_signal(signal.SIGINT)


def log_in(browser: Chrome, report: str) -> None:
    browser.get(report.replace("/evergreen-groups/reports/latest", "/eg2/en-US/staff/login"))
    until(browser, "document.forms[0]?.dataset.ready === ''")
    browser.find_element(By.NAME, "password").send_keys("sandbox")  # the user name is filled in
    browser.execute_script("document.forms[0].requestSubmit()")
    until(browser, "document.cookie.includes('eg.auth.token=') && !location.pathname.includes('login')")


def until(browser: Chrome, condition: str) -> None:
    WebDriverWait(browser, 60).until(lambda _: browser.execute_script(f"return Boolean({condition})"))


def test_from_nothing_to_a_promise_that_is_honored(run: Command, tmp_path: Path) -> None:
    file, yesterday = tmp_path / "try.sandbox", (datetime.now(UTC) - timedelta(days=1)).date().isoformat()
    assert run(f"--sandbox={file}", "report", "--history").returncode == exit_status.DONE
    with desk(run, file) as report, chromium() as browser:
        log_in(browser, report)
        browser.get(report)
        until(browser, "document.querySelector('.follow-up button[value=\"1008\"]')")
        browser.execute_script("document.querySelector('.follow-up button[value=\"1008\"]').click()")
        until(browser, "document.querySelector('dialog .entry-form')")
        browser.execute_script(
            "const form = document.querySelector('dialog .entry-form');"
            "form.querySelector('[value=promised]').click(); form.querySelector('[value=phone]').click();"
            "form.querySelector('[name=amount]').value = '12.00';"
            "form.querySelector('[name=day]').value = form.querySelector('[name=pay_by]').value = arguments[0];"
            "form.querySelector('button[value=save]').click()",
            yesterday,
        )
        until(browser, "!document.querySelector('dialog')?.open")
        browser.get(report.replace("/evergreen-groups/reports/latest", f"/eg2/en-US/staff/circ/patron/{PIETER}/bills"))
        until(browser, "document.getElementById('pay')")
        assert browser.find_element(By.ID, "pay").text == "Pay $12.00"
        browser.execute_script("document.getElementById('pay').click()")
        until(browser, "document.querySelector('[data-field=owed]')?.textContent === '$0.00'")
    done = run(f"--sandbox={file}", "report", "--history")
    assert done.returncode == exit_status.DONE, done.stderr
    with desk(run, file) as report, chromium() as browser:
        log_in(browser, report)
        browser.get(report)
        until(browser, "document.querySelector('.follow-up button[value=\"1008\"]')")
        row = browser.execute_script(
            "return document.querySelector('.follow-up button[value=\"1008\"]').closest('tr').innerText"
        )
        assert "Promise kept" in row
        browser.execute_script("document.querySelector('input[name=group][value=\"1006\"]').click()")
        browser.find_element(By.XPATH, "//button[text()='Letters']").click()
        WebDriverWait(browser, 60).until(lambda _: len(browser.window_handles) == 2)
        browser.switch_to.window(browser.window_handles[-1])
        until(browser, "document.body?.innerText.includes('Siobh')")
        assert "41 Ridge Way" in browser.find_element(By.TAG_NAME, "body").text
    assert "Promise kept" in run(f"--sandbox={file}", "follow-ups").stdout
