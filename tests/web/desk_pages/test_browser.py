"""The desk's pages in a real browser, with a scanner-like keyboard, and without a script."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys
from support.desk_browser import CLIENTS, Desk, Gate, chromium
from support.desk_page import GROUP, DeskClerk
from support.web_caller import PASSWORD, end_session, served, session, settings_of

from evergreen_groups.sandbox import Sandbox
from evergreen_groups.web import close, create_app

pytestmark = pytest.mark.long  # a browser for each

NGUYEN, WHITFIELD, THOMAS, RUTH, LIN = 1017, 1036, 1037, 1038, 1019
HOSTILE = "\N{RIGHT-TO-LEFT OVERRIDE}<img src=x onerror='window.harmed = 1'>{{7*7}}</script>"
ARABIC = "\N{ARABIC LETTER MEEM}\N{ARABIC LETTER HAH}\N{ARABIC LETTER MEEM}\N{ARABIC LETTER DAL}"


class PageDesk:
    """A clerk's browser on the pages."""

    def __init__(self, desk: Desk, gate: Gate, environ: dict[str, str]) -> None:
        self.desk = desk
        self.gate = gate
        self.environ = environ
        self.browser = desk.browser
        self.sandbox = desk.sandbox
        self.run = desk.run
        self.until = desk.until

    def open(self, patron: int, part: str = "", query: str = "client=eg2") -> None:
        self.browser.get(f"{self.sandbox.url}{GROUP.format(patron)}{part}?{query}")

    @property
    def heading(self) -> str:
        return str(self.run("return document.querySelector('h1')?.textContent ?? ''")).strip()

    def text(self, selector: str) -> str:
        return str(self.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector)).strip()

    def shows(self, heading: str) -> None:
        """Wait until a page with this heading is there, and has the focus where it wants it."""
        self.until(lambda: heading in self.heading and self.loaded())

    def loaded(self) -> bool:
        """Whether the page's script has run, and a scanner's second line end would have come."""
        return bool(self.run("return document.readyState === 'complete' && performance.now() > 450"))

    def outcome(self) -> str:
        """What is said of a change, as soon as it is."""
        return str(self.until(lambda: self.loaded() and self.text("#outcome")))

    def scan(self, *keys: str) -> None:
        """Type as a scanner does: to whatever has the focus."""
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
        """Another process of the service, with the same state."""
        close(self.gate.app)
        self.gate.app = create_app(settings_of(self.sandbox.url), self.environ)


def card(patron: int) -> str:
    return f"2000000000{patron}"


@pytest.fixture(scope="module")
def page_of_the_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageDesk]:
    directory = tmp_path_factory.mktemp("page")
    environ = {f"{name}_DIRECTORY": str(directory / name.lower()) for name in ("STATE", "CACHE")}
    environ["EVERGREEN_GROUPS_PASSWORD"] = PASSWORD
    with Sandbox() as sandbox, chromium() as browser:
        gate = Gate(create_app(settings_of(sandbox.url), environ))
        with served(gate) as url:
            yield PageDesk(Desk(browser, sandbox, gate, url), gate, environ)
        close(gate.app)


@pytest.fixture
def page(page_of_the_module: PageDesk, tmp_path: Path) -> Iterator[PageDesk]:
    page = page_of_the_module
    page.sandbox.reset()
    page.environ["STATE_DIRECTORY"] = str(tmp_path / "state")
    page.start_anew()
    page.desk.log_in(session(page.sandbox.url, username="consortium_staff"))
    # So that moving her in has no warning: the same surname.
    page.change("UPDATE au SET family_name = 'Nguyễn', usrgroup = 5001 WHERE id = ?", RUTH)
    yield page
    for command, options in (
        ("Emulation.setScriptExecutionDisabled", {"value": False}),
        ("Emulation.clearDeviceMetricsOverride", {}),
        ("Emulation.setEmulatedMedia", {"media": "", "features": []}),
    ):
        page.browser.execute_cdp_cmd(command, options)


