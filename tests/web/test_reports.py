"""The nightly report as served: the whole report, and each library's own part."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient
from support.follow_ups import record_report
from support.report_samples import sample_report
from support.web_caller import MakeApp, bearer, client_of, cookie, session, settings_of

from evergreen_groups.client import Client
from evergreen_groups.nightly.output import Readers, publish
from evergreen_groups.render import StaffClient
from evergreen_groups.render.pages import ANGULAR
from evergreen_groups.render.report import render, write_file
from evergreen_groups.report import Criteria
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import NamedReport, ReportSettings, ServeSettings
from evergreen_groups.settings.sections import ClientSettings, DeskSettings, LanguageSettings
from evergreen_groups.state import RunOutcome, RunStatus, State, write_run_status
from evergreen_groups.web import PREFIX

pytestmark = pytest.mark.long

FRAMES = "; frame-ancestors 'none'"
NAVIGATION = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "cross-site"}

Serving = Callable[[Path], FlaskClient]
HeadersOf = Callable[[str], dict[str, str]]


@pytest.fixture
def serving(make_app: MakeApp, sandbox: Sandbox) -> Serving:
    """A service that shows the report at a path."""
    return lambda report: client_of(make_app(settings_of(sandbox.url, serve=ServeSettings(report=report))))


@pytest.fixture
def headers_of(sandbox: Sandbox) -> HeadersOf:
    """Return the headers of an account's new session."""
    return lambda account: bearer(session(sandbox.url, username=account))


def published(client: Client, directory: Path, least: str = "20.00") -> None:
    publish(client.report(Criteria(min_total=Decimal(least))), directory)


