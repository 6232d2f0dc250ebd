"""Follow-ups over HTTP: what is read and saved, by whom, and what two people at once get."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from jsonschema import Draft202012Validator
from support.circulators import USER, change_rows, make_stock_circulator, take_away
from support.desk_caller import Answer, DeskCaller, new_key
from support.fault_proxy import FaultProxy
from support.follow_ups import note_run
from support.gateways import gateway_of
from support.web_caller import MakeApp, client_of, session, settings_of

from evergreen_groups.report import Criteria, Run, build_report
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import NamedReport, ReportSettings, ServeSettings, Settings
from evergreen_groups.settings.sections import DeskSettings, FollowUpSettings, LanguageSettings
from evergreen_groups.state import State
from evergreen_groups.web.api import description

PATH = "follow-ups"
PROMISED = {"what": "promised", "how": "phone", "note": "SECRET by Friday"}


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    """The state that the services of ``make_app`` use."""
    with State(tmp_path / "state") as state:
        yield state


@pytest.fixture
def settings(proxy: FaultProxy) -> Settings:
    settings = settings_of(proxy.url, serve=ServeSettings(port=0, rate_limit=1_000_000))
    return replace(settings, language=LanguageSettings(timezone="UTC"))


@pytest.fixture
def recorded(state: State, sandbox: Sandbox, proxy: FaultProxy) -> dict[int, int]:
    """Record a run of the report. Return the groups with the id of the person to contact."""
    with gateway_of(proxy.url, "consortium_staff") as gateway:
        report = build_report(gateway, Criteria())
    note_run(state, report)
    return {number: listing.contact for number, listing in Run.of(report).listings.items()}


@pytest.fixture
def app(make_app: MakeApp, settings: Settings) -> Flask:
    return make_app(settings)


@pytest.fixture
def desk(app: Flask, sandbox: Sandbox, recorded: dict[int, int]) -> DeskCaller:
    return caller(app, sandbox)


def caller(app: Flask, sandbox: Sandbox, account: str = "consortium_staff") -> DeskCaller:
    return DeskCaller(client_of(app), session(sandbox.url, username=account))


def save(desk: DeskCaller, *entries: dict[str, Any], key: str = "", report: str = "") -> Answer:
    body = {"report": report, "entries": list(entries)}
    found = desk.send("POST", PATH, body, Idempotency_Key=key or new_key())
    document = description()
    (content,) = (
        document["paths"]["/api/v1/follow-ups"]["post"]["responses"][str(found.status)]
        .get("content", {"": {"schema": {"$ref": "#/components/schemas/Problem"}}})
        .values()
    )
    Draft202012Validator({**content["schema"], "components": document["components"]}).validate(found.body)
    return found


def read(desk: DeskCaller, report: str = "") -> dict[str, Any]:
    found = desk.send("GET", f"{PATH}?report={report}" if report else PATH)
    assert found.status == 200, found.body
    document = description()
    schema = {"$ref": "#/components/schemas/FollowUps", "components": document["components"]}
    Draft202012Validator(schema).validate(found.body)
    return found.body


def group(desk: DeskCaller, number: int) -> dict[str, Any]:
    (found,) = [one for one in read(desk)["groups"] if one["group"] == number]
    return dict(found)


def test_without_a_recorded_run_there_are_no_groups(app: Flask, sandbox: Sandbox) -> None:
    found = read(caller(app, sandbox))
    assert (found["groups"], found["as_of"], found["counts"]["to-do"]) == ([], None, 0)


def test_every_listed_group_is_to_do_at_first(desk: DeskCaller, recorded: dict[int, int]) -> None:
    found = read(desk)
    assert {one["group"]: one["contact"] for one in found["groups"]} == recorded
    assert found["counts"] == {"to-do": len(recorded), "waiting": 0, "closed": 0}
    assert {(one["seen"], one["may_write"]) for one in found["groups"]} == {(None, True)}


def test_saved_for_several_groups_at_once(desk: DeskCaller, recorded: dict[int, int], sandbox: Sandbox) -> None:
    one, two, *_ = recorded
    remind = (datetime.now(UTC).date() + timedelta(9)).isoformat()
    saved = save(desk, {"group": one, **PROMISED, "remind_on": remind}, {"group": two, "what": "closed"})
    assert saved.status == 200
    assert [entry["group"] for entry in saved.body["entries"]] == [one, two]
    assert group(desk, one)["entries"] == saved.body["entries"][:1]
    entry = saved.body["entries"][0]
    assert (entry["note"], entry["remind_on"], entry["date"]) == (
        "SECRET by Friday",
        remind,
        datetime.now(UTC).date().isoformat(),
    )
    with gateway_of(sandbox.url, "consortium_staff") as gateway:
        assert entry["staff"] == gateway.pcrud.search("au", {"usrname": "consortium_staff"})[0].id
    assert read(desk)["counts"] == {"to-do": len(recorded) - 2, "waiting": 1, "closed": 1}


def test_the_second_of_two_gets_the_first_ones_entry(desk: DeskCaller, recorded: dict[int, int]) -> None:
    number, other, *_ = recorded
    first = save(desk, {"group": number, **PROMISED})
    refused = save(desk, {"group": other, "note": "x"}, {"group": number, "note": "typed"})
    assert (refused.status, refused.code, refused.body["newer"]) == (409, "newer-entry", first.body["entries"])
    assert "SECRET" not in refused.body["detail"]
    assert group(desk, other)["entries"] == []
    again = save(desk, {"group": number, "note": "typed", "seen": refused.body["newer"][0]["revision"]})
    assert again.status == 200
    assert [one["note"] for one in group(desk, number)["entries"]] == ["SECRET by Friday", "typed"]


def test_a_key_saves_once(desk: DeskCaller, recorded: dict[int, int]) -> None:
    number = next(iter(recorded))
    first = save(desk, {"group": number, **PROMISED}, key="k")
    assert save(desk, {"group": number, **PROMISED}, key="k").body == first.body
    assert save(desk, {"group": number, "note": "other"}, key="k").code == "key-of-other-entries"
    assert len(group(desk, number)["entries"]) == 1
    assert desk.send("POST", PATH, {"entries": [{"group": number, "note": "x"}]}).code == "key-missing"


def test_a_correction_and_a_deletion_are_on_record(desk: DeskCaller, recorded: dict[int, int]) -> None:
    number = next(iter(recorded))
    [entry] = save(desk, {"group": number, **PROMISED}).body["entries"]
    fixed = save(desk, {"group": number, "seen": entry["revision"], "corrects": entry["id"], "note": "fixed"})
    [corrected] = fixed.body["entries"]
    assert corrected["id"] == entry["id"] != corrected["revision"]
    [found] = group(desk, number)["entries"]
    assert (found["note"], [one["note"] for one in found["earlier"]]) == ("fixed", ["SECRET by Friday"])
    save(desk, {"group": number, "seen": corrected["revision"], "corrects": entry["id"], "deletes": True})
    assert (group(desk, number)["status"], group(desk, number)["entries"][0]["deleted"]) == ("to-do", True)
    gone = save(desk, {"group": number, "seen": group(desk, number)["seen"], "corrects": entry["id"], "note": "x"})
    assert (gone.status, gone.code) == (404, "no-such-follow-up-entry")


@pytest.mark.parametrize(
    "wrong",
    [
        {"group": 0},
        {"group": "x"},
        {"what": "paid"},
        {"how": "fax"},
        {"what": "promised"},
        {"date": "yesterday"},
        {"date": "2999-01-01"},
        {"remind_on": "2020-01-01"},
        {"note": "x" * 301},
        {"note": "SECRET\x1b"},
        {"seen": "x"},
        {"corrects": 1.5},
        {"deletes": True},
        {"more": 1},
    ],
)
def test_refused(desk: DeskCaller, recorded: dict[int, int], wrong: dict[str, Any]) -> None:
    refused = save(desk, {"group": next(iter(recorded)), "note": "x", **wrong})
    assert refused.status == 400, refused.body
    assert "SECRET" not in json.dumps(refused.body)


def test_refused_as_a_whole(desk: DeskCaller, recorded: dict[int, int]) -> None:
    number = next(iter(recorded))
    entry = {"group": number, "note": "x"}
    assert save(desk).code == "field-wrong"
    assert save(desk, *[entry] * 201).code == "field-wrong"
    assert save(desk, entry, entry).code == "group-named-twice"
    assert save(desk, entry, {"group": 999_999, "note": "x"}).code == "group-not-listed"
    assert save(desk, entry, report="nowhere").status == 404
    assert group(desk, number)["entries"] == []


def test_where_nothing_is_changed_it_can_only_be_read(
    make_app: MakeApp, settings: Settings, sandbox: Sandbox, recorded: dict[int, int]
) -> None:
    desk = caller(make_app(replace(settings, desk=DeskSettings(changes=False))), sandbox)
    assert {one["may_write"] for one in read(desk)["groups"]} == {False}
    assert save(desk, {"group": next(iter(recorded)), "note": "x"}).code == "changes-off"


def test_a_page_of_another_origin_may_not_save(desk: DeskCaller, recorded: dict[int, int]) -> None:
    body = {"entries": [{"group": next(iter(recorded)), "note": "x"}]}
    refused = desk.send("POST", PATH, body, Idempotency_Key="k", Origin="https://elsewhere.example.org")
    assert (refused.status, refused.code) == (403, "foreign-write")


def test_no_note_is_logged_or_counted(
    app: Flask, desk: DeskCaller, recorded: dict[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    number = next(iter(recorded))
    save(desk, {"group": number, **PROMISED})
    save(desk, {"group": number, **PROMISED})
    read(desk)
    assert "SECRET" not in caplog.text
    from evergreen_groups.web.service import reloadable_service

    assert "SECRET" not in str(reloadable_service(app).counters.exposition())


# --- Permissions ---


@pytest.fixture
def split(app: Flask, tmp_path: Path, recorded: dict[int, int]) -> Flask:
    """The service with a report that is split by library."""
    (tmp_path / "state" / "reports" / "latest").mkdir(parents=True)
    return app


def at_harbor_street(sandbox: Sandbox, app: Flask) -> DeskCaller:
    """Log in a circulator who sees patrons of the system, and may change those of the branch."""
    account = make_stock_circulator(sandbox)
    change_rows(sandbox, "INSERT OR REPLACE INTO grants VALUES (?, 'UPDATE_USER', 2)", USER)
    return caller(app, sandbox, account)


def test_a_report_of_all_libraries_takes_view_user_everywhere(
    app: Flask, sandbox: Sandbox, recorded: dict[int, int]
) -> None:
    desk = at_harbor_street(sandbox, app)
    assert desk.send("GET", PATH).code == "report-refused"
    assert save(desk, {"group": next(iter(recorded)), "note": "x"}).code == "report-refused"


def test_of_a_split_report_staff_get_the_groups_of_their_libraries(
    split: Flask, sandbox: Sandbox, recorded: dict[int, int]
) -> None:
    desk = at_harbor_street(sandbox, split)
    found = {one["group"]: one for one in read(desk)["groups"]}
    assert set(found) < set(recorded)
    assert found
    hidden = next(number for number in recorded if number not in found)
    assert save(desk, {"group": hidden, "note": "x"}).code == "group-not-listed"
    all_groups = {one["group"]: one for one in read(caller(split, sandbox))["groups"]}
    assert {number: one["library"] for number, one in found.items()} == {
        number: all_groups[number]["library"] for number in found
    }


def test_saving_takes_update_user_at_the_contact_persons_library(
    split: Flask, sandbox: Sandbox, recorded: dict[int, int]
) -> None:
    desk = at_harbor_street(sandbox, split)
    found = read(desk)["groups"]
    may = {one["may_write"]: one for one in found}
    assert set(may) == {True, False}, [(one["library"], one["may_write"]) for one in found]
    assert save(desk, {"group": may[True]["group"], "note": "x"}).status == 200
    refused = save(desk, {"group": may[False]["group"], "note": "x"})
    assert (refused.status, refused.code) == (403, "follow-up-permission-missing")
    assert f"UPDATE_USER at {may[False]['library']}" in refused.body["detail"]


def test_saving_takes_another_permission_if_the_settings_say_so(
    make_app: MakeApp, settings: Settings, sandbox: Sandbox, recorded: dict[int, int]
) -> None:
    take_away(sandbox, "UPDATE_USER")
    desk = caller(make_app(settings), sandbox)
    assert save(desk, {"group": next(iter(recorded)), "note": "x"}).code == "follow-up-permission-missing"
    desk = caller(make_app(replace(settings, follow_up=FollowUpSettings(permission="VIEW_USER"))), sandbox)
    assert save(desk, {"group": next(iter(recorded)), "note": "x"}).status == 200


def test_authors_may_correct_without_it_and_others_only_with_it(
    split: Flask, sandbox: Sandbox, recorded: dict[int, int]
) -> None:
    desk, everywhere = at_harbor_street(sandbox, split), caller(split, sandbox)
    number = next(one["group"] for one in read(desk)["groups"] if one["may_write"])
    [mine] = save(desk, {"group": number, "note": "mine"}).body["entries"]
    [other] = save(everywhere, {"group": number, "note": "other", "seen": mine["revision"]}).body["entries"]
    take_away(sandbox, "UPDATE_USER", user=USER)
    refused = save(desk, {"group": number, "seen": other["revision"], "corrects": other["id"], "note": "x"})
    assert refused.code == "follow-up-permission-missing"
    [fixed] = save(desk, {"group": number, "seen": other["revision"], "corrects": mine["id"], "note": "fixed"}).body[
        "entries"
    ]
    assert save(everywhere, {"group": number, "seen": fixed["revision"], "corrects": mine["id"], "deletes": True})
    assert [one["deleted"] for one in group(everywhere, number)["entries"]] == [True, False]


def test_a_report_by_name(
    make_app: MakeApp, settings: Settings, sandbox: Sandbox, state: State, tmp_path: Path
) -> None:
    with gateway_of(settings.gateway.url or "", "consortium_staff") as gateway:
        report = build_report(gateway, Criteria())
    note_run(state, replace(report, name="Old-Debts", groups=report.groups[:1]))
    named = NamedReport(name="Old-Debts", report=ReportSettings(output=tmp_path / "old.html"))
    desk = caller(make_app(replace(settings, reports=(named,))), sandbox)
    assert [one["group"] for one in read(desk, "old-debts")["groups"]] == [report.groups[0].number]
    assert read(desk)["groups"] == []


def test_today_is_that_of_the_contact_persons_library(
    make_app: MakeApp, settings: Settings, sandbox: Sandbox, recorded: dict[int, int]
) -> None:
    """In a time zone in which it is tomorrow, or yesterday."""
    zone, day = ("Pacific/Kiritimati", 1) if datetime.now(UTC).hour >= 12 else ("Etc/GMT+12", -1)
    change_rows(sandbox, "DELETE FROM aous WHERE name = 'lib.timezone'")
    sandbox._store.insert("aous", {"name": "lib.timezone", "org_unit": 1, "value": json.dumps(zone)})
    desk = caller(make_app(replace(settings, language=LanguageSettings())), sandbox)
    [entry] = save(desk, {"group": next(iter(recorded)), "note": "x"}).body["entries"]
    assert entry["date"] == (datetime.now(UTC).date() + timedelta(day)).isoformat()