class TestTheSeedsFlow:
    """From the list to the record in the list, with nothing but a scanner and Enter."""

    def test_a_card_and_enter(self, page: PageDesk) -> None:
        page.open(NGUYEN)
        page.shows("Group Member Details")
        page.scan(card(RUTH), Keys.ENTER)
        page.shows("Move Nguyễn, Ruth to this group?")
        page.scan(Keys.ENTER)
        assert page.outcome().startswith("Done: Nguyễn, Ruth is in this group now")
        assert "Nguyễn, Ruth" in page.members()
        page.until(lambda: page.text("#live"))
        assert page.text("#live").startswith("Done")
        assert page.group_of(RUTH) == 1004

    def test_the_focus_may_be_anywhere(self, page: PageDesk) -> None:
        page.open(NGUYEN)
        page.shows("Group Member Details")
        page.run("document.activeElement.blur()")
        page.scan(card(RUTH), Keys.ENTER)
        page.shows("Move Nguyễn, Ruth to this group?")

    def test_the_next_card_is_added_and_moves_nobody(self, page: PageDesk) -> None:
        page.open(NGUYEN)
        page.shows("Group Member Details")
        page.scan(card(RUTH), Keys.ENTER)
        page.shows("Move Nguyễn, Ruth")
        page.scan(card(THOMAS), Keys.ENTER)
        page.shows("Move 2 patrons to this group?")
        assert page.group_of(RUTH) == 5001
        assert "shares no surname" in page.text("[aria-labelledby=warnings]")
        page.scan(Keys.ENTER)  # with a warning, Enter is no yes
        page.until(lambda: page.run("return performance.now() < 400") or "2 patrons" in page.heading)
        page.shows("Move 2 patrons to this group?")
        assert page.group_of(RUTH) == 5001
        page.desk.click("#confirm")
        assert "Done: all 2 changes" in page.outcome()

    def test_the_second_line_end_of_a_scanner_is_no_yes(self, page: PageDesk) -> None:
        page.open(NGUYEN)
        page.shows("Group Member Details")
        page.scan(card(RUTH), Keys.ENTER, Keys.ENTER)
        page.shows("Move Nguyễn, Ruth to this group?")
        assert page.group_of(RUTH) == 5001

    def test_a_walk_with_the_keyboard(self, page: PageDesk) -> None:
        """Select with the space bar, remove with the button, agree with Enter."""
        page.open(WHITFIELD)
        page.shows("Group Member Details")
        page.run("document.querySelector('#members input[value=\"1037\"]').focus()")
        page.scan(Keys.SPACE)
        stops = []
        while "Remove from the group" not in page.desk.focused():
            page.scan(Keys.TAB)
            stops.append(page.desk.focused())
            assert len(stops) < 40
        page.scan(Keys.ENTER)
        page.shows("Remove Whitfield, Thomas from the group?")
        assert page.desk.focused() == "Cancel", "somebody is left behind alone, so the yes isn't at hand"
        page.run("document.querySelector('#confirm').focus()")
        page.scan(Keys.ENTER)
        assert "is in a group of their own now" in page.outcome()


