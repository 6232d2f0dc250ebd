"""Totals of a group whose hidden member owes fines, has overdue and lost items, and is blocked: none looks exact."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from support.circulators import make_stock_circulator
from support.debts import owe
from support.documents import document
from support.gateways import gateway_of
from support.states import state_in

from evergreen_groups import hooks
from evergreen_groups.changes import Action, PlanRequest
from evergreen_groups.client import Client
from evergreen_groups.render import write_draft
from evergreen_groups.render.desk import group_sums
from evergreen_groups.render.group import write_check_json, write_details, write_json
from evergreen_groups.sandbox import Sandbox

MILL = 21
OKONKWO, DEBTOR, HIDDEN = 1001, 1002, 1012


@pytest.fixture
def client(sandbox: Sandbox, tmp_path: Path) -> Iterator[Client]:
    """A client of a HARBOR circulator who can't see one Okonkwo: at home in MILL, blocked, with items out."""
    account = make_stock_circulator(sandbox)
    sandbox._store.update("au", HIDDEN, {"usrgroup": OKONKWO})
    owe(sandbox, HIDDEN, (MILL, "16.99"))
    for stopped in (None, "LOST"):
        late = {"due_date": "2026-01-01T10:00:00+0000", "fine_interval": "1 day", "stop_fines": stopped}
        sandbox._store.insert("circ", {"usr": HIDDEN, "circ_lib": MILL, **late})
    sandbox._store.insert("ausp", {"usr": HIDDEN, "org_unit": 1, "standing_penalty": 1})
    with gateway_of(sandbox.url, account) as gateway:
        gateway.login()
        yield Client(gateway, account=account, state=state_in(tmp_path / "state"))


def over(sandbox: Sandbox) -> None:
    """Put a visible member over the limit, blocked, with an item out."""
    owe(sandbox, DEBTOR, (MILL, "6.00"))
    sandbox._store.insert("ausp", {"usr": DEBTOR, "org_unit": 1, "standing_penalty": 1})
    due = {"due_date": "2099-01-01T10:00:00+0000", "fine_interval": "1 day"}
    sandbox._store.insert("circ", {"usr": DEBTOR, "circ_lib": 11, **due})


COUNTS = ("over_limit_count", "blocked_in_evergreen_count", "blocked_count")


def test_documents_have_no_number_where_it_may_be_more(client: Client, sandbox: Sandbox) -> None:
    for at_least in (0, 1):
        summary = document(hooks.patron_summary(client, OKONKWO))
        details = document(hooks.group_details(client, OKONKWO))
        for found in (summary, details):
            assert found["group_fines"] == ("45.09" if not at_least else "46.34")
            assert [found[name] for name in COUNTS] == [None] * 3
            assert [found[f"{name}_at_least"] for name in COUNTS] == [at_least] * 3
        assert details["items"] is None
        assert details["items_at_least"] == {"out": at_least, "overdue": 0, "lost": 0}
        over(sandbox)


def test_the_page_says_at_least_or_unknown(client: Client, sandbox: Sandbox) -> None:
    sums = group_sums(client.details.of_user(OKONKWO))
    assert [text for _label, text in sums] == ["unknown"] * 5
    over(sandbox)
    sums = group_sums(client.details.of_user(OKONKWO))
    shown = [text for _label, text in sums]
    assert shown == ["at least 1", "at least 1", "at least 1", "unknown", "unknown"]


def test_the_command_shows_and_writes_the_same(client: Client, sandbox: Sandbox) -> None:
    over(sandbox)
    details = client.details.of_user(OKONKWO)
    table, written = io.StringIO(), io.StringIO()
    write_details(details, table, width=100)
    write_json(details, written)
    total = next(line for line in table.getvalue().splitlines() if line.startswith("Total"))
    assert re.split(" {2,}", total.strip()) == ["Total", "$46.34", "1+", "0+", "0+"]
    assert "+ means at least" in table.getvalue()
    made = json.loads(written.getvalue())
    assert (made["totals"], made["totals_at_least"]) == (None, {"out": 1, "overdue": 0, "lost": 0})
    assert (made["over_limit_count"], made["over_limit_count_at_least"]) == (None, 1)


def test_a_check_of_everybody_knows_only_that_somebody_is_over(client: Client, sandbox: Sandbox) -> None:
    def over_limit() -> object:
        stream = io.StringIO()
        write_check_json(client.checks.of_user(OKONKWO, all_members=True), stream)
        return json.loads(stream.getvalue())["over_limit"]

    assert over_limit() is None
    over(sandbox)
    assert over_limit() is True


def test_a_plan_counts_hidden_members_before_and_after(client: Client) -> None:
    draft = client.changes.propose(PlanRequest(Action.REMOVE, patrons=(DEBTOR,))).draft
    group = hooks.as_json(draft)["groups"][0]
    assert (group["before"]["member_count"], group["after"]["member_count"]) == (7, 6)
    assert Decimal(group["before"]["group_fines"]) - Decimal(group["after"]["group_fines"]) == Decimal("4.75")
    assert [planned.hidden_member_count for planned in draft.groups] == [1, 0], "nobody is hidden in a new group"
    stream = io.StringIO()
    write_draft(draft, stream)
    assert "Group 1001: 7 → 6 members, fines $45.09 → $40.34" in stream.getvalue()
