"""Records: decoding, encoding, and wire values that don't fit their field."""

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from support.gateway_server import Server, connect, http, raw, results
from support.gateways import gateway_of
from support.recorded import idl_bytes, idl_of

from evergreen_groups.errors import DataError
from evergreen_groups.gateway import Record
from evergreen_groups.gateway.record import whole_number
from evergreen_groups.ils import OrgUnits, Profiles
from evergreen_groups.sandbox import Sandbox

IDL = idl_of()


def record(class_id, **fields):
    """A record with these wire values, as if received."""
    known = IDL[class_id]
    values = [None] * len(known.fields)
    for name, value in fields.items():
        values[known.positions[name]] = value
    return Record(known, values, IDL)


class TestReading:
    @pytest.mark.parametrize(
        ("class_id", "field", "wire", "value"),
        [
            ("mous", "balance_owed", "4.50", Decimal("4.50")),
            ("mous", "balance_owed", "0.0", Decimal("0.00")),
            ("mous", "balance_owed", "-3.25", Decimal("-3.25")),
            ("mous", "balance_owed", 5, Decimal("5.00")),
            ("mous", "balance_owed", Decimal("4.5"), Decimal("4.50")),
            ("mous", "usr", 5001, 5001),
            ("au", "id", "5001", 5001),
            ("au", "usrgroup", "247", 247),
            ("au", "usrgroup", -5, -5),
            ("au", "home_ou", 4, 4),
            ("au", "card", "0815", "0815"),
            ("aus", "name", "opac.hold_notify", "opac.hold_notify"),
            ("au", "active", "t", True),
            ("au", "active", "f", False),
            ("au", "active", 1, True),
            ("au", "active", "0", False),
            ("au", "active", True, True),
            ("au", "family_name", "Ñandú", "Ñandú"),
            ("au", "family_name", 4711, "4711"),
            ("au", "dob", "1979-01-22", date(1979, 1, 22)),
            ("au", "create_date", "2026-11-24T22:24:11+0000", datetime(2026, 11, 24, 22, 24, 11, tzinfo=UTC)),
            (
                "au",
                "create_date",
                "2026-11-24T22:24:11.5-0430",
                datetime(2026, 11, 24, 22, 24, 11, 500_000, tzinfo=timezone(-timedelta(hours=4, minutes=30))),
            ),
            ("pgpt", "threshold", "10.00", Decimal("10.00")),
            ("circ", "duration", "14 days", "14 days"),
            ("au", "family_name", None, None),
            ("mous", "balance_owed", None, None),
            ("au", "active", None, None),
        ],
    )
    def test_real_types(self, class_id, field, wire, value):
        read = record(class_id, **{field: wire})
        for got in (getattr(read, field), read[field]):
            assert got == value
            assert type(got) is type(value)
            assert str(got) == str(value)
        assert read.raw(field) is wire

    @pytest.mark.parametrize(
        ("class_id", "field", "wire"),
        [
            ("mous", "balance_owed", "much"),
            ("mous", "balance_owed", "NaN"),
            ("mous", "balance_owed", "1E+99"),
            ("mous", "balance_owed", ""),
            *(
                ("mous", "balance_owed", wire)
                for wire in (True, False, {}, [], " 5 ", "1_0", "\u0663", "5,00", "0x10", "1e400")
            ),
            ("au", "active", "yes"),
            ("au", "active", 2),
            ("au", "usrgroup", "abc"),
            ("au", "usrgroup", "1.0"),
            ("au", "usrgroup", "9" * 21),
            ("au", "id", "9" * 21),
            ("au", "create_date", "yesterday"),
            ("au", "create_date", "2026-11-24T22:24:11"),
            ("au", "create_date", 20261124),
            ("pgpt", "threshold", "high"),
            ("pgpt", "threshold", "1e400"),
            ("pgpt", "threshold", "9" * 400),
        ],
    )
    def test_values_that_cannot_be(self, class_id, field, wire):
        with pytest.raises(DataError, match=f"{class_id}.{field} has a wrong value") as caught:
            getattr(record(class_id, **{field: wire}), field)
        assert str(wire) not in str(caught.value) or wire in ("", 2)

    def test_a_field_that_was_not_sent(self):
        short = Record(IDL["au"], [None] * 28 + [5001], IDL)
        assert short.id == 5001
        assert short.usrgroup is None
        assert short.raw("usrgroup") is None

    def test_unknown_fields(self):
        read = record("ac", id=1)
        for ask in (lambda: read.nonesuch, lambda: read.raw("nonesuch"), lambda: read.replace(nonesuch=1)):
            with pytest.raises(AttributeError, match="class ac has no field nonesuch"):
                ask()
        with pytest.raises(KeyError, match="nonesuch"):
            _ = read["nonesuch"]
        assert not hasattr(read, "_private")

    def test_flags_can_be_read(self):
        sent = Record(IDL["ac"], ["t", "1", 2, 3, None, 1, "f"], IDL)
        assert (sent.isnew, sent.ischanged, sent["isdeleted"]) == (None, True, False)

    def test_fleshed_fields(self):
        card = {"__c": "ac", "__p": ["t", "2999", 7, 5001]}
        patron = record("au", card=card, cards=[card, card], addresses=[])
        assert patron.card.barcode == "2999"
        assert [one.id for one in patron.cards] == [7, 7]
        assert patron.addresses == []
        assert patron.raw("card") is card

    def test_a_fleshed_object_of_an_unknown_class(self):
        with pytest.raises(DataError, match="no class zzz"):
            _ = record("au", card={"__c": "zzz", "__p": []}).card

    def test_records_cannot_be_changed(self):
        read = record("ac", id=1)
        with pytest.raises(AttributeError, match="replace"):
            read.id = 2
        with pytest.raises(AttributeError, match="replace"):
            del read.id
        assert read.id == 1

    def test_equality_and_hash(self):
        assert record("ac", id=1) == record("ac", id=1)
        assert record("ac", id=1) != record("ac", id=2)
        assert record("ac", id=1) != {"id": 1}
        assert len({record("ac", id=1), record("ac", id=1), record("ac", id=2), record("aus", id=1)}) == 3

    def test_repr_shows_no_patron_data(self):
        assert repr(record("au", id=5001, family_name="Ñandú")) == "Record(au 5001)"
        assert repr(record("au", id=None)) == "Record(au ?)"


