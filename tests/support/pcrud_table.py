"""A server whose pcrud has one class, made for a test."""

import json
import operator
import threading

from support.gateway_server import TOKEN, envelope, http, raw, results
from support.recorded import idl_bytes, idl_of

from evergreen_groups.gateway.pcrud import NEVER_NULL

IDL = idl_bytes()


class Table:
    """A class with rows, searched like in pcrud: conditions on one field each, order, limit, offset."""

    def __init__(self, class_id, key, rows, padding=0):
        self.class_id, self.key, self.rows, self.padding = class_id, key, rows, padding
        self.searches, self.sizes, self.lock = [], [], threading.Lock()
        self.position = {"au": {"id": 28, "usrgroup": 46}, "mous": {"usr": 3}}[class_id]

    def __call__(self, line, request):
        if request.method == "GET":
            raw(http(IDL))(line, request)
            return
        if request.osrf_method == "open-ils.pcrud.count.aou":  # checks whether this release has the method
            results(1)(line, request)
            return
        assert request.osrf_method == f"open-ils.pcrud.search.{self.class_id}.atomic"
        assert len(request.body) < 32_000
        token, where, options = request.params
        assert token == TOKEN
        assert options["limit"] > 0
        assert "offset" not in options  # pages start after a key: an offset would skip a row for each deleted one
        found = self.rows
        for condition in where.get("-and", [where]):
            found = self.meeting(found, condition)
        found = sorted(found, key=lambda row: row[self.key])
        if "desc" in json.dumps(options["order_by"]):
            found = found[::-1]
        body = envelope([self.wire(row, options) for row in found[: options["limit"]]])
        with self.lock:
            self.searches.append((where, options))
            self.sizes.append(len(body))
        raw(http(body))(line, request)

    def meeting(self, rows, condition):
        [(field, test)] = condition.items()
        if isinstance(test, list):
            assert 0 < len(test) <= 3000
            wanted = set(test)
            return [row for row in rows if row[field] in wanted]
        [(sign, bound)] = test.items()
        compare = {">": operator.gt, ">=": operator.ge, "<=": operator.le, "<>": operator.ne}[sign]
        return [row for row in rows if compare(row[field], bound)]

    def wire(self, row, options):
        known = idl_of()[self.class_id]
        values = [1 if field.name in NEVER_NULL[self.class_id] else None for field in known.fields]
        values[known.field({"au": "suffix", "mous": "total_paid"}[self.class_id]).position] = "x" * self.padding
        for field, position in self.position.items():
            values[position] = row[field]
        selected = options.get("select", {}).get(self.class_id, known.positions)
        values = values[: max(known.positions[field] for field in selected) + 1]  # as real rows end (pcrud-001)
        return {"__c": self.class_id, "__p": values}


def patrons(ids, padding=0):
    return Table("au", "id", [{"id": patron, "usrgroup": patron // 3} for patron in ids], padding)


def one_answer(*payload):
    """Respond to every call with these results, and serve the IDL."""
    return lambda line, request: (raw(http(IDL)) if request.method == "GET" else results(*payload))(line, request)
