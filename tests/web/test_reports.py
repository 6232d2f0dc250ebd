"""The nightly report as served: the whole report, and each library's own part."""

from __future__ import annotations

import io
import re
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
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

LATEST, NAMED = f"{PREFIX}/reports/latest", f"{PREFIX}/reports/named"


@dataclass(frozen=True)
class Site:
    """Services that show the reports written to ``directory``, and sessions with them."""

    make_app: MakeApp
    sandbox: Sandbox
    client: Client
    directory: Path
    staff: dict[str, str]
    """The headers of a session that sees all patrons."""

    def serve(self, shown: Path | None = None, **sections: Any) -> FlaskClient:
        """Return a service that shows the report at a path."""
        return client_of(self.make_app(settings_of(self.sandbox.url, serve=ServeSettings(report=shown), **sections)))

    def headers(self, account: str) -> dict[str, str]:
        return bearer(session(self.sandbox.url, username=account))

    def cookie(self, account: str) -> dict[str, str]:
        return cookie(session(self.sandbox.url, username=account))

    def publish(self, name: str, least: str = "20.00") -> Path:
        """Write a report by library. Return the directory with its latest files."""
        publish(self.client.report(Criteria(min_total=Decimal(least))), self.directory / name)
        return self.directory / name / "latest"


@pytest.fixture
def site(make_app: MakeApp, sandbox: Sandbox, client: Client, tmp_path: Path, staff: dict[str, str]) -> Site:
    return Site(make_app, sandbox, client, tmp_path, staff)


class TestReport:
    def test_the_page_of_the_nightly_run_under_its_own_policy(self, site: Site) -> None:
        stream = io.StringIO()
        render(sample_report(), "html", stream)
        output = site.directory / "report.html"
        caller = site.serve(report=ReportSettings(output=output))
        assert caller.get(LATEST, headers=site.staff).status_code == 404
        output.write_text(stream.getvalue(), encoding="utf-8")
        answer = caller.get(LATEST, headers=site.staff)
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
    def test_a_page_without_a_policy_that_will_do_runs_no_scripts(self, site: Site, beginning: str) -> None:
        page = site.directory / "page.html"
        page.write_text(f"{beginning}<script>alert(1)</script>", "utf-8")
        policy = site.serve(page).get(LATEST, headers=site.staff).headers["Content-Security-Policy"]
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
        self, site: Site, name: str, output_format: str, status: int
    ) -> None:
        (site.directory / name).write_text("the report")
        caller = site.serve(report=ReportSettings(output=site.directory / name, format=output_format))
        assert caller.get(LATEST, headers=site.staff).status_code == status

    @pytest.mark.parametrize("where", ["[serve] report", "[report] output", "where the nightly unit writes"])
    def test_of_a_report_by_library_the_page_with_everything(self, site: Site, where: str) -> None:
        directory = site.directory / "state" / "reports"  # in the app's state directory
        by_library = ReportSettings(output=directory, split="library")
        caller = site.serve(
            directory if where == "[serve] report" else None,
            report=by_library if where == "[report] output" else ReportSettings(),
        )
        assert caller.get(LATEST, headers=site.staff).status_code == 404
        directory.mkdir(parents=True)
        latest = site.publish("state/reports")
        answer = caller.get(LATEST, headers=site.staff)
        assert (answer.status_code, answer.location) == (303, f"{LATEST}/LAKELAND")
        answer = caller.get(answer.location, headers=site.staff)
        assert answer.text == (latest / "LAKELAND.html").read_text(encoding="utf-8")
        assert "style-src 'sha256-" in answer.headers["Content-Security-Policy"]

    @pytest.mark.parametrize("shortname", ["CON", "The Lakeland Libraries", "index", "../LAKELAND", "harbor"])
    def test_the_topmost_org_unit_may_be_called_anything(self, site: Site, shortname: str) -> None:
        """A shortname that isn't safe as a file name gets a different one."""
        site.sandbox._store.update("aou", 1, {"shortname": shortname})
        latest = site.publish("reports")
        answer = site.serve(latest.parent).get(LATEST, headers=site.staff, follow_redirects=True)
        (page,) = latest.glob(f"{re.sub('[^A-Za-z0-9.]', '_', shortname).lstrip('.')}-????????.html")
        assert answer.text == page.read_text(encoding="utf-8")

    def test_a_report_that_cannot_be_read(self, site: Site) -> None:
        (site.directory / "latest" / "LAKELAND.html").mkdir(parents=True)
        answer = site.serve(site.directory).get(LATEST, headers=site.staff, follow_redirects=True)
        assert answer.status_code == 503

    @pytest.mark.parametrize(("account", "status"), [("consortium_staff", 200), ("north_manager", 403)])
    def test_one_page_is_for_those_who_may_see_every_library(self, site: Site, account: str, status: int) -> None:
        (site.directory / "page.html").write_text("the report")
        named = NamedReport(name="latest", report=ReportSettings(output=site.directory / "page.html"))
        caller, headers = site.serve(site.directory / "page.html", reports=(named,)), site.headers(account)
        assert caller.get(LATEST, headers=headers).status_code == status
        assert caller.get(f"{LATEST}/LAKELAND", headers=headers).status_code == (404 if status == 200 else 403)
        assert caller.get(f"{NAMED}/latest/latest", headers=headers).status_code == status