class TestReport:
    ADDRESS = f"{PREFIX}/reports/latest"

    def test_the_page_of_the_nightly_run_under_its_own_policy(
        self, make_app: MakeApp, sandbox: Sandbox, tmp_path: Path, staff: dict[str, str]
    ) -> None:
        stream = io.StringIO()
        render(sample_report(), "html", stream)
        output = tmp_path / "report.html"
        caller = client_of(make_app(settings_of(sandbox.url, report=ReportSettings(output=output))))
        assert caller.get(self.ADDRESS, headers=staff).status_code == 404
        output.write_text(stream.getvalue(), encoding="utf-8")
        answer = caller.get(self.ADDRESS, headers=staff)
        assert (answer.status_code, answer.content_type) == (200, "text/html; charset=utf-8")
        assert answer.text == stream.getvalue()
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        assert policy.endswith(FRAMES)
        assert f'content="{policy.removesuffix(FRAMES)}"' in answer.text

    @pytest.mark.parametrize(
        "beginning",
        [
            "",
            '<meta http-equiv="Content-Security-Policy">',
            '<meta http-equiv="Content-Security-Policy" content=" ">',
            '<meta http-equiv="Content-Security-Policy" content="script-src *&#13;&#10;X-Other: 1">',
            '<meta http-equiv="Content-Security-Policy" content="script-src ä">',
            '<meta name="Content-Security-Policy" content="script-src *">',
            " " * 5000 + '<meta http-equiv="Content-Security-Policy" content="script-src *">',
        ],
    )
    def test_a_page_without_a_policy_that_will_do_runs_no_scripts(
        self, serving: Serving, tmp_path: Path, staff: dict[str, str], beginning: str
    ) -> None:
        (tmp_path / "page.html").write_text(f"{beginning}<script>alert(1)</script>", "utf-8")
        policy = serving(tmp_path / "page.html").get(self.ADDRESS, headers=staff).headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "script-src" not in policy

    @pytest.mark.parametrize(
        ("name", "output_format", "status"),
        [
            ("page.html", "table", 200),
            ("page", "html", 200),
            ("page.json", "html", 404),
            ("page.xlsx", "html", 404),
            ("page", "csv", 404),
        ],
    )
    def test_only_a_report_that_is_a_page_is_served(
        self,
        make_app: MakeApp,
        sandbox: Sandbox,
        tmp_path: Path,
        staff: dict[str, str],
        name: str,
        output_format: str,
        status: int,
    ) -> None:
        (tmp_path / name).write_text("the report")
        report = ReportSettings(output=tmp_path / name, format=output_format)
        caller = client_of(make_app(settings_of(sandbox.url, report=report)))
        assert caller.get(self.ADDRESS, headers=staff).status_code == status

    @pytest.mark.parametrize("where", ["[serve] report", "[report] output", "where the nightly unit writes"])
    def test_of_a_report_by_library_the_page_with_everything(
        self, make_app: MakeApp, sandbox: Sandbox, tmp_path: Path, client: Client, staff: dict[str, str], where: str
    ) -> None:
        directory = tmp_path / "state" / "reports"  # in the app's state directory
        settings = {
            "[serve] report": settings_of(sandbox.url, serve=ServeSettings(report=directory)),
            "[report] output": settings_of(sandbox.url, report=ReportSettings(output=directory, split="library")),
        }.get(where, settings_of(sandbox.url))
        caller = client_of(make_app(settings))
        assert caller.get(self.ADDRESS, headers=staff).status_code == 404
        directory.mkdir(parents=True)
        published(client, directory)
        answer = caller.get(self.ADDRESS, headers=staff)
        assert (answer.status_code, answer.location) == (303, f"{self.ADDRESS}/LAKELAND")
        answer = caller.get(answer.location, headers=staff)
        assert answer.text == (directory / "latest" / "LAKELAND.html").read_text(encoding="utf-8")
        assert "style-src 'sha256-" in answer.headers["Content-Security-Policy"]

    @pytest.mark.parametrize("shortname", ["CON", "The Lakeland Libraries", "index", "../LAKELAND", "harbor"])
    def test_the_topmost_org_unit_may_be_called_anything(
        self, serving: Serving, sandbox: Sandbox, tmp_path: Path, client: Client, staff: dict[str, str], shortname: str
    ) -> None:
        """A shortname that isn't safe as a file name gets a different one."""
        sandbox._store.update("aou", 1, {"shortname": shortname})
        published(client, tmp_path)
        caller = serving(tmp_path)
        answer = caller.get(self.ADDRESS, headers=staff, follow_redirects=True)
        (page,) = (tmp_path / "latest").glob(f"{re.sub('[^A-Za-z0-9.]', '_', shortname).lstrip('.')}-????????.html")
        assert answer.text == page.read_text(encoding="utf-8")

    def test_a_report_that_cannot_be_read(self, serving: Serving, tmp_path: Path, staff: dict[str, str]) -> None:
        (tmp_path / "latest" / "LAKELAND.html").mkdir(parents=True)
        caller = serving(tmp_path)
        assert caller.get(self.ADDRESS, headers=staff, follow_redirects=True).status_code == 503

    @pytest.mark.parametrize(("account", "status"), [("consortium_staff", 200), ("north_manager", 403)])
    def test_one_page_is_for_those_who_may_see_every_library(
        self, serving: Serving, headers_of: HeadersOf, tmp_path: Path, account: str, status: int
    ) -> None:
        (tmp_path / "page.html").write_text("the report")
        caller = serving(tmp_path / "page.html")
        headers = headers_of(account)
        assert caller.get(self.ADDRESS, headers=headers).status_code == status
        assert caller.get(f"{self.ADDRESS}/LAKELAND", headers=headers).status_code == (404 if status == 200 else 403)