class TestOnce:
    def test_a_double_click(self, page: PageDesk) -> None:
        page.open(NGUYEN)
        page.shows("Group Member Details")
        page.scan(card(RUTH), Keys.ENTER)
        page.shows("Move Nguyễn, Ruth")
        page.run("const yes = document.querySelector('#confirm'); yes.click(); yes.click()")
        page.outcome()
        assert self.entries(page) == 1

    def test_back(self, page: PageDesk) -> None:
        page.open(NGUYEN)
        page.shows("Group Member Details")
        page.scan(card(RUTH), Keys.ENTER)
        page.shows("Move Nguyễn, Ruth")
        page.scan(Keys.ENTER)
        page.outcome()
        page.browser.back()
        page.shows("Group Member Details")
        assert "Nguyễn, Ruth" in page.members(), "the group as it is, and no form to send again"
        assert self.entries(page) == 1

    def test_reload_of_a_plan(self, page: PageDesk) -> None:
        page.open(NGUYEN)
        page.shows("Group Member Details")
        page.scan(card(RUTH), Keys.ENTER)
        page.shows("Move Nguyễn, Ruth")
        page.browser.refresh()
        page.shows("Group Member Details")
        assert page.group_of(RUTH) == 5001

    def test_reload_of_the_outcome(self, page: PageDesk) -> None:
        page.open(NGUYEN)
        page.shows("Group Member Details")
        page.scan(card(RUTH), Keys.ENTER)
        page.shows("Move Nguyễn, Ruth")
        page.scan(Keys.ENTER)
        page.outcome()
        page.browser.refresh()
        assert "Done: Nguyễn, Ruth" in page.outcome()
        assert self.entries(page) == 1

    def test_the_service_is_started_anew_between_plan_and_change(self, page: PageDesk) -> None:
        page.open(NGUYEN)
        page.shows("Group Member Details")
        page.scan(card(RUTH), Keys.ENTER)
        page.shows("Move Nguyễn, Ruth")
        page.start_anew()
        page.scan(Keys.ENTER)
        assert "Done: Nguyễn, Ruth" in page.outcome()

    def test_two_clerks(self, page: PageDesk) -> None:
        page.open(NGUYEN)
        page.shows("Group Member Details")
        page.scan(card(RUTH), Keys.ENTER)
        page.shows("Move Nguyễn, Ruth")
        other = DeskClerk(page.gate.app, session(page.sandbox.url, username="admin"), page.sandbox.url)
        other.open(1007).send("/plan", card=card(RUTH)).send("/change", ("do", "apply"))
        assert page.group_of(RUTH) == 1002
        page.scan(Keys.ENTER)
        page.until(lambda: "Something has changed since this was shown" in page.text("#message"))
        assert "the group of Lindqvist, Åsa" in page.text("main")
        assert page.group_of(RUTH) == 1002

    @staticmethod
    def entries(page: PageDesk) -> int:
        page.open(NGUYEN, "/past")
        page.shows("This group's past")
        entries = page.run("return [...document.querySelectorAll('.entry')].map((entry) => entry.innerText)")
        return sum("group 5001 to group 1004" in text for text in entries)


class TestSession:
    def test_it_ends_in_the_middle(self, page: PageDesk) -> None:
        token = session(page.sandbox.url, username="consortium_staff")
        page.desk.have_cookie(token)
        page.open(NGUYEN)
        page.shows("Group Member Details")
        end_session(page.sandbox.url, token)
        page.scan(card(RUTH), Keys.ENTER)
        page.shows("Your session has ended")
        assert page.run("return document.querySelector('a.btn-primary').pathname") == "/eg2/staff/login"
        page.desk.have_cookie(session(page.sandbox.url, username="consortium_staff"))
        page.desk.click("a.btn:not(.btn-primary)")
        page.shows("Group Member Details")

    def test_logout_in_the_client_leaves_no_names(self, page: PageDesk) -> None:
        page.open(NGUYEN)
        page.shows("Group Member Details")
        page.run("new BroadcastChannel('eg.auth').postMessage({ action: 'logout' })")
        page.shows("Logged out")
        assert "Nguyễn" not in page.run("return document.documentElement.outerHTML")

    def test_a_logout_that_no_other_tab_is_told_of(self, page: PageDesk) -> None:
        """As the AngularJS client's own link does it: the cookie is gone, and nothing is said."""
        page.open(NGUYEN)
        page.shows("Group Member Details")
        page.run("document.cookie = 'eg.auth.token=; path=/; max-age=0'")
        page.run("document.dispatchEvent(new Event('visibilitychange'))")  # plain http has no cookieStore
        page.shows("Logged out")
        assert "Nguyễn" not in page.run("return document.documentElement.outerHTML")

    def test_another_sites_form(self, page: PageDesk) -> None:
        """A page elsewhere that sends a form of its own, with the cookie and all."""
        page.open(NGUYEN)
        page.shows("Group Member Details")
        address = f"{page.sandbox.url}{GROUP.format(NGUYEN)}/plan"
        foreign = (
            f"<form method=post action='{address}'><input name=action value=remove><input name=member value={NGUYEN}>"
            "<button>win</button></form>"
        )
        page.browser.get(f"data:text/html,{foreign}")
        page.desk.click("button")
        page.until(lambda: "Not allowed" in page.heading or "Your session has ended" in page.heading)
        assert page.group_of(NGUYEN) == 1004