class TestWriting:
    def test_replaced_fields_alone_differ(self):
        before = record("au", id=5001, usrgroup=6001, family_name="X")
        after = before.replace(usrgroup=6002)
        assert (before.usrgroup, after.usrgroup) == (6001, 6002)
        differing = [
            i
            for i, pair in enumerate(zip(before.to_wire()["__p"], after.to_wire()["__p"], strict=True))
            if pair[0] != pair[1]
        ]
        assert differing == [IDL["au"].positions["usrgroup"]]

    @pytest.mark.parametrize(
        ("class_id", "field", "value", "wire"),
        [
            ("au", "active", True, "t"),
            ("au", "active", False, "f"),
            ("mous", "balance_owed", Decimal("4.5"), "4.50"),
            ("pgpt", "threshold", Decimal("4.5"), "4.5"),
            ("au", "dob", date(1979, 1, 22), "1979-01-22"),
            ("au", "create_date", datetime(2026, 11, 24, 22, 24, 11, tzinfo=UTC), "2026-11-24T22:24:11+0000"),
            ("au", "usrgroup", 6002, 6002),
            ("au", "family_name", "Ñandú", "Ñandú"),
            ("au", "passwd", None, None),
        ],
    )
    def test_encoding(self, class_id, field, value, wire):
        changed = record(class_id).replace(**{field: value})
        assert changed.raw(field) == wire
        assert type(changed.raw(field)) is type(wire)
        assert getattr(changed, field) == value

    def test_nested_records_both_ways(self):
        card = record("ac", id=7, barcode="2999")
        patron = record("au", id=1).replace(card=card, cards=[card])
        assert patron.card == card
        assert patron.cards == [card]
        assert patron.to_wire()["__p"][IDL["au"].positions["card"]] == card.to_wire()

    @pytest.mark.parametrize("value", [1.5, object(), {"a": 1}, b"x", datetime(2026, 1, 1)])  # noqa: DTZ001
    def test_what_cannot_be_encoded(self, value):
        with pytest.raises(TypeError):
            record("au").replace(family_name=value)

    def test_a_short_record_is_filled_up(self):
        short = Record(IDL["au"], [None] * 28 + [5001], IDL)
        assert short.replace(usrgroup=6002).to_wire()["__p"] == [None] * 28 + [5001] + [None] * 17 + [6002]
        assert len(short.to_wire()["__p"]) == 29
        assert short.to_wire(full=True)["__p"] == [None] * 28 + [5001] + [None] * 48

    def test_marked_as_changed_with_nested_objects_filled_up(self):
        """Equal to objects that a real server accepted (move-fleshed-002)."""
        patron = record("au", id=5001, card={"__c": "ac", "__p": ["t", "2999", 7]}, cards=[{"__c": "ac", "__p": []}])
        values = patron.to_wire(changed=True)["__p"]
        assert values[74:] == [None, 1, None]
        assert values[IDL["au"].positions["card"]] == {"__c": "ac", "__p": ["t", "2999", 7, None, None, None, None]}
        assert values[IDL["au"].positions["cards"]] == [{"__c": "ac", "__p": [None] * 7}]
        assert patron.to_wire()["__p"][IDL["au"].positions["card"]] == {"__c": "ac", "__p": ["t", "2999", 7]}

    def test_unknown_values_at_the_end_are_kept(self):
        odd = Record(IDL["ac"], ["t", "2999", 7, 5001, None, None, None, "new"], IDL)
        assert odd.replace(barcode="3000").to_wire(full=True)["__p"] == ["t", "3000", 7, 5001, None, None, None, "new"]

    @pytest.mark.parametrize("extra", [[None, None, None, "new"], ["new"], [None, "new field"], [7]])
    def test_unknown_values_are_not_overwritten_by_the_mark(self, extra):
        with pytest.raises(DataError, match="fields that the IDL lacks"):
            Record(IDL["ac"], ["t", "2999", 7, 5001, *extra], IDL).to_wire(changed=True)

    def test_flags_that_came_are_kept(self):
        sent = Record(IDL["ac"], ["t", "2999", 7, 5001, 1], IDL)
        assert sent.to_wire(changed=True)["__p"][4:] == [1, 1, None]


