"""A minimal client for the desk's tasks: only ``http.client``, and nothing of this package.

Each task sends the fewest calls that it needs, in sequence or in parallel as required: a group's members come before
their balances, because only then their ids are known. Connections are kept alike browsers' connections. Responses are
checked, so that an error doesn't count as a fast response.
"""

import http.client
import json
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import quote, urlencode, urlsplit
from xml.etree import ElementTree

Call = tuple[str, ...]
"""Service, method and parameters; the last as JSON."""

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
_PCRUD, _ACTOR = "open-ils.pcrud", "open-ils.actor"
_NAMES = ("family_name", "first_given_name", "second_given_name", "suffix")
_PERSON = [
    *("id", "usrgroup", "home_ou", "profile", "card", "master_account", "active", "barred", "juvenile", "expire_date"),
    *_NAMES,
    *(f"pref_{name}" for name in _NAMES),
    *("dob", "deleted"),
]
_CONTACT = ("mailing_address", "billing_address", "day_phone", "evening_phone", "other_phone", "email", "create_date")


@dataclass(frozen=True)
class Family:
    """A group of a few patrons, with members by id."""

    group: int
    members: tuple[int, ...]


@cache
def fields_of(url: str, class_id: str) -> dict[str, int]:
    """Return the index of each field in a class's wire arrays, from the server's IDL."""
    connection = _connection(url)
    connection.request("GET", "/reports/fm_IDL.xml")
    root = ElementTree.fromstring(connection.getresponse().read())
    space = root.tag.partition("}")[0] + "}"
    found = next(each for each in root.iter(f"{space}class") if each.get("id") == class_id)
    return {str(each.get("name")): index for index, each in enumerate(found.iter(f"{space}field"))}


def log_in(url: str, account: str, password: str) -> str:
    """Return a session token; the session is left to time out."""
    arguments = {"username": account, "password": password, "type": "staff"}
    event = BareDesk(url, "").ask(("open-ils.auth", "open-ils.auth.login", json.dumps(arguments)))[0]
    return str(event[0]["payload"]["authtoken"])


def families(url: str, token: str, count: int, *, above: int = 0) -> list[Family]:
    """Return groups of three to eight visible members: so many, or all among the first 200,000 ids."""
    desk, last = BareDesk(url, token), above
    found: dict[int, Family] = {}
    for _ in range(100):
        rows = desk.members({"id": {">": last}, "deleted": "f"}, 2000)
        last = max((patron for patron, _group in rows), default=last)
        several = sorted({group for group, times in Counter(group for _, group in rows).items() if times > 1})
        for start in range(0, len(several), 200):
            # Some members may have much higher ids: a child is registered years after the mother.
            whole: dict[int, list[int]] = {}
            for patron, group in desk.members({"usrgroup": several[start : start + 200], "deleted": "f"}, 10_000):
                whole.setdefault(group, []).append(patron)
            found |= {group: Family(group, tuple(ids)) for group, ids in whole.items() if 3 <= len(ids) <= 8}
        if len(rows) < 2000 or len(found) >= count:
            break
    return list(found.values())[:count]


@dataclass
class Desk:
    """A client with a session, and a connection for each of its parallel requests."""

    url: str
    token: str
    connections: list[http.client.HTTPConnection] = field(default_factory=list)

    def send(self, *requests: tuple[str, str, str | None, dict[str, str]]) -> list[tuple[int, bytes]]:
        """Send requests (method, path, body, headers) in parallel; returns the status and the body of each response."""
        while len(self.connections) < len(requests):
            self.connections.append(_connection(self.url))
        used = self.connections[: len(requests)]
        for connection, request in zip(used, requests, strict=True):
            connection.request(*request)
        answers = [connection.getresponse() for connection in used]
        return [(answer.status, answer.read()) for answer in answers]

    def close(self) -> None:
        for connection in self.connections:
            connection.close()