class TestWithoutAScript:
    @pytest.fixture(autouse=True)
    def no_script(self, page: PageDesk) -> None:
        page.browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})

    def test_the_seeds_flow(self, page: PageDesk) -> None:
        page.open(NGUYEN)
        self.arrived(page, "Group Member Details")
        page.scan(card(RUTH), Keys.ENTER)
        self.arrived(page, "Move Nguyễn, Ruth to this group?")
        page.scan(Keys.ENTER)
        self.arrived(page, "Done: Nguyễn, Ruth is in this group now")
        page.desk.element("form[action*='/undo'] button").click()
        self.arrived(page, "Undone: Nguyễn, Ruth")

    def test_select_and_remove(self, page: PageDesk) -> None:
        page.open(WHITFIELD)
        self.arrived(page, "Group Member Details")
        page.desk.element("button[value=remove]").click()
        self.arrived(page, "Select somebody in the list first.")
        page.desk.element("#members input[value='1037']").click()
        page.desk.element("button[value=remove]").click()
        self.arrived(page, "Remove Whitfield, Thomas from the group?")

    @staticmethod
    def arrived(page: PageDesk, text: str) -> None:
        page.until(lambda: text in page.browser.page_source)


class TestManyMembers:
    @pytest.fixture
    def many(self, page: PageDesk) -> PageDesk:
        with page.sandbox._store.transaction() as connection:
            columns = [row[1] for row in connection.execute("PRAGMA table_info(au)")]
            copied = ", ".join(
                {
                    "id": "6000 + n",
                    "usrname": "'many' || n",
                    "family_name": "'Nguyễn'",
                    "usrgroup": "1004",
                    "first_given_name": "'Member ' || n",
                    "card": "NULL",
                    "master_account": "0",
                }.get(name, name)
                for name in columns
            )
            numbers = "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 296)"
            connection.execute(
                f"{numbers} INSERT INTO au ({', '.join(columns)}) SELECT {copied} FROM au, numbers WHERE id = 1018"
            )
        page.open(NGUYEN)
        page.shows("Group Member Details")
        return page

    def test_a_list_that_can_be_used(self, many: PageDesk) -> None:
        page = many
        assert len(page.members()) == 300
        page.run("scrollTo(0, document.body.scrollHeight / 2)")
        top, bottom, height = page.run(
            "return [document.querySelector('#members thead th:nth-child(2)').getBoundingClientRect().top,"
            "document.querySelector('.toolbar').getBoundingClientRect().bottom, innerHeight]"
        )
        assert abs(top) < 2, "the heading stays"
        assert abs(bottom - height) < 2, "so do the buttons"
        page.desk.element("#within").send_keys("member 29")
        page.until(lambda: len(page.members()) == 10)
        assert page.text("#within-count") == "10 of 300 shown"
        page.desk.click("#select-all")
        assert page.text("#selected-count") == "(10)"

    def test_a_long_change_is_followed(self, many: PageDesk) -> None:
        page = many
        page.desk.element("#within").send_keys("member 2")
        page.until(lambda: len(page.members()) < 200)
        page.run(
            "[...document.querySelectorAll('#members tr:not([hidden]) input[name=member]')].slice(0, 25)"
            ".forEach((box) => box.click())"
        )
        page.desk.click("button[value=remove]")
        page.shows("Remove 25 patrons from the group?")
        page.desk.click("#confirm")
        page.until(lambda: "Done: all 25 changes" in page.text("#outcome"))
        page.until(lambda: len(page.members()) == 275)
        page.desk.click("form[action*='/undo'] button")
        page.until(lambda: "Undone: all 25 changes" in page.text("#outcome"))
        page.until(lambda: len(page.members()) == 300)