class TestLibraries:
    """A report split by library has a page for each."""

    @pytest.fixture(params=[LATEST, f"{NAMED}/high/latest"])
    def place(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture
    def reports(self, site: Site) -> Path:
        return site.publish("reports")

    @pytest.fixture
    def caller(self, site: Site, reports: Path) -> FlaskClient:
        named = NamedReport(name="high", report=ReportSettings(output=reports.parent, split="library"))
        return site.serve(reports.parent, reports=(named,))

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
        site: Site,
        caller: FlaskClient,
        place: str,
        reports: Path,
        account: str,
        own: list[str],
        others: list[str],
    ) -> None:
        headers = site.headers(account)
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
        self, site: Site, caller: FlaskClient, place: str, reports: Path, account: str, own: str
    ) -> None:
        headers = site.headers(account)
        assert caller.get(place, headers=headers).location == f"{place}/{own}"
        (reports / f"{own}.html").unlink()
        assert caller.get(place, headers=headers).location == f"{place}/index.html"

    def test_the_other_files_are_there_to_be_saved(
        self, site: Site, caller: FlaskClient, place: str, reports: Path
    ) -> None:
        headers = site.headers("harbor_desk")
        for name, kind in (("HARBOR.csv", "text/csv"), ("HARBOR.json", "application/json")):
            answer = caller.get(f"{place}/{name}", headers=headers)
            assert (answer.status_code, answer.data) == (200, (reports / name).read_bytes())
            assert answer.mimetype == kind
            assert answer.headers["Content-Disposition"] == f'attachment; filename="{name}"'

    def test_the_index_has_no_patrons_and_leads_to_addresses_that_are_served(
        self, site: Site, caller: FlaskClient, place: str, reports: Path
    ) -> None:
        headers = site.headers("north_manager")
        answer = caller.get(f"{place}/index.html", headers=headers)
        assert answer.text == (reports / "index.html").read_text("utf-8")
        links = re.findall(r'<a href="([^"]+)"', answer.text)
        assert len(links) > 8
        for link in links:
            assert caller.get(f"{place}/{link}", headers=headers).status_code in (200, 403), link

    @pytest.mark.parametrize("name", ["ELSEWHERE", "HARBOR.xlsx", "HARBOR.txt", "lock", ".editions", "%2e%2e", "é"])
    def test_what_there_is_none_of(self, site: Site, caller: FlaskClient, place: str, name: str) -> None:
        assert caller.get(f"{place}/{name}", headers=site.staff).status_code == 404

    def test_whoever_follows_a_link_in_a_mail_gets_there(self, site: Site, caller: FlaskClient, place: str) -> None:
        own = site.cookie("harbor_desk")
        assert caller.get(f"{place}/HARBOR", headers={**own, **NAVIGATION}).status_code == 200
        framed = {**NAVIGATION, "Sec-Fetch-Dest": "iframe"}
        assert caller.get(f"{place}/HARBOR", headers={**own, **framed}).status_code == 403

    @pytest.mark.parametrize(
        ("kind", "login"), [("angularjs", "/eg/staff/login?route_to={}"), ("angular", "/eg2/staff/login")]
    )
    def test_people_without_a_session_are_led_to_the_login(self, site: Site, place: str, kind: str, login: str) -> None:
        answer = site.serve(client=ClientSettings(kind=kind)).get(f"{place}/HARBOR", headers=NAVIGATION)
        assert (answer.status_code, answer.mimetype) == (401, "text/html")
        assert f'href="{site.sandbox.url}{login.format(quote(place + "/HARBOR", safe=""))}"' in answer.text
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        assert policy.endswith(FRAMES)

    def test_people_who_may_not_are_told_why(self, site: Site, caller: FlaskClient, place: str) -> None:
        answer = caller.get(f"{place}/MILL", headers={**site.cookie("harbor_desk"), **NAVIGATION})
        assert (answer.status_code, answer.mimetype) == (403, "text/html")
        assert "can&#39;t see the patrons of MILL (permission VIEW_USER)." in answer.text
        assert f'<a class="action" href="{place}">Open your own library\'s page</a>' in answer.text
        assert "/staff/login" not in answer.text


