"""What programs hand in: other types are refused where they come in, before anything is asked."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from support.fault_proxy import FaultProxy
from support.gateways import gateway_of
from support.states import state_in

from evergreen_groups import hooks
from evergreen_groups.audit import AuditCriteria
from evergreen_groups.changes import Action
from evergreen_groups.client import Client, connect
from evergreen_groups.errors import ArgumentError
from evergreen_groups.gateway import Credentials, Gateway
from evergreen_groups.groups import AdultRule
from evergreen_groups.hooks import Event, PlanRequest
from evergreen_groups.policy import Limit, LimitRule, decide
from evergreen_groups.report import Choice, Criteria
from evergreen_groups.settings import PolicySettings

CARD = "20000000001036"
NOT_MONEY: list[Any] = ["40", 40.0, 40, None, Decimal("NaN"), Decimal("Infinity")]
NOT_TEXTS: list[Any] = [CARD, b"2", 1036, [1036.0], None, {CARD: 1}]


@pytest.mark.parametrize("amount", NOT_MONEY)
def test_money(amount: Any) -> None:
    makers: list[Callable[[], object]] = [lambda: Criteria(min_total=amount), lambda: decide(amount, Limit())]
    if amount is not None:  # which is no limit
        makers.append(lambda: LimitRule(None, None, amount))
    for make in makers:
        with pytest.raises(ArgumentError, match="an amount of money, as Decimal"):
            make()


@pytest.mark.parametrize("amount", [5, "5", "5.00", Decimal(5)])
def test_a_limit_takes_an_amount_in_all_its_forms(amount: Any) -> None:
    assert Limit(amount) == Limit()
    assert str(Limit(amount).amount) == "5.00"
    assert Limit(None).amount is None


@pytest.mark.parametrize("amount", [5.0, True, "five", b"5", Decimal("NaN"), Decimal("Infinity"), Decimal("5.001")])
def test_a_limit_of_something_else_is_refused(amount: Any) -> None:
    with pytest.raises(ArgumentError, match="amount takes an amount of money"):
        Limit(amount)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Criteria(min_members="2"),  # type: ignore[arg-type]
        lambda: Criteria(orgs="BR1"),  # type: ignore[arg-type]
        lambda: Criteria(top="10"),  # type: ignore[arg-type]
        lambda: Criteria(limit=Decimal("5.00")),  # type: ignore[arg-type]
        lambda: Criteria(details="no"),  # type: ignore[arg-type]
        lambda: Choice(kinds="lost"),  # type: ignore[arg-type]
        lambda: Choice(owing_since="30"),  # type: ignore[arg-type]
        lambda: Choice(blocked=1),  # type: ignore[arg-type]
        lambda: AuditCriteria(orgs="BR1"),  # type: ignore[arg-type]
        lambda: Event("1", "hook", 1036),  # type: ignore[arg-type]
        lambda: Event(1, "hook", "1036"),  # type: ignore[arg-type]
        lambda: PlanRequest(Action.MOVE, CARD, CARD).checked(),  # type: ignore[arg-type]
        lambda: PlanRequest("move", (CARD,), CARD).checked(),  # type: ignore[arg-type]
        lambda: PlanRequest(Action.MOVE, (True,), CARD).checked(),
        lambda: Gateway(b"https://ils.example.org"),  # type: ignore[arg-type]
        lambda: Gateway("https://ils.example.org", timeout="60"),  # type: ignore[arg-type]
        lambda: Gateway("https://ils.example.org", concurrency=2.0),  # type: ignore[arg-type]
        lambda: Gateway("https://ils.example.org", credentials=("name", "password")),  # type: ignore[arg-type]
        lambda: hooks.as_json({"a": 1}),  # type: ignore[arg-type]
        lambda: connect(config=5),  # type: ignore[arg-type]
        lambda: connect(config="a\0b"),
        lambda: connect("https://ils.example.org", username="name", password="password", state=5),  # type: ignore[arg-type]
    ],
)
def test_other_types(make: Callable[[], object]) -> None:
    with pytest.raises(ArgumentError) as refused:
        make()
    assert isinstance(refused.value, TypeError)
    assert refused.value.code == "wrong-argument"


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: Criteria(top=-1), "top takes a whole number of 1 or more, not a lower one"),
        (lambda: Criteria(top=0), "top takes a whole number of 1 or more"),
        (lambda: Criteria(min_members=-1), "min_members takes a whole number of 1 or more"),
        (lambda: Criteria(age_bands=(90, 30)), "age_bands takes ascending numbers of days"),
        (lambda: Criteria(age_bands=(0,)), "age_bands takes a whole number of 1 or more"),
        (lambda: Choice(owing_since=-1), "owing_since takes a whole number of 1 or more"),
        (lambda: AuditCriteria(top=-1), "top takes a whole number of 1 or more"),
        (lambda: AdultRule(most=-1), "most takes a whole number of 0 or more"),
    ],
)
def test_impossible_values(make: Callable[[], object], expected: str) -> None:
    with pytest.raises(ArgumentError, match=expected):
        make()


def test_before_anything_is_asked(proxy: FaultProxy, tmp_path: Path) -> None:
    with gateway_of(proxy.url, "consortium_staff") as gateway:
        client = Client(gateway, account="consortium_staff", state=state_in(tmp_path / "state"))
        pcrud: Any = gateway.pcrud
        untyped: Any = client
        calls: list[Callable[[], object]] = [
            *((lambda texts=texts: untyped.move(texts, to=CARD)) for texts in NOT_TEXTS),
            *((lambda texts=texts: untyped.remove(texts)) for texts in NOT_TEXTS),
            lambda: untyped.move([CARD], to=1036.0),
            lambda: untyped.merge([CARD], to=CARD),
            lambda: untyped.set_lead([CARD]),
            lambda: untyped.undo(1),
            lambda: untyped.group(1036.0),
            lambda: untyped.group(CARD, number=1009),
            lambda: untyped.group(),
            lambda: untyped.check(1036.0),
            lambda: untyped.recalculate(CARD),
            lambda: untyped.report(min_total=25.0),
            lambda: untyped.report(libraries="BR1"),
            lambda: untyped.report(top=-1),
            lambda: untyped.report(min_members=0),
            lambda: untyped.details.of_user("1036"),
            lambda: untyped.details.of_user(True),
            lambda: untyped.details.of_group("1009"),
            lambda: untyped.details.of_barcode(20000000001036),
            lambda: untyped.checks.of_user("1036"),
            lambda: untyped.checks.of_barcode([CARD]),
            lambda: untyped.bills.of_user("1036"),
            lambda: untyped.bills.of_user(1036, titles="all"),
            lambda: untyped.explanations.of_user("1036"),
            lambda: untyped.patrons.find(1036),
            lambda: untyped.patrons.named(None),
            lambda: untyped.patrons.names("1036"),
            lambda: untyped.report(AuditCriteria()),
            lambda: untyped.audit(Criteria()),
            *((lambda file=file: untyped.batch(file)) for file in (5, "a\0b", Path("a\0b"), "\ud800")),
            lambda: untyped.keep_groups("1009"),
            lambda: untyped.list_groups_again(["1009"]),
            *(
                (lambda hook=hook: hook(client, "1036"))
                for hook in (hooks.patron_summary, hooks.group_details, hooks.group_bills, hooks.block_decision)
            ),
            lambda: hooks.group_summary(untyped, "1009"),  # type: ignore[arg-type]
            lambda: hooks.block_decision_by_barcode(client, 1036),  # type: ignore[arg-type]
            lambda: hooks.propose_plan(client, {"action": "move"}),  # type: ignore[arg-type]
            lambda: hooks.apply_plan(client, 7, "key"),  # type: ignore[arg-type]
            lambda: hooks.undo_change(client, 7, "key"),  # type: ignore[arg-type]
            lambda: hooks.change(client, 7),  # type: ignore[arg-type]
            lambda: hooks.own_change(client, 7),  # type: ignore[arg-type]
            lambda: pcrud.search("au", {"deleted": False}),
            lambda: pcrud.search("au", "usrgroup"),
            lambda: pcrud.search("au", None),
            lambda: pcrud.search_columns("au", ["id"], None),
            lambda: pcrud.id_list("au", None),
            lambda: pcrud.count("au", None),
            lambda: pcrud.search("au", {"id": 1036}, select="id"),
            lambda: pcrud.search("au", {"id": 1036}, limit="10"),
            lambda: pcrud.search("au", {"id": 1036}, limit=None),
            lambda: pcrud.search("au", {"id": 1036}, limit=-1),
            lambda: pcrud.id_list("au", {"id": 1036}, limit=None),
            lambda: pcrud.search_columns("au", "id", {"id": 1036}),
            lambda: pcrud.retrieve("au", 1036.0),
            lambda: list(pcrud.by_values("ac", "barcode", CARD)),
            lambda: list(pcrud.by_values("ac", "barcode", None)),
            lambda: list(pcrud.pages("au", {"id": 1}, select="id")),
            lambda: gateway.call("open-ils.actor", None),  # type: ignore[arg-type]
            lambda: gateway.within("5"),  # type: ignore[arg-type]
            lambda: gateway.acting_as(None),  # type: ignore[arg-type]
            lambda: Client("https://ils.example.org", account="me"),  # type: ignore[arg-type]
            lambda: Client(gateway, account=None),  # type: ignore[arg-type]
        ]
        for place, call in enumerate(calls):
            with pytest.raises(ArgumentError) as refused:
                call()
            assert CARD not in str(refused.value)
            assert (place, proxy.seen) == (place, [])


def test_a_client_shows_no_secret_and_closes_what_it_opened(
    proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    password = "one-nobody-sees"
    with Gateway(proxy.url, credentials=Credentials(username="consortium_staff", password=password)) as gateway:
        assert repr(gateway) == f"Gateway({proxy.url!r})"
        assert repr(gateway.acting_as("0123456789abcdef0123456789abcdef")) == repr(gateway)
        with Client(gateway, account="groups_report") as client:
            assert repr(client) == f"Client({gateway!r}, account='groups_report')"
            assert client.changes.entries() == []
            assert client.state._database is not None
        assert client.state._database is None
        with state_in(tmp_path / "given") as state:
            with Client(gateway, account="groups_report", state=state) as other:
                assert other.changes.entries() == []
            assert state._database is not None  # its owner's affair
        assert proxy.seen == []


def test_a_sort_order_that_there_is_not_is_of_the_right_type() -> None:
    with pytest.raises(ArgumentError, match=r"^sort takes one of .* library, not another text$"):
        Criteria(sort="totals")


@pytest.mark.parametrize("limit", ["5.00", 5, 5.0, Decimal("NaN")])
def test_a_limit_of_another_type_is_refused(limit: Any) -> None:
    with pytest.raises(ArgumentError, match="limit takes an amount of money, as Decimal"):
        PolicySettings(limit=limit)