class TestNames:
    @pytest.mark.parametrize("name", [HOSTILE, ARABIC, "W" * 200])
    def test_they_are_text_wherever_they_stand(self, page: PageDesk, name: str) -> None:
        page.change("UPDATE au SET family_name = ? WHERE id IN (1036, 1037, 1038)", name)
        page.change("UPDATE au SET usrgroup = 1009 WHERE id = 1038")
        self.is_harmless(page, lambda: page.open(WHITFIELD))
        page.desk.click("#members input[value='1037']")
        self.is_harmless(page, lambda: page.desk.click("button[value=remove]"))
        self.is_harmless(page, lambda: page.desk.click("#confirm"))
        page.outcome()
        self.is_harmless(page, lambda: page.open(WHITFIELD, "/past"))
        page.open(NGUYEN)
        page.shows("Group Member Details")
        self.is_harmless(page, lambda: page.desk.element("#card").send_keys(card(WHITFIELD), Keys.ENTER))

    @staticmethod
    def is_harmless(page: PageDesk, leads_there: Callable[[], None]) -> None:
        before = page.run("document.documentElement.dataset.former = '1'; return 1")
        assert before
        leads_there()
        page.until(lambda: page.run("return !document.documentElement.dataset.former") and page.loaded())
        assert page.run("return document.querySelectorAll('img, main script').length") == 0
        assert page.run("return window.harmed") is None
        assert page.run("return document.documentElement.scrollWidth <= innerWidth"), page.heading

    def test_the_direction_of_writing_stays_the_names_own(self, page: PageDesk) -> None:
        page.change("UPDATE au SET family_name = ? WHERE id = 1036", ARABIC)
        page.open(WHITFIELD)
        page.shows("Group Member Details")
        first, last = page.run(
            "const badge = [...document.querySelectorAll('.badge')].find((one) => one.innerText === 'group lead');"
            "const name = badge.closest('th').querySelector('bdi');"
            "return [name.getBoundingClientRect().left, badge.getBoundingClientRect().left]"
        )
        assert first <= last or page.run("return innerWidth") < 500


STATES: dict[str, Callable[[PageDesk], None]] = {}


def state(function: Callable[[PageDesk], None]) -> Callable[[PageDesk], None]:
    STATES[function.__name__] = function
    return function


@state
def the_list(page: PageDesk) -> None:
    page.change("DELETE FROM ausp WHERE usr = 1016")
    page.open(NGUYEN)
    page.shows("Group Member Details")


@state
def a_list_with_a_message(page: PageDesk) -> None:
    page.open(LIN, query="client=eg2&sort=-fines")
    page.shows("Group Member Details")
    page.run("document.querySelector('button[value=remove]').disabled = false")
    page.desk.click("button[value=remove]")
    page.until(lambda: page.text("#message"))


@state
def a_plan_with_warnings(page: PageDesk) -> None:
    page.open(NGUYEN)
    page.shows("Group Member Details")
    page.scan(card(WHITFIELD), Keys.ENTER)
    page.shows("Move Whitfield, Grace")


@state
def a_plan(page: PageDesk) -> None:
    page.open(NGUYEN)
    page.shows("Group Member Details")
    page.scan(card(RUTH), Keys.ENTER)
    page.shows("Move Nguyễn, Ruth")


@state
def done(page: PageDesk) -> None:
    a_plan(page)
    page.scan(Keys.ENTER)
    page.outcome()