class TestWorklist:
    """The page of a recorded run has current follow-ups in place of those at the time of writing."""

    @pytest.fixture
    def written(self, site: Site, state: State) -> Path:
        """The page of a recorded run, by all libraries."""
        report = record_report(state, site.sandbox.url)
        write_file(report, "html", site.directory / "page.html", client=StaffClient(ANGULAR))
        return site.directory / "page.html"

    def test_its_policy_adds_requests_and_forms_to_the_service_and_nothing_else(
        self, site: Site, written: Path
    ) -> None:
        answer = site.serve(written).get(LATEST, headers=site.staff)
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

    def test_each_group_has_its_state_and_opens_its_follow_up(self, site: Site, written: Path) -> None:
        caller = site.serve(written)
        page = caller.get(LATEST, headers=site.staff).text
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

    def test_who_may_not_save_selects_no_groups(self, site: Site, written: Path) -> None:
        page = site.serve(written, desk=DeskSettings(changes=False)).get(LATEST, headers=site.staff)
        assert 'aria-label="Follow up' not in page.text
        assert 'data-status="to-do"' in page.text

    def test_groups_of_a_run_that_was_not_recorded_are_to_do(self, site: Site, written: Path, state: State) -> None:
        record_report(state, site.sandbox.url, top=3)
        page = site.serve(written).get(LATEST, headers=site.staff).text
        count = page.count('<tbody class="group"')
        assert f"To do ({count})" in page
        assert page.count('data-status="to-do"') == count
        assert page.count('aria-label="Follow up') == 3

    @pytest.mark.parametrize("case", ["no recorded run", "a page of an earlier release"])
    def test_other_pages_are_served_as_written(self, site: Site, written: Path, case: str) -> None:
        if case == "no recorded run":
            shutil.rmtree(site.directory / "state")
        else:
            written.write_text(re.sub("<!--.*?-->", "", written.read_text("utf-8")), "utf-8")
        answer = site.serve(written).get(LATEST, headers=site.staff)
        assert answer.text == written.read_text("utf-8")
        assert "'self'" not in answer.headers["Content-Security-Policy"]

    def test_a_library_reads_its_page_in_its_language(self, site: Site, state: State) -> None:
        report, language = record_report(state, site.sandbox.url), LanguageSettings(default="fr-CA")
        publish(report, site.directory / "reports", ["html"], readers=Readers(language, report.org_units))
        caller = site.serve(site.directory / "reports", language=language)
        page = caller.get(f"{LATEST}/HARBOR", headers=site.headers("harbor_desk")).text
        assert 'lang="fr-CA"' in page
        assert re.search(r'<option value="waiting"[^>]*>En attente \(0\)', page)
        assert '<input type="hidden" name="page" value="HARBOR">' in page


