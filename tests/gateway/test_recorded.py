"""Answers recorded from a real Evergreen, replayed over real sockets."""

import json
from collections.abc import Iterator

import pytest
from support.gateway_server import TOKEN, Server, connect, http, raw
from support.recorded import (
    CURRENT,
    OLDER,
    body,
    exchanges,
    idl_of,
    is_call,
    method,
    named_exchanges,
    params,
    payload,
    release_of,
)

from evergreen_groups import errors
from evergreen_groups.gateway import TOKEN as TOKEN_PLACE
from evergreen_groups.gateway import Record, RetryPolicy
from evergreen_groups.gateway.call import dumps, loads
from evergreen_groups.gateway.idl import Idl
from evergreen_groups.gateway.record import decode, is_object
from evergreen_groups.gateway.transport import ANSWER_LIMIT

IDL = idl_of()

REFUSALS = [
    (errors.EventError, {"textcode": "LOGIN_FAILED", "number": 1000}, "auth-011 auth-012 auth-013 auth-016 auth-024"),
    (errors.EventError, {"textcode": "PATRON_CARD_INACTIVE", "number": 1216}, "auth-019"),
    (errors.EventError, {"textcode": "PATRON_INACTIVE", "number": 1217}, "auth-020"),
    (errors.EventError, {"textcode": "DATABASE_UPDATE_FAILED", "number": 2001},
     "patron-update-odd-006 patron-update-odd-012 patron-update-odd-029 3.12/penalty-apply-remove-008"),
    (errors.CollisionError, {"textcode": "XACT_COLLISION", "number": 1230}, "xact-collision-003 xact-collision-004"),
    (errors.NoSessionError, {"textcode": "NO_SESSION", "number": 1001},
     "auth-034 auth-042 auth-043 errors-028 errors-054 fielder-014 move-no-permission-013 pcrud-085 pcrud-148"),
    (errors.MethodNotFoundError, {"status": 404},
     "auth-026 errors-004 errors-005 errors-006 errors-021 pcrud-100 pcrud-113 pcrud-151 3.12/releases-059"),
    (errors.ServerError, {"status": 500},
     "errors-022 errors-025 fielder-013 patron-update-odd-028 patron-update-odd-032 pcrud-015 pcrud-152 pcrud-159"
     " 3.12/releases-001 3.12/releases-019"),
    (errors.TimedOutError, {"sent": True}, "auth-027 errors-034"),
    (errors.ServiceNotFoundError, {"sent": False, "service": "open-ils.nosuch"}, "errors-001"),
    (errors.ServiceNotFoundError, {"sent": False, "service": "open-ils.cstore"}, "errors-002"),
    (errors.ServiceNotFoundError, {}, "3.12/releases-060"),
    (errors.UnexpectedAnswerError, {},
     "errors-058 errors-059 errors-061 errors-062 fielder-011 pcrud-114 pcrud-115"),
    (errors.RecordNotFoundError, {"textcode": "ACTOR_CARD_NOT_FOUND", "number": 1589}, "errors-023 patrons-011"),
    (errors.RecordNotFoundError, {"textcode": "ACTOR_USER_NOT_FOUND", "number": 1002},
     "errors-029 3.12/penalty-apply-remove-009"),
    (errors.RecordNotFoundError, {"textcode": "ACTOR_USR_NOT_FOUND", "number": 0, "description": ""}, "patrons-051"),
    (errors.RecordNotFoundError, {"textcode": "CONFIG_STANDING_PENALTY_NOT_FOUND"}, "3.12/penalty-apply-remove-007"),
    (errors.PermissionDeniedError, {"permission": "VIEW_PERMISSION", "org_unit": 4, "number": 5000}, "auth-064"),
    (errors.PermissionDeniedError, {"permission": "VIEW_USER", "org_unit": 5, "number": 5000}, "errors-057"),
    (errors.PermissionDeniedError, {"permission": "VIEW_USER", "org_unit": 4}, "patrons-029"),
    (errors.PermissionDeniedError, {"permission": "VIEW_GROUP_PENALTY_THRESHOLD", "org_unit": 5}, "settings-024"),
    (errors.PermissionDeniedError, {"permission": "group_application.user.patron", "org_unit": 4},
     "move-no-permission-002 move-no-permission-008 move-no-permission-011"),
    (errors.PermissionDeniedError, {"permission": "UPDATE_USER", "org_unit": 7}, "move-no-permission-004"),
    (errors.PermissionDeniedError, {"permission": "UPDATE_USER", "org_unit": 4},
     "move-no-permission-010 penalties-update-028 usergroup-new-007 3.12/penalty-apply-remove-006"),
    (errors.PermissionDeniedError, {"permission": "UPDATE_USER"}, "3.12/penalty-apply-remove-014"),
]  # fmt: skip
"""What exactly one result raises, and with which attributes; all other exchanges return their value."""