@state
def not_done(page: PageDesk) -> None:
    page.change("DELETE FROM grants WHERE usr = 2 AND permission = 'UPDATE_USER'")
    done(page)
    assert "your login lacks the permission UPDATE_USER" in page.outcome()


@state
def a_supervisor_is_asked(page: PageDesk) -> None:
    not_done(page)
    page.desk.click("#approve button")
    page.until(lambda: page.run("return Boolean(document.querySelector('#password'))"))


@state
def several_of_a_name(page: PageDesk) -> None:
    page.open(NGUYEN)
    page.shows("Group Member Details")
    page.scan("whitf", Keys.ENTER)
    page.until(lambda: page.text("#found"))


@state
def an_old_card(page: PageDesk) -> None:
    page.open(NGUYEN)
    page.shows("Group Member Details")
    page.scan("20000000901049", Keys.ENTER)
    page.until(lambda: page.text("#found"))


@state
def which_group(page: PageDesk) -> None:
    page.open(NGUYEN)
    page.shows("Group Member Details")
    page.desk.click("button[value=merge]")
    page.shows("To which group?")


@state
def nothing_to_do(page: PageDesk) -> None:
    page.open(NGUYEN)
    page.shows("Group Member Details")
    page.scan(card(1018), Keys.ENTER)
    page.shows("Nothing to do")


@state
def the_past(page: PageDesk) -> None:
    done(page)
    page.open(NGUYEN, "/past")
    page.shows("This group's past")


@state
def recent_changes(page: PageDesk) -> None:
    done(page)
    page.open(NGUYEN, "/recent")
    page.shows("Recent changes")


@state
def the_session_has_ended(page: PageDesk) -> None:
    page.browser.delete_all_cookies()
    page.open(NGUYEN)
    page.shows("Your session has ended")


@state
def nobody_of_that_id(page: PageDesk) -> None:
    page.open(999_999)
    page.shows("No such patron")


@pytest.mark.parametrize("name", STATES)
def test_axe_finds_nothing_and_nothing_sticks_out(page: PageDesk, name: str) -> None:
    STATES[name](page)
    axe = resources.files("axe_core_python").joinpath("axe.min.js").read_text("utf-8")
    for mode, width in (("light", 1280), ("dark", 1280), ("light", 1024), ("dark", 390), ("light", 320)):
        page.browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
        )
        page.run("localStorage.setItem('eg.ui.general.colormode', arguments[0])", json.dumps(mode))
        page.run("dispatchEvent(new StorageEvent('storage', { key: 'eg.ui.general.colormode' }))")
        assert page.run("return document.documentElement.dataset.bsTheme") == mode
        page.run(axe)
        found = page.browser.execute_async_script(
            "const done = arguments[0]; const sheets = document.getAnimations().map((one) => one.finished);"
            "Promise.all(sheets).then(() => axe.run()).then(done)"
        )
        assert [(rule["id"], [node["html"][:200] for node in rule["nodes"]]) for rule in found["violations"]] == []
        assert page.run("return document.documentElement.scrollWidth <= document.documentElement.clientWidth"), width


class TestLooks:
    def test_without_a_script_the_browsers_own_choice_counts(self, page: PageDesk) -> None:
        page.open(NGUYEN)
        page.shows("Group Member Details")
        for scheme, paper in (("dark", "rgb(33, 37, 41)"), ("light", "rgb(255, 255, 255)")):
            features = [{"name": "prefers-color-scheme", "value": scheme}]
            page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
            assert page.run("return getComputedStyle(document.body).backgroundColor") == paper

    def test_on_paper_the_list_alone(self, page: PageDesk) -> None:
        page.open(NGUYEN)
        page.shows("Group Member Details")
        page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
        shown = "return [...document.querySelectorAll(arguments[0])].some((node) => node.offsetParent)"
        for selector in ("nav", ".card-form", ".toolbar", ".keys", "input"):
            assert not page.run(shown, selector), selector
        for selector in ("#members thead", ".barcode", ".sums"):
            assert page.run(shown, selector), selector

    def test_text_at_200_percent(self, page: PageDesk) -> None:
        page.open(NGUYEN)
        page.shows("Group Member Details")
        page.run("document.documentElement.style.fontSize = '200%'")
        assert page.run("return document.querySelector('#card').getBoundingClientRect().right <= innerWidth")