class BareDesk(Desk):
    def ask(self, *calls: Call) -> list[Any]:
        """Return the payloads of calls made in parallel, each over its own connection."""
        requests = []
        for service, method, *params in calls:
            pairs = [("service", service), ("method", method), *(("param", param) for param in params)]
            body = urlencode(pairs, quote_via=quote)  # the gateway doesn't decode a plus sign to a space
            requests.append(("POST", "/osrf-gateway-v1", body, FORM))
        payloads = []
        for (status, content), (_service, method, *_params) in zip(self.send(*requests), calls, strict=True):
            said = json.loads(content)
            assert (status, said["status"]) == (200, 200), f"{method}: {status} {said['status']}"
            payloads.append(said["payload"])
        return payloads

    def search(self, class_id: str, where: object, how: object) -> Call:
        """Return the call of a search that returns one list."""
        return (_PCRUD, f"{_PCRUD}.search.{class_id}.atomic", *map(json.dumps, (self.token, where, how)))

    def members(self, where: object, most: int) -> list[tuple[int, int]]:
        """Read patrons and their groups, in order of id."""
        indexes = fields_of(self.url, "au")
        how = {"select": {"au": ["id", "usrgroup"]}, "order_by": {"au": "id"}, "limit": most}
        rows = self.ask(self.search("au", where, how))[0][0]
        return [(row["__p"][indexes["id"]], row["__p"][indexes["usrgroup"]]) for row in rows]

    def summary(self, family: Family) -> None:
        """Read what the panel shows: the members with their penalties and balances."""
        self._members(family)
        self._owes(family, self.ask(self._owed(family))[0])

    panel = summary

    def page(self, family: Family) -> None:
        """Read what the list shows; balances and checkouts are read in parallel."""
        self._members(family)
        fields = ["id", "usr", "stop_fines", "due_date", "fine_interval", "xact_finish"]
        where = {"checkin_time": None, "usr": list(family.members)}
        out = self.search("circ", where, {"select": {"circ": fields}, "limit": 8004})
        owed, _circulations = self.ask(self._owed(family), out)
        self._owes(family, owed)

    def plan(self, family: Family) -> None:
        """Read what a plan to remove the last member needs: both groups, their members, home libraries and balances."""
        of_the_group = {"select": {"au": ["id"]}, "from": "au", "where": {"usrgroup": family.group, "deleted": "f"}}
        where = {"-or": [{"id": family.members[-1]}, {"id": {"in": of_the_group}}]}
        self._found(family, where, {"select": {"au": [*_PERSON, *_CONTACT]}, "order_by": {"au": "id"}}, ["cards"])
        addresses = {"select": {"aua": ["id", "usr", "street1", "post_code"]}, "limit": 1000}
        listed = (_ACTOR, f"{_ACTOR}.usergroup.members.retrieve", json.dumps(self.token), json.dumps([family.group]))
        calls = (self._owed(family), self.search("aua", {"usr": list(family.members)}, addresses), listed)
        self._owes(family, self.ask(*calls)[0])

    def _members(self, family: Family) -> None:
        group = {"select": {"au": ["usrgroup"]}, "from": "au", "where": {"id": family.members[0]}}
        where = {"usrgroup": {"in": group}, "deleted": "f"}
        self._found(family, where, {"select": {"au": _PERSON}}, ["card", "standing_penalties"])

    def _found(self, family: Family, where: object, how: dict[str, Any], fleshed: list[str]) -> None:
        search = self.search("au", where, {**how, "flesh": 1, "flesh_fields": {"au": fleshed}})
        rows = self.ask(search)[0][0]
        assert len(rows) == len(family.members), f"{len(rows)} of {len(family.members)} members"

    def _owed(self, family: Family) -> Call:
        return self.search("mous", {"usr": list(family.members)}, {"select": {"mous": ["usr", "balance_owed"]}})

    def _owes(self, family: Family, payload: Any) -> None:
        index = fields_of(self.url, "mous")["usr"]
        assert {row["__p"][index] for row in payload[0]} <= set(family.members)


def _connection(url: str) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.hostname or "", parts.port, timeout=60)