class TestLibraries:
    """A report split by library has a page for each."""

    @pytest.fixture(params=["latest", "named/high/latest"])
    def place(self, request: pytest.FixtureRequest) -> str:
        return f"{PREFIX}/reports/{request.param}"

    @pytest.fixture
    def reports(self, tmp_path: Path, client: Client) -> Path:
        published(client, tmp_path / "reports")
        return tmp_path / "reports" / "latest"

    @pytest.fixture
    def caller(self, make_app: MakeApp, sandbox: Sandbox, reports: Path) -> FlaskClient:
        named = NamedReport(name="high", report=ReportSettings(output=reports.parent, split="library"))
        serve = ServeSettings(report=reports.parent)
        return client_of(make_app(settings_of(sandbox.url, serve=serve, reports=(named,))))

    @pytest.mark.parametrize(
        ("account", "own", "others"),
        [
            ("harbor_desk", ["HARBOR"], ["LAKELAND", "NORTH", "PINE", "MILL"]),
            ("north_manager", ["NORTH", "HARBOR", "PINE"], ["LAKELAND", "VALLEY", "MILL"]),
            ("consortium_staff", ["LAKELAND", "NORTH", "MILL"], []),
        ],
    )
    def test_staff_see_the_pages_of_the_libraries_whose_patrons_they_may_see(
        self,
        caller: FlaskClient,
        place: str,
        headers_of: HeadersOf,
        reports: Path,
        account: str,
        own: list[str],
        others: list[str],
    ) -> None:
        headers = headers_of(account)
        for name in own:
            written = (reports / f"{name}.html").read_text("utf-8")
            for address in (name, name.lower(), f"{name}.html"):
                answer = caller.get(f"{place}/{address}", headers=headers)
                assert (answer.status_code, answer.text) == (200, written), address
                assert answer.headers["Content-Security-Policy"].endswith(FRAMES)
        for name in others:
            for address in (name, f"{name}.html", f"{name}.csv", f"{name}.json"):
                answer = caller.get(f"{place}/{address}", headers=headers)
                assert (answer.status_code, answer.get_json()["code"]) == (403, "library-report-refused"), address

    @pytest.mark.parametrize(("account", "own"), [("harbor_desk", "HARBOR"), ("north_manager", "NORTH")])
    def test_the_report_leads_everybody_to_theirs(
        self, caller: FlaskClient, place: str, headers_of: HeadersOf, reports: Path, account: str, own: str
    ) -> None:
        headers = headers_of(account)
        assert caller.get(place, headers=headers).location == f"{place}/{own}"
        (reports / f"{own}.html").unlink()
        assert caller.get(place, headers=headers).location == f"{place}/index.html"

    def test_the_other_files_are_there_to_be_saved(
        self, caller: FlaskClient, place: str, headers_of: HeadersOf, reports: Path
    ) -> None:
        headers = headers_of("harbor_desk")
        for name, kind in (("HARBOR.csv", "text/csv"), ("HARBOR.json", "application/json")):
            answer = caller.get(f"{place}/{name}", headers=headers)
            assert (answer.status_code, answer.data) == (200, (reports / name).read_bytes())
            assert answer.mimetype == kind
            assert answer.headers["Content-Disposition"] == f'attachment; filename="{name}"'

    def test_the_index_has_no_patrons_and_leads_to_addresses_that_are_served(
        self, caller: FlaskClient, place: str, headers_of: HeadersOf, reports: Path
    ) -> None:
        headers = headers_of("north_manager")
        answer = caller.get(f"{place}/index.html", headers=headers)
        assert answer.text == (reports / "index.html").read_text("utf-8")
        links = re.findall(r'<a href="([^"]+)"', answer.text)
        assert len(links) > 8
        for link in links:
            assert caller.get(f"{place}/{link}", headers=headers).status_code in (200, 403), link

    @pytest.mark.parametrize("name", ["ELSEWHERE", "HARBOR.xlsx", "HARBOR.txt", "lock", ".editions", "%2e%2e", "é"])
    def test_what_there_is_none_of(self, caller: FlaskClient, place: str, staff: dict[str, str], name: str) -> None:
        assert caller.get(f"{place}/{name}", headers=staff).status_code == 404

    def test_whoever_follows_a_link_in_a_mail_gets_there(
        self, caller: FlaskClient, place: str, sandbox: Sandbox
    ) -> None:
        token = session(sandbox.url, username="harbor_desk")
        answer = caller.get(f"{place}/HARBOR", headers={**cookie(token), **NAVIGATION})
        assert answer.status_code == 200
        framed = {**NAVIGATION, "Sec-Fetch-Dest": "iframe"}
        assert caller.get(f"{place}/HARBOR", headers={**cookie(token), **framed}).status_code == 403

    @pytest.mark.parametrize(
        ("kind", "login"),
        [
            ("angularjs", "/eg/staff/login?route_to={}"),
            ("angular", "/eg2/staff/login"),
        ],
    )
    def test_people_without_a_session_are_led_to_the_login(
        self, make_app: MakeApp, place: str, sandbox: Sandbox, kind: str, login: str
    ) -> None:
        settings = settings_of(sandbox.url, client=ClientSettings(kind=kind))
        answer = client_of(make_app(settings)).get(f"{place}/HARBOR", headers=NAVIGATION)
        assert (answer.status_code, answer.mimetype) == (401, "text/html")
        assert f'href="{sandbox.url}{login.format(quote(place + "/HARBOR", safe=""))}"' in answer.text
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        assert policy.endswith(FRAMES)

    def test_people_who_may_not_are_told_why(self, caller: FlaskClient, place: str, sandbox: Sandbox) -> None:
        token = session(sandbox.url, username="harbor_desk")
        answer = caller.get(f"{place}/MILL", headers={**cookie(token), **NAVIGATION})
        assert (answer.status_code, answer.mimetype) == (403, "text/html")
        assert "can&#39;t see the patrons of MILL (permission VIEW_USER)." in answer.text
        assert f'<a class="action" href="{place}">Open your own library\'s page</a>' in answer.text
        assert "/staff/login" not in answer.text