class TestThroughTheGateway:
    def idl_server(self, *bodies):
        idl = idl_bytes()
        answers = iter(bodies)
        return Server(
            otherwise=lambda line, request: (raw(http(idl)) if request.method == "GET" else next(answers))(
                line, request
            )
        )

    def test_decode_gets_the_classes_it_needs(self):
        card = {"__c": "ac", "__p": ["t", "2999", 7, 5001]}
        value = {"patrons": [{"__c": "au", "__p": [[], [card]]}], "total": 1}
        with self.idl_server(results(value)) as server, connect(server) as gateway:
            decoded = gateway.decode(gateway.call("a", "a.b").value)
            assert server.requests[1].path == "/reports/fm_IDL.xml?class=ac&class=au"
            assert decoded["patrons"][0].cards[0].barcode == "2999"
            assert decoded["total"] == 1

    def test_values_without_objects_need_no_idl(self):
        with Server() as server, connect(server) as gateway:
            assert gateway.decode([1, {"a": "b"}, None]) == [1, {"a": "b"}, None]
            assert server.requests == []

    def test_a_record_sent_is_filled_up(self):
        with self.idl_server(results(1)) as server, connect(server) as gateway:
            [read] = gateway.decode([{"__c": "ac", "__p": ["t"]}])
            gateway.call("a", "a.b", read, {"inside": [read]})
            full = {"__c": "ac", "__p": ["t"] + [None] * 6}
            assert server.requests[-1].params == [full, {"inside": [full]}]


@pytest.mark.parametrize(
    ("value", "number"), [("-9223372036854775808", -(2**63)), ("9" * 21, None), ("9" * 5000, None)]
)
def test_no_whole_number_is_longer_than_the_databases(value: str, number: int | None) -> None:
    assert whole_number(value) == number


@pytest.mark.parametrize("most", [1, 3, 8, 1000])
@pytest.mark.parametrize("class_id", ["aou", "pgt", "csp", "pgpt"])
def test_more_rows_than_one_answer_has(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, class_id: str, most: int
) -> None:
    monkeypatch.setattr("evergreen_groups.gateway.pcrud.MOST_ROWS", most)
    with gateway_of(sandbox.url, "consortium_staff") as gateway:
        found = [id for (id,) in gateway.pcrud.all_columns(class_id, ("id",))]
        assert len(list(OrgUnits.read(gateway))) == len(sandbox._store.rows("aou"))
        assert len(list(Profiles.read(gateway))) == len(sandbox._store.rows("pgt"))
    assert found == sorted(row["id"] for row in sandbox._store.rows(class_id))
    assert found
