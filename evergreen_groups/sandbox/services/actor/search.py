"""Methods that find patrons, after ``OpenILS/Application/Actor.pm`` and ``Storage/Publisher/actor.pm``."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from evergreen_groups.sandbox.database import TO_WIRE, Row, Store, squash
from evergreen_groups.sandbox.services import (
    CallContext,
    Die,
    Editor,
    is_true,
    items,
    method,
    number,
    permission_failure,
    releases,
    setting_value,
    text,
)
from evergreen_groups.sandbox.services.actor.patrons import fleshed_user
from evergreen_groups.sandbox.services.actor.penalties import active_penalties

Test = Callable[[Row], bool]

_BROKEN = "Call to open-ils.storage failed with exception."
DIACRITICS_SETTING = "circ.patron_search.diacritic_insensitive"
_NAMES = ("prefix", "first_given_name", "second_given_name", "family_name", "suffix")
_KEYWORDS = (
    *("first_given_name", "second_given_name", "family_name", "pref_first_given_name", "pref_second_given_name"),
    *("pref_family_name", "prefix", "suffix", "pref_prefix", "pref_suffix", "name_keywords", "guardian"),
)
_PHONES = ("day_phone", "evening_phone", "other_phone")
_PHONE_SETTINGS = ("opac.default_phone", "opac.default_sms_notify")
_ASCII_SMALL = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
# Texts that mean the same as a regular expression and as a prefix for LIKE.
_PLAIN = re.compile(r"[A-Za-z0-9 '-]+")
_META = re.compile(r"([_%|*+\[\]()])")
_BIRTH_PARTS = {"dob_year": (0, 4), "dob_month": (5, 7), "dob_day": (8, 10)}


def _pattern(value: Any, *, anchored: bool = True) -> Callable[[Any], bool]:
    """Return a test of a field by a regular expression, with most special characters taken literally.

    Raises:
        Die: the regular expression is invalid.
    """
    cleaned = _META.sub(r"\\\1", text(value)).lower()
    try:
        expression = re.compile(("^" if anchored else "") + cleaned)
    except re.error:
        raise Die(_BROKEN) from None
    return lambda field: field is not None and expression.search(str(field).lower()) is not None


def _prefix(value: Any) -> Callable[[Any], bool]:
    prefix = squash(text(value))
    return lambda field: field is not None and squash(str(field)).startswith(prefix)


def _value(search: Mapping[str, Any], name: str) -> str:
    entry = search.get(name)
    return text(entry.get("value")) if isinstance(entry, dict) else ""


def _of_group(search: Mapping[str, Any], group: str) -> Iterator[tuple[str, Any]]:
    for name, entry in search.items():
        if isinstance(entry, dict) and text(entry.get("group")) == group:
            yield name, entry.get("value")


class PatronSearch:
    """The tests that a patron must pass; settings of the work org unit choose how names are compared."""

    def __init__(self, context: CallContext, search: Mapping[str, Any], work_org: int) -> None:
        self._store = store = context.store
        self._differences = context.differences
        setting = setting_value(store, DIACRITICS_SETTING, work_org)
        self._matcher = _prefix if setting is True or setting == 1 else _pattern
        # A name search can use the database's index if it is a plain prefix.
        self.prefixes = {
            name: text(value)
            for name, value in _of_group(search, "0")
            if self._matcher is _pattern and name in _NAMES and _PLAIN.fullmatch(text(value))
        }
        self.tests: list[Test] = [
            *self._user_tests(search),
            *self._birth_tests(search),
            *self._address_tests(search),
            *self._named_tests(search),
        ]

    def _user_tests(self, search: Mapping[str, Any]) -> Iterator[Test]:
        for name, value in _of_group(search, "0"):
            known = self._store.classes["au"].by_name.get(name)
            if known is None and releases.SEARCH_UNCHECKED not in self._differences:
                continue
            if known is None or known.virtual:
                raise Die(_BROKEN)
            fields = (name, f"pref_{name}") if name in _NAMES else (name,)
            yield _any_field(fields, self._matcher(value))

    def _birth_tests(self, search: Mapping[str, Any]) -> Iterator[Test]:
        for name, value in _of_group(search, "4"):
            if name not in _BIRTH_PARTS and releases.SEARCH_UNCHECKED in self._differences:
                raise Die(_BROKEN)
            if name in _BIRTH_PARTS:
                yield _birth_test(slice(*_BIRTH_PARTS[name]), _pattern(value, anchored=False))  # YYYY-MM-DD

    def _address_tests(self, search: Mapping[str, Any]) -> Iterator[Test]:
        known, given = self._store.classes["aua"].by_name, list(_of_group(search, "1"))
        if releases.SEARCH_UNCHECKED in self._differences and any(name not in known for name, _ in given):
            raise Die(_BROKEN)
        wanted = [(name, _pattern(value)) for name, value in given if name in known]
        if wanted:
            found = {row["id"] for row in self._store.rows("aua") if all(fits(row[name]) for name, fits in wanted)}
            yield lambda row: row["mailing_address"] in found or row["billing_address"] in found

    def _named_tests(self, search: Mapping[str, Any]) -> Iterator[Test]:
        profile = next((value for _, value in _of_group(search, "5")), None)
        if is_true(profile):
            profiles = set(self._store.profiles.descendants(int(number(profile))))
            yield lambda row: row["profile"] in profiles
        if card := _value(search, "card"):
            statement = "SELECT DISTINCT usr FROM ac WHERE substr(lower(barcode), 1, ?) = ?"
            found = {usr for (usr,) in self._store.read().execute(statement, [len(card), card.lower()])}
            yield lambda row: row["id"] in found
        if ident := _value(search, "ident"):
            yield _any_field(("ident_value", "ident_value2"), _pattern(ident))
        if phone := _value(search, "phone"):
            yield self._phone_test(phone)
        if name := _value(search, "name"):
            without_guardian = releases.GUARDIAN_NO_KEYWORD in self._differences
            yield _keyword_test(name, [field for field in _KEYWORDS if not (without_guardian and field == "guardian")])

    def _phone_test(self, phone: str) -> Test:
        digits_only = phone.isdecimal()
        fits = _pattern(phone)
        settings = [] if releases.PHONES_OF_PATRONS_ALONE in self._differences else list(_PHONE_SETTINGS)
        with_setting = {
            row["usr"]
            for row in self._store.rows("aus", {"name": settings})
            if fits(_digits(row["value"]) if digits_only else str(row["value"]).lstrip('"'))
        }

        def test(row: Row) -> bool:
            numbers = [row[name] for name in _PHONES if row[name] is not None]
            return row["id"] in with_setting or any(fits(_digits(value) if digits_only else value) for value in numbers)

        return test


def _digits(value: Any) -> str:
    return re.sub(r"\D", "", str(value))


def _any_field(names: tuple[str, ...], fits: Callable[[Any], bool]) -> Test:
    return lambda row: any(fits(row[name]) for name in names)


def _birth_test(part: slice, fits: Callable[[Any], bool]) -> Test:
    return lambda row: row["dob"] is not None and fits(row["dob"][part])


def _keyword_test(words: str, fields: Iterable[str]) -> Test:
    """Return a test that every word is a prefix of a word in the fields, or of a squashed field.

    The database lowercases ASCII only, so ``ñ`` doesn't find ``Ñ``; ``n`` finds both.
    """
    wanted = re.sub(r"[^\w\s.\-']", "", words).lower().split()

    def test(row: Row) -> bool:
        names = [str(row[name]) for name in fields if row[name]]
        present = [*re.split(r"[\s\-]+", " ".join(names).translate(_ASCII_SMALL)), *map(squash, names)]
        return all(any(word.startswith(prefix) for word in present) for prefix in wanted)

    return test


def _ordered(context: CallContext, rows: list[Row], sort: list[str]) -> list[Row]:
    """Sort rows by several fields, ignoring case; nulls come last in ascending and first in descending order."""
    store, known = context.store, context.classes["au"]
    by_penalties = "penalties" in sort or releases.ALWAYS_BY_PENALTIES in context.differences
    fields = [entry.split(" ") for entry in sort if entry != "penalties"]
    valid = "penalties" not in sort[1:] and all(name in known.by_name for name, *_ in fields)
    if releases.SEARCH_UNCHECKED in context.differences and not valid:
        raise Die(_BROKEN)
    for name, *direction in reversed([entry for entry in fields if entry and entry[0] in known.by_name]):
        if known.by_name[name].virtual:
            raise Die(_BROKEN)
        descending = bool(direction) and direction[0].lower().startswith("d")
        keys = {row["id"]: (row[name] is None, str(row[name]).lower()) for row in rows}
        rows = sorted(rows, key=lambda row: keys[row["id"]], reverse=descending)
    if by_penalties:
        counts = {row["id"]: len(active_penalties(store, row["id"])) for row in rows}
        rows = sorted(rows, key=lambda row: -counts[row["id"]])
    return rows


def _sort_fields(sort: Any) -> list[str]:
    if isinstance(sort, dict):
        raise Die("Not an ARRAY reference at OpenILS/Application/Storage/Publisher/actor.pm.")
    wanted = sort if isinstance(sort, list) else [sort]
    if not wanted or not is_true(wanted[0]):
        wanted = ["family_name", "first_given_name"]
    return [*(text(entry) for entry in wanted), "id"]


def _patrons(store: Store, org_units: list[int], prefixes: Mapping[str, str], *, inactive: bool) -> Iterator[Row]:
    """Yield the patrons of some home libraries whose names or preferred names start with ``prefixes``, ignoring case.

    A generator, because a large system has too many patrons to hold in memory.
    """
    columns = [(item.name, TO_WIRE[item.kind]) for item in store.classes["au"].columns]
    names = ", ".join(f'"{name}"' for name, _ in columns)
    marks = ", ".join("?" * len(org_units)) or "NULL"
    state = "" if inactive else " AND active"
    named = "".join(f" AND ({name} LIKE ? OR pref_{name} LIKE ?)" for name in prefixes)
    statement = (
        f"SELECT {names} FROM au WHERE NOT deleted AND +home_ou IN ({marks}){state}{named} ORDER BY _position, id"
    )
    parameters = [f"{prefix}%" for prefix in prefixes.values() for _ in range(2)]
    for values in store.read().execute(statement, [*org_units, *parameters]):
        yield {
            name: value if convert is None or value is None else convert(value)
            for (name, convert), value in zip(columns, values, strict=True)
        }


SERVICE = "open-ils.actor"
_DEPTH_SETTING = "circ.patron_edit.duplicate_patron_check_depth"


def _asks(search: Any) -> bool:
    """Return whether a search has any criteria.

    Raises:
        Die: an entry isn't a hash.
    """
    if not isinstance(search, dict):
        return False
    for entry in search.values():
        if entry is not None and not isinstance(entry, dict):
            raise Die('Can\'t use that value as a HASH ref while "strict refs" in use.')
    return any(entry is not None and text(entry.get("value")).strip() for entry in search.values())


class _Search(NamedTuple):
    """The parameters of the search methods, in order; ``fields`` is for the fleshed form."""

    token: Any = None
    wanted: Any = None
    limit: Any = None
    sort: Any = None
    inactive: Any = None
    org_unit: Any = None
    fields: Any = None
    offset: Any = None

    def run(self, editor: Editor) -> list[int] | None:
        """Return the ids of matching patrons at an org unit and below; None if the search has no known criteria.

        Raises:
            Die: the database rejects the search.
        """
        editor.require("VIEW_USER")
        store, work_org = editor.store, editor.session.work_org
        top_org = self.org_unit
        if top_org is None:
            depth = setting_value(store, _DEPTH_SETTING, work_org)
            top_org = None if depth is None else store.orgs.ancestor_at_depth(work_org, int(depth))
        search = PatronSearch(editor.context, self.wanted, work_org)
        tests = search.tests
        if not tests:
            return None
        top = int(text(top_org)) if text(top_org).isdecimal() and is_true(top_org) else work_org
        candidates = _patrons(store, store.orgs.descendants(top), search.prefixes, inactive=is_true(self.inactive))
        rows = [row for row in candidates if all(test(row) for test in tests)]
        begin = int(number(self.offset))
        count = int(number(self.limit)) if is_true(self.limit) else 1000
        if count < 0 or begin < 0:
            raise Die(_BROKEN)
        ordered = _ordered(editor.context, rows, _sort_fields(self.sort))
        return [row["id"] for row in ordered[begin : begin + count]]


@method(SERVICE, "open-ils.actor.patron.search.advanced")
def search(context: CallContext, *given: Any) -> list[str] | None:
    """Return the ids of matching patrons as text (``patrons-085``).

    An empty search returns an empty list before the session is checked.
    """
    call = _Search(*given[: len(_Search._fields)])
    if not _asks(call.wanted):
        return []
    found = call.run(Editor(context, call.token))
    return None if found is None else [str(user_id) for user_id in found]


@method(SERVICE, "open-ils.actor.patron.search.advanced.fleshed", streaming=True)
def search_fleshed(context: CallContext, *given: Any) -> Iterator[dict[str, Any]]:
    """Yield the matching patrons, with some fields fleshed."""
    call = _Search(*given[: len(_Search._fields)])
    if not _asks(call.wanted):
        return
    editor = Editor(context, call.token)
    for user_id in call.run(editor) or []:
        yield fleshed_user(editor, user_id, items(call.fields))


@method(SERVICE, "open-ils.actor.get_barcodes")
def barcodes(
    context: CallContext, token: Any = None, org_unit: Any = None, kind: Any = None, barcode: Any = None
) -> list[Any] | None:
    """Return the patrons with a barcode; an event replaces a patron whom the caller may not see.

    Evergreen also finds items, serials and booking resources; the sandbox has none.
    """
    editor = Editor(context, token)
    editor.require("STAFF_LOGIN", org_unit)
    if "actor" not in text(kind):
        return []
    found = []
    for card in [] if barcode is None else editor.store.rows("ac", {"barcode": text(barcode)}, order_by="usr"):
        user = editor.retrieve("au", card["usr"])
        if user["deleted"] == "t":
            continue
        if user["id"] == editor.user_id or editor.allowed("VIEW_USER", user["home_ou"]):
            found.append({"type": "actor", "id": user["id"], "barcode": card["barcode"]})
        else:
            found.append(permission_failure("VIEW_USER", str(user["home_ou"])).hash)
    return found or None