class TestWorklist:
    """The page of a recorded run has current follow-ups in place of those at the time of writing."""

    ADDRESS = f"{PREFIX}/reports/latest"

    @pytest.fixture
    def written(self, tmp_path: Path, sandbox: Sandbox, state: State) -> Path:
        """The page of a recorded run, by all libraries."""
        report = record_report(state, sandbox.url)
        write_file(report, "html", tmp_path / "page.html", client=StaffClient(ANGULAR))
        return tmp_path / "page.html"

    def test_its_policy_adds_requests_and_forms_to_the_service_and_nothing_else(
        self, serving: Serving, written: Path, staff: dict[str, str]
    ) -> None:
        answer = serving(written).get(self.ADDRESS, headers=staff)
        page = written.read_text("utf-8")
        style, labels, script = re.findall(r"'sha256-[^']+'", page)
        assert declared(page) == (
            f"default-src 'none'; style-src {style} {labels}; script-src {script}; base-uri 'none'; form-action 'none'"
        )
        policy = (
            f"default-src 'none'; style-src {style} {labels}; script-src {script} 'self'; base-uri 'none'; "
            "form-action 'self'; connect-src 'self'"
        )
        assert declared(answer.text) == policy
        assert answer.headers["Content-Security-Policy"] == policy + FRAMES
        assert answer.headers["Referrer-Policy"] == "same-origin"

    def test_each_group_has_its_state_and_opens_its_follow_up(
        self, serving: Serving, written: Path, staff: dict[str, str]
    ) -> None:
        caller = serving(written)
        page = caller.get(self.ADDRESS, headers=staff).text
        groups = re.findall(r'name="group" value="([0-9]+)" aria-label="Follow up', page)
        assert len(groups) == page.count('<tbody class="group"') > 5
        assert f"To do ({len(groups)})" in page
        (script,) = re.findall(r'<script src="([^"]+)"', page)
        assert caller.get(script).mimetype == "text/javascript"
        # Apart from that, it is the page as written.
        assert "<!--" not in page
        for line in written.read_text("utf-8").splitlines():
            if "<!--" not in line and "Content-Security-Policy" not in line:
                assert line in page

    def test_who_may_not_save_selects_no_groups(
        self, make_app: MakeApp, sandbox: Sandbox, written: Path, staff: dict[str, str]
    ) -> None:
        serve, off = ServeSettings(report=written), DeskSettings(changes=False)
        page = client_of(make_app(settings_of(sandbox.url, serve=serve, desk=off))).get(self.ADDRESS, headers=staff)
        assert 'aria-label="Follow up' not in page.text
        assert 'data-status="to-do"' in page.text

    def test_groups_of_a_run_that_was_not_recorded_are_to_do(
        self, serving: Serving, written: Path, staff: dict[str, str], sandbox: Sandbox, state: State
    ) -> None:
        record_report(state, sandbox.url, top=3)
        page = serving(written).get(self.ADDRESS, headers=staff).text
        count = page.count('<tbody class="group"')
        assert f"To do ({count})" in page
        assert page.count('data-status="to-do"') == count
        assert page.count('aria-label="Follow up') == 3

    @pytest.mark.parametrize("case", ["no recorded run", "a page of an earlier release"])
    def test_other_pages_are_served_as_written(
        self, serving: Serving, written: Path, staff: dict[str, str], case: str, tmp_path: Path
    ) -> None:
        if case == "no recorded run":
            shutil.rmtree(tmp_path / "state")
        else:
            written.write_text(re.sub("<!--.*?-->", "", written.read_text("utf-8")), "utf-8")
        answer = serving(written).get(self.ADDRESS, headers=staff)
        assert answer.text == written.read_text("utf-8")
        assert "'self'" not in answer.headers["Content-Security-Policy"]

    def test_a_library_reads_its_page_in_its_language(
        self, make_app: MakeApp, sandbox: Sandbox, headers_of: HeadersOf, state: State, tmp_path: Path
    ) -> None:
        report = record_report(state, sandbox.url)
        language = LanguageSettings(default="fr-CA")
        publish(report, tmp_path / "reports", ["html"], readers=Readers(language, report.org_units))
        settings = settings_of(sandbox.url, serve=ServeSettings(report=tmp_path / "reports"), language=language)
        headers = headers_of("harbor_desk")
        page = client_of(make_app(settings)).get(f"{self.ADDRESS}/HARBOR", headers=headers).text
        assert 'lang="fr-CA"' in page
        assert re.search(r'<option value="waiting"[^>]*>En attente \(0\)', page)
        assert '<input type="hidden" name="page" value="HARBOR">' in page