REFUSED = {id: (kind, attributes) for kind, attributes, ids in REFUSALS for id in ids.split()}

NO_CALLS = {
    "errors-007",  # without a method
    "errors-012",  # with a parameter that isn't JSON
    "errors-013",
    "errors-037",  # in XML
    "errors-038",
    "errors-043",
    "errors-045",
    "errors-047",  # in a format that doesn't exist
    "idl-003",
    "idl-005",
    "idl-006",
}
"""Exchanges that the gateway doesn't send, or not as a call."""

ALL_FORMS = (
    "auth-040", "errors-060", "errors-064", "pcrud-116",  # text, letters outside ASCII, empty lists
    "pcrud-059", "pcrud-064", "pcrud-065", "pcrud-077", "pcrud-078",  # rare classes: mg, circ, aum …
    "pcrud-016", "pcrud-018", "pcrud-019", "pcrud-170", "patrons-037",  # nested objects
)  # fmt: skip
"""Recorded for their content."""


def test_what_is_a_call():
    assert {exchange_id for exchange_id in named_exchanges() if not is_call(exchange_id)} == NO_CALLS
    assert set(REFUSED) | set(ALL_FORMS) <= set(named_exchanges()) - NO_CALLS


def replay(exchange_id, expect="one"):
    """Repeat the call of an exchange with its recorded answer, and return the result."""
    exchange = exchanges()[exchange_id]
    response = exchange["response"]
    service = dict(map(tuple, exchange["form"]))["service"]
    sent = [TOKEN_PLACE if value == TOKEN else value for value in params(exchange_id)]
    answer = raw(http(body(exchange_id), status=response["http_status"], content_type=response["content_type"]))
    settings = {"token": TOKEN, "retries": RetryPolicy(tries=1)}
    with Server(otherwise=answer) as server, connect(server, **settings) as gateway:
        try:
            return gateway.call(service, method(exchange_id), *sent, expect=expect)
        finally:
            [request] = server.requests
            assert request.params == params(exchange_id)


@pytest.mark.parametrize("exchange_id", sorted(set(named_exchanges()) - NO_CALLS))
def test_each_gives_its_value_or_its_own_exception(exchange_id):
    if exchange_id in REFUSED:
        kind, attributes = REFUSED[exchange_id]
        with pytest.raises(errors.GatewayError) as caught:
            replay(exchange_id)
        assert type(caught.value) is kind
        assert {name: getattr(caught.value, name) for name in attributes} == attributes
        assert TOKEN not in caught.value.raw
        if kind is errors.UnexpectedAnswerError:  # another number of results than one
            assert plain(replay(exchange_id, "many").value) == payload(exchange_id)
    elif payload(exchange_id):
        [value] = payload(exchange_id)
        assert plain(replay(exchange_id).value) == value
    else:
        with pytest.raises(errors.UnexpectedAnswerError, match="no result"):
            replay(exchange_id)
        assert replay(exchange_id, "optional").value is None


def plain(value):
    """Return a result with floats, as Python's own JSON reader would."""
    return json.loads(dumps(value))