def declared(page: str) -> str:
    (policy,) = re.findall('<meta http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    return str(policy)


class TestNamedReports:
    """Reports of ``[[reports]]`` have separate addresses."""

    @pytest.fixture
    def caller(self, site: Site) -> FlaskClient:
        site.publish("main")
        site.publish("high", "40.00")
        named = {
            "high": ReportSettings(output=site.directory / "high", split="library"),
            "HARBOR": ReportSettings(output=site.directory / "page", format="html"),
            "for-programs": ReportSettings(output=site.directory / "report.json"),
            "mailed": ReportSettings(),
        }
        reports = tuple(NamedReport(name=name, report=one) for name, one in named.items())
        return site.serve(site.directory / "main", reports=reports)

    def test_each_has_its_own_pages(self, site: Site, caller: FlaskClient) -> None:
        headers = site.headers("north_manager")
        for address in ("high/latest/NORTH", "HIGH/latest/north", "high/latest/NORTH.html"):
            answer = caller.get(f"{NAMED}/{address}", headers=headers)
            assert answer.text == (site.directory / "high" / "latest" / "NORTH.html").read_text("utf-8")
            assert answer.text != (site.directory / "main" / "latest" / "NORTH.html").read_text("utf-8")

    @pytest.mark.parametrize(
        "address",
        ["HARBOR/latest", "for-programs/latest", "mailed/latest", "nothing/latest", "nothing/latest/HARBOR", "latest"],
    )
    def test_what_there_is_none_of(self, site: Site, caller: FlaskClient, address: str) -> None:
        answer = caller.get(f"{NAMED}/{address}", headers=site.staff)
        code = "no-such-address" if address == "latest" else "no-named-report"
        assert (answer.status_code, answer.get_json()["code"]) == (404, code)

    def test_which_reports_there_are_is_for_those_who_are_let_in(self, caller: FlaskClient) -> None:
        there, elsewhere = (caller.get(f"{NAMED}/{name}/latest") for name in ("high", "nothing"))
        assert (there.status_code, there.data) == (elsewhere.status_code, elsewhere.data)
        assert there.status_code == 401


class TestAfterARunThatFailed:
    """Don't let last night's report pass for tonight's."""

    def told(self, state: State, outcome: RunOutcome) -> None:
        began = datetime.now(UTC) + timedelta(hours=1)  # so the report that the test wrote is from the night before
        error = "UnreachableError" if outcome is RunOutcome.FAILED else None
        write_run_status(state.database, RunStatus(outcome, began, began, 4 if error else 0, error))

    def test_that_is_said_first(self, site: Site, state: State) -> None:
        caller = site.serve(site.directory / "reports")
        latest = site.publish("reports")
        self.told(state, RunOutcome.FAILED)
        answer = caller.get(f"{LATEST}/HARBOR", headers=site.staff)
        assert "The report was not made" in answer.text
        assert "be reached, or gives no usable answer" in answer.text
        assert 'href="HARBOR.html"' in answer.text
        for name in ("HARBOR.html", "index.html", "HARBOR.csv"):
            assert caller.get(f"{LATEST}/{name}", headers=site.staff).data == (latest / name).read_bytes()
        self.told(state, RunOutcome.PARTIAL)
        answer = caller.get(f"{LATEST}/HARBOR", headers=site.staff)
        assert answer.data == (latest / "HARBOR.html").read_bytes()

    def test_of_one_page_as_well(self, site: Site, state: State) -> None:
        page = site.directory / "page.html"
        caller = site.serve(page)
        self.told(state, RunOutcome.FAILED)
        assert caller.get(LATEST, headers=site.staff).status_code == 404
        page.write_text("the report")
        answer = caller.get(LATEST, headers=site.staff)
        assert "The report was not made" in answer.text
        assert 'href="?last"' in answer.text
        assert caller.get(f"{LATEST}?last", headers=site.staff).text == "the report"