class TestBesideTheClient:
    @pytest.mark.parametrize("client", list(CLIENTS))
    def test_the_seeds_flow_in_the_clients_own_tab(self, page: PageDesk, client: str) -> None:
        """From Group Member Details to the record in the list, in both clients; the panel learns of it."""
        page.desk.open(client, f"{NGUYEN}/group")
        page.until(lambda: page.run("return document.querySelector('.evergreen-groups-tab')?.dataset.state") == "shown")
        page.until(lambda: "4 members" in page.text(".evergreen-groups"))
        page.browser.switch_to.frame(page.desk.element(".evergreen-groups-tab iframe"))
        page.shows("Group Member Details")
        page.scan(card(RUTH), Keys.ENTER)
        page.shows("Move Nguyễn, Ruth to this group?")
        page.scan(Keys.ENTER)
        assert page.outcome().startswith("Done: Nguyễn, Ruth is in this group now")
        assert "Nguyễn, Ruth" in page.members()
        page.browser.switch_to.default_content()
        page.until(lambda: "5 members" in page.text(".evergreen-groups"))
        page.browser.switch_to.frame(page.desk.element(".evergreen-groups-tab iframe"))
        page.until(lambda: page.run("return Boolean(document.querySelector('#members'))"))
        # Later, for the frame and all that runs in it go at once.
        page.run("setTimeout(() => document.querySelector(\"#members a[href*='/1015/checkout']\").click())")
        page.browser.switch_to.default_content()
        page.until(lambda: page.browser.current_url.endswith("/1015/checkout"))

    def test_the_panel_is_told_of_a_change(self, page: PageDesk) -> None:
        page.open(NGUYEN)
        page.shows("Group Member Details")
        page.browser.execute_script("window.open('/sandbox/desk/desk.css', 'listener')")
        listener, own = None, page.browser.current_window_handle
        page.until(lambda: len(page.browser.window_handles) == 2)
        listener = next(handle for handle in page.browser.window_handles if handle != own)
        page.browser.switch_to.window(listener)
        page.run(
            "window.heard = []; new BroadcastChannel('evergreen-groups').onmessage = (event) => heard.push(event.data)"
        )
        page.browser.switch_to.window(own)
        page.scan(card(RUTH), Keys.ENTER)
        page.shows("Move Nguyễn, Ruth")
        page.scan(Keys.ENTER)
        page.outcome()
        page.browser.switch_to.window(listener)
        (message,) = page.until(lambda: page.run("return window.heard.length ? window.heard : null"))
        page.browser.close()
        page.browser.switch_to.window(own)
        assert message["kind"] == "changed"
        assert message["patrons"] == [RUTH]
        assert message["groups"] == [1004, 5001]

    def test_in_a_frame_of_the_same_origin(self, page: PageDesk) -> None:
        page.browser.get(f"{page.sandbox.url}/sandbox/desk/desk.css")
        page.run(
            "document.body.innerHTML = '<iframe width=1000 height=800></iframe>';"
            "document.querySelector('iframe').src = arguments[0]",
            f"{GROUP.format(NGUYEN)}?client=eg2&in=tab",
        )
        page.browser.switch_to.frame(0)
        page.shows("Group Member Details")
        page.scan(card(RUTH), Keys.ENTER)
        page.shows("Move Nguyễn, Ruth")
        page.scan(Keys.ENTER)
        assert "Done" in page.outcome()
        assert page.run(
            "return [...document.querySelectorAll('#members tbody a')].every((one) => one.target === '_top')"
        )
        page.browser.switch_to.default_content()