def objects(value) -> Iterator[dict]:
    """Yield every object in a value, including nested ones."""
    if isinstance(value, dict):
        if is_object(value):
            yield value
        for inner in value.values():
            yield from objects(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from objects(inner)


def recorded_objects(*, odd: bool) -> Iterator[dict]:
    """Yield every object of the current release. ``odd`` includes wrong values, sent to see the reaction."""
    for exchange_id, exchange in exchanges().items():
        if release_of(exchange_id) != CURRENT:
            continue
        sent = [value for name, value in exchange["form"] if name == "param"]
        if not odd and exchange_id.startswith("patron-update-odd-"):
            sent = []
        for text in [*sent, exchange["response"]["body"]]:
            try:
                value = loads(text)
            except ValueError:  # a web page, or a parameter that isn't JSON
                continue
            yield from objects(value)


TEXT_LINKS = {"name", "duration_rule", "recurring_fine_rule", "max_fine_rule"}
"""Fields that link to a class with a text key."""

OBJECTS = [value for value in recorded_objects(odd=True) if value["__c"] in IDL]


def test_every_object_comes_back_byte_for_byte():
    assert len(OBJECTS) > 700
    assert len({value["__c"] for value in OBJECTS}) >= 12
    for value in OBJECTS:
        if all(inner["__c"] in IDL for inner in objects(value)):
            assert dumps(decode(value, IDL).to_wire()) == dumps(value)


def test_every_field_has_the_type_that_the_idl_says():
    kinds = {"money": "Decimal", "float": "Decimal", "bool": "bool", "int": "int", "text": "str", "interval": "str"}
    for value in recorded_objects(odd=False):
        if value["__c"] not in IDL:
            continue
        record = Record(IDL[value["__c"]], value["__p"], IDL)
        for field in IDL[value["__c"]].fields:
            if any(inner["__c"] not in IDL for inner in objects(record.raw(field.name))):
                continue
            read = record[field.name]
            if read is None or isinstance(read, list | Record):
                continue
            wanted = kinds.get(field.datatype, "int")
            if field.datatype == "timestamp":
                wanted = "date" if field.name == "dob" else "datetime"
            elif field.datatype == "link" and field.name in TEXT_LINKS:
                wanted = "str"
            assert type(read).__name__ == wanted, (record.class_id, field.name)


def test_an_object_that_is_sent_back_changed_is_as_the_real_server_took_it():
    """move-fleshed-002 is move-fleshed-001 with another group and the flag. cuat and auact aren't in this IDL."""
    [fetched] = payload("move-fleshed-001")
    _token, accepted = params("move-fleshed-002")
    activity = IDL["au"].positions["usr_activity"]
    for value in (fetched, accepted):
        value["__p"][activity] = None
    assert decode(fetched, IDL).replace(usrgroup=6002).to_wire(changed=True) == accepted


def test_money():
    rows = decode(loads(body("pcrud-049"))["payload"][0], IDL)
    owed = {row.usr: str(row.balance_owed) for row in rows}
    assert (owed[5001], owed[5012]) == ("4.50", "-3.25")


def test_the_same_patrons_in_another_order_of_fields():
    """Every release has its own IDL: reading by name gives the same, reading by position doesn't."""
    older = idl_of(OLDER)
    there = decode(payload("3.12/pcrud-007")[0], older)
    here = decode(payload("pcrud-007")[0], IDL)
    assert [record.raw("name_kw_tsvector") for record in there] == [record.raw("name_kw_tsvector") for record in here]
    assert "name_kw_tsvector" in IDL["au"].positions
    assert older["au"].positions["name_kw_tsvector"] != IDL["au"].positions["name_kw_tsvector"]


@pytest.mark.parametrize(("exchange_id", "classes"), [("idl-003", 2), ("idl-005", 0)])
def test_an_idl_of_some_classes(exchange_id, classes):
    assert len(Idl.parse(body(exchange_id).encode())) == classes


def test_the_whole_idl_is_far_below_the_limit():
    assert exchanges()["idl-006"]["body_bytes"] == 1_143_518
    assert exchanges()["idl-006"]["body_bytes"] * 10 < ANSWER_LIMIT