def declared(page: str) -> str:
    (policy,) = re.findall('<meta http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    return str(policy)


class TestNamedReports:
    """Reports of ``[[reports]]`` have separate addresses."""

    ADDRESS = f"{PREFIX}/reports/named"

    @pytest.fixture
    def caller(self, make_app: MakeApp, sandbox: Sandbox, tmp_path: Path, client: Client) -> FlaskClient:
        published(client, tmp_path / "main")
        published(client, tmp_path / "high", "40.00")
        (tmp_path / "page.html").write_text("the report")
        named = {
            "high": ReportSettings(output=tmp_path / "high", split="library"),
            "latest": ReportSettings(output=tmp_path / "page.html"),
            "HARBOR": ReportSettings(output=tmp_path / "page", format="html"),
            "for-programs": ReportSettings(output=tmp_path / "report.json"),
            "mailed": ReportSettings(),
        }
        reports = tuple(NamedReport(name=name, report=one) for name, one in named.items())
        serve = ServeSettings(report=tmp_path / "main")
        return client_of(make_app(settings_of(sandbox.url, serve=serve, reports=reports)))

    def test_each_has_its_own_pages(self, caller: FlaskClient, headers_of: HeadersOf, tmp_path: Path) -> None:
        headers = headers_of("north_manager")
        for address in ("high/latest/NORTH", "HIGH/latest/north", "high/latest/NORTH.html"):
            answer = caller.get(f"{self.ADDRESS}/{address}", headers=headers)
            assert answer.text == (tmp_path / "high" / "latest" / "NORTH.html").read_text("utf-8")
            assert answer.text != (tmp_path / "main" / "latest" / "NORTH.html").read_text("utf-8")

    @pytest.mark.parametrize(("account", "status"), [("consortium_staff", 200), ("north_manager", 403)])
    def test_one_page_is_for_those_who_may_see_every_library_whatever_it_is_called(
        self, caller: FlaskClient, headers_of: HeadersOf, account: str, status: int
    ) -> None:
        assert caller.get(f"{self.ADDRESS}/latest/latest", headers=headers_of(account)).status_code == status

    @pytest.mark.parametrize(
        "address",
        ["HARBOR/latest", "for-programs/latest", "mailed/latest", "nothing/latest", "nothing/latest/HARBOR", "latest"],
    )
    def test_what_there_is_none_of(self, caller: FlaskClient, staff: dict[str, str], address: str) -> None:
        answer = caller.get(f"{self.ADDRESS}/{address}", headers=staff)
        code = "no-such-address" if address == "latest" else "no-named-report"
        assert (answer.status_code, answer.get_json()["code"]) == (404, code)

    def test_which_reports_there_are_is_for_those_who_are_let_in(self, caller: FlaskClient) -> None:
        there, elsewhere = (caller.get(f"{self.ADDRESS}/{name}/latest") for name in ("high", "nothing"))
        assert (there.status_code, there.data) == (elsewhere.status_code, elsewhere.data)
        assert there.status_code == 401


class TestAfterARunThatFailed:
    """Don't let last night's report pass for tonight's."""

    ADDRESS = f"{PREFIX}/reports/latest"

    def told(self, state: State, outcome: RunOutcome) -> None:
        began = datetime.now(UTC) + timedelta(hours=1)  # so the report that the test wrote is from the night before
        error = "UnreachableError" if outcome is RunOutcome.FAILED else None
        write_run_status(state.database, RunStatus(outcome, began, began, 4 if error else 0, error))

    def test_that_is_said_first(
        self, serving: Serving, tmp_path: Path, client: Client, staff: dict[str, str], state: State
    ) -> None:
        directory = tmp_path / "reports"
        caller = serving(directory)
        published(client, directory)
        self.told(state, RunOutcome.FAILED)
        answer = caller.get(f"{self.ADDRESS}/HARBOR", headers=staff)
        assert "The report was not made" in answer.text
        assert "be reached, or gives no usable answer" in answer.text
        assert 'href="HARBOR.html"' in answer.text
        for name in ("HARBOR.html", "index.html", "HARBOR.csv"):
            answer = caller.get(f"{self.ADDRESS}/{name}", headers=staff)
            assert answer.data == (directory / "latest" / name).read_bytes()
        self.told(state, RunOutcome.PARTIAL)
        answer = caller.get(f"{self.ADDRESS}/HARBOR", headers=staff)
        assert answer.data == (directory / "latest" / "HARBOR.html").read_bytes()

    def test_of_a_named_report_as_well(
        self, make_app: MakeApp, sandbox: Sandbox, tmp_path: Path, client: Client, staff: dict[str, str], state: State
    ) -> None:
        named = NamedReport(name="high", report=ReportSettings(output=tmp_path / "high", split="library"))
        caller = client_of(make_app(settings_of(sandbox.url, reports=(named,))))
        published(client, tmp_path / "high")
        self.told(state, RunOutcome.FAILED)
        answer = caller.get(f"{PREFIX}/reports/named/high/latest/HARBOR", headers=staff)
        assert "The report was not made" in answer.text
        assert 'href="HARBOR.html"' in answer.text

    def test_of_one_page_as_well(self, serving: Serving, tmp_path: Path, staff: dict[str, str], state: State) -> None:
        page = tmp_path / "page.html"
        caller = serving(page)
        self.told(state, RunOutcome.FAILED)
        assert caller.get(self.ADDRESS, headers=staff).status_code == 404
        page.write_text("the report")
        answer = caller.get(self.ADDRESS, headers=staff)
        assert "The report was not made" in answer.text
        assert 'href="?last"' in answer.text
        assert caller.get(f"{self.ADDRESS}?last", headers=staff).text == "the report"
