"""No file, route or mail shows a reader anything that they may not see.

The patrons' data are marks (:mod:`support.marked_patrons`). Two clerks of two branches get the files and mails of
theirs, and call every route of the service: a new route has to be walked as well.
"""

from __future__ import annotations

import json
import secrets
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from email.message import EmailMessage
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import pytest
from flask import Flask
from support.circulators import change_rows
from support.command import Command
from support.debts import owe
from support.desk_caller import caller_of, new_key
from support.follow_ups import draft, save
from support.mail_server import Post, server
from support.marked_patrons import CONTACT_DATA, Mark, MarkedPatrons, Reader, marks_in
from support.web_caller import Clock, MakeApp, client_of, cookie, end_session, session
from werkzeug.routing import Rule

from evergreen_groups.follow_up import FollowUps
from evergreen_groups.formats import FILE_FORMATS, output_format
from evergreen_groups.nightly import INDEX
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import reading
from evergreen_groups.state import State

pytestmark = pytest.mark.long

HARBOR, MILL = MarkedPatrons().readers()
WALKED = {1001, 1002, 1003, 1019, 1020, 1025, 1027, 1028, 1057, 1058, 1047, 1012, 1013, 1015, 1033, 1045}
"""Patrons whose pages are called: of families at several branches, and of families at one."""
CONFIGURATION = """
[report]
output = "{directory}/reports"
split = "library"
formats = {formats}
min_total = 0.01
min_members = 1
contact = true
[[reports]]
name = "old"
output = "{directory}/old"
split = "library"
formats = {formats}
min_total = 5.00
recipients = {recipients}
[[reports]]
name = "mill"
output = "{directory}/mill.html"
split = "none"
orgs = ["MILL"]
[[reports]]
name = "harbor"
output = "{directory}/harbor.xlsx"
split = "none"
orgs = ["HARBOR"]
[mail]
host = "localhost"
security = "none"
port = {port}
sender = "groups@library.example"
recipients = {recipients}
names_in_mail = true
attach = "{attach}"
[desk]
titles = "all"
[statement]
titles = "all"
[serve]
port = 0
rate_limit = 1000000
"""


@dataclass
class Site:
    """A sandbox with the marked patrons, nightly runs, and a service that shows their reports."""

    sandbox: Sandbox
    directory: Path
    make_app: MakeApp
    state: State
    patrons: MarkedPatrons
    changes: list[str] = field(default_factory=list)
    """The ids of changes that a colleague made."""

    def __post_init__(self) -> None:
        self._command = Command(self.directory, self.sandbox.url)
        self._command.environ["STATE_DIRECTORY"] = str(self.directory / "state")

    def run(self, attach: str = "html") -> Post:
        """Make the reports, as the timer does. Return the mail server with their mails."""
        with server(post := Post(), None) as port:
            recipients = ", ".join(f'{name} = ["{name.lower()}@library.example"]' for name in ("HARBOR", "MILL"))
            self._command.config.write_text(
                CONFIGURATION.format(
                    directory=self.directory,
                    formats=json.dumps(FILE_FORMATS),
                    recipients=f"{{{recipients}}}",
                    port=port,
                    attach=attach,
                )
            )
            done = self._command("report", "--scheduled", "--history", "--mail")
        assert done.returncode == 0, done.stderr
        return post

    def note(self, *groups: int) -> None:
        """Save a marked note about each group, by default all that are listed."""
        listed = FollowUps(self.state.database, self.sandbox.url).of_report("")
        assert listed is not None
        for group in groups or listed.by_group:
            save(self.state, draft(group, note=f"note-{group}"), url=self.sandbox.url)

    def change(self, app: Flask, action: str, *patrons: int, **more: object) -> str:
        """Make a change as a colleague who sees everybody."""
        colleague = caller_of(app, self.sandbox)
        answer = colleague.apply(colleague.planned(action, *patrons, **more))
        assert answer.status == 200, answer.body
        self.changes.append(str(answer.body["id"]))
        return self.changes[-1]

    def undo(self, app: Flask, change: str) -> None:
        answer = caller_of(app, self.sandbox).undo(change)
        assert answer.status == 200, answer.body
        self.changes.append(str(answer.body["id"]))

    def serve(self) -> Flask:
        return self.make_app(reading.load(self._command.config, self._command.environ))

    def walk(self, app: Flask, reader: Reader) -> Walk:
        return Walk(self, app, reader, session(self.sandbox.url, username=reader.account))

    def files(self, reader: Reader) -> Iterator[Path]:
        """Yield what a branch gets: its files, and the page that leads to them."""
        for report in ("reports", "old"):
            yield from sorted((self.directory / report / "latest").glob(f"{reader.library}.*"))
            yield self.directory / report / "latest" / INDEX
        yield from self.directory.glob(f"{reader.library.lower()}.*")


@pytest.fixture
def marked_sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    dataset = tmp_path / "patrons.json"
    dataset.write_text(json.dumps(MarkedPatrons().content))
    with Sandbox(dataset=dataset) as sandbox:
        yield sandbox


@pytest.fixture
def site(marked_sandbox: Sandbox, tmp_path: Path, make_app: MakeApp, state: State) -> Site:
    return Site(marked_sandbox, tmp_path, make_app, state, MarkedPatrons())


def foreign(found: Iterable[Mark], allowed: Iterable[Mark]) -> list[Mark]:
    return sorted(set(found).difference(allowed))


class Request(NamedTuple):
    path: str
    form: Mapping[str, object] | None = None
    body: object = None


class Walk:
    """A clerk's requests to all routes of a service."""

    def __init__(self, site: Site, app: Flask, reader: Reader, token: str) -> None:
        self._site, self._app, self.reader, self.token = site, app, reader, token
        self._headers = cookie(token)
        self._client = client_of(app)
        self._form = ""
        self.answered: Counter[str] = Counter()
        """How often each endpoint answered with data, or with a page."""
        self.seen: defaultdict[str, set[Mark]] = defaultdict(set)

    def __call__(self) -> list[tuple[str, list[Mark]]]:
        """Call all routes. Return the addresses that answer with what the clerk may not see."""
        wrong = []
        for rule in self._app.url_map.iter_rules():
            # A branch's report has its families as a whole, and so do the pages that belong to it.
            in_report = rule.rule.startswith("/evergreen-groups/reports/")
            allowed = self.reader.report if in_report else self.reader.own
            for request in self._requests(rule):
                found = self._send(rule.endpoint, request)
                if foreign(found, allowed):
                    wrong.append((f"{rule.endpoint} {request}", foreign(found, allowed)))
        return wrong

    def _send(self, endpoint: str, request: Request) -> set[Mark]:
        headers = {**self._headers, "Sec-Fetch-Site": "same-origin"}
        if request.body is not None or request.form is not None:
            more = {"json": request.body} if request.form is None else {"data": {**request.form, "form": self._token()}}
            headers["Idempotency-Key"] = new_key()
            answer = self._client.post(request.path, headers=headers, **more)
        else:
            answer = self._client.get(request.path, headers=headers)
        assert answer.status_code < 500 or endpoint == "events.receive_event", (request, answer.text)
        found = marks_in(answer.get_data()) - marks_in(str(request).encode())  # pages repeat what was typed
        self.answered[endpoint] += answer.status_code < 400
        self.seen[endpoint] |= found
        return found

    def _token(self) -> str:
        """Return the token of this session's forms, which every page with a form has."""
        if not self._form:
            own = min(id for kind, id in self.reader.own if kind == "name")
            page = self._client.get(f"/evergreen-groups/patrons/{own}/group", headers=self._headers).text
            self._form = page.partition('name="form" value="')[2].partition('"')[0]
            assert self._form
        return self._form

    def _requests(self, rule: Rule) -> Iterator[Request]:
        methods = rule.methods or set()
        values = self._values(rule)
        paths = [self._path(rule, chosen) for chosen in values]
        if "GET" in methods:
            queries = [""] if rule.arguments else ["", *self._queries()]
            yield from (Request(path + query) for path in paths for query in queries)
        if "POST" in methods:
            yield from (Request(path, form, body) for path in paths for form, body in POSTED[rule.endpoint](self._site))

    def _path(self, rule: Rule, values: Mapping[str, object]) -> str:
        path = rule.rule
        for name, value in values.items():
            path = path.replace(f"<{name}>", quote(str(value)))
        return path

    def _values(self, rule: Rule) -> list[dict[str, object]]:
        """Return the arguments with which a route is called. One that isn't listed here is new: list it."""
        families = self._site.patrons.families()
        reports = ["old", "mill"]
        files = [INDEX, *(f"{name}.{end}" for name in ("HARBOR", "MILL", "LAKELAND", "ELM") for end in FILE_FORMATS)]
        assets = ["desk.css", "desk.js", "colours.js", "texts.js"]
        known: dict[frozenset[str], list[dict[str, object]]] = {
            frozenset(): [{}],
            frozenset({"patron"}): [{"patron": id} for id in sorted(WALKED)],
            frozenset({"barcode"}): [{"barcode": f"2000000000{id}"} for id in sorted(WALKED)],
            frozenset({"group"}): [{"group": group} for group in families],
            frozenset({"change"}): [{"change": id} for id in self._site.changes],
            frozenset({"report"}): [{"report": name} for name in reports],
            frozenset({"report", "name"}): [{"report": one, "name": file} for one in reports for file in files],
            frozenset({"name"}): [
                {"name": name} for name in (assets if "/desk/" in rule.rule else [*files, "MILL", "HARBOR"])
            ],
            frozenset({"patron", "member"}): [
                {"patron": id, "member": member}
                for members in families.values()
                for id in sorted(WALKED.intersection(members))
                for member in members
            ],
        }
        defaults = rule.defaults or {}
        return known[frozenset(rule.arguments - defaults.keys())]

    def _queries(self) -> Iterator[str]:
        """Yield the queries that routes without arguments get: they are about groups, or about a report."""
        for group in self._site.patrons.families():
            yield f"?group={group}"
            yield f"?group={group}&page={self.reader.library}"
            yield f"?group={group}&report=old"
        yield "?report=old"
        yield "?min_total=0&limit=1000"


Bodies = Iterable[tuple[Mapping[str, object] | None, object]]
_SCANNED = [*(f"2000000000{id}" for id in (1047, 1033, 1002)), "20000000001099", "Haddad", "name-1047"]
"""Cards of strangers and of a relative, one that nobody has, and names."""


def _plans(site: Site) -> Bodies:
    for patron in (1047, 1033, 1002, 1016, 1014):
        for one in ({"id": patron}, f"2000000000{patron}"):
            yield None, {"action": "remove", "patrons": [one]}
            for own in (1015, 1013):
                yield None, {"action": "move", "patrons": [one], "target": {"id": own}}
                yield None, {"action": "merge", "patrons": [{"id": own}], "target": one}
    yield from ((None, {"action": "undo", "change": change}) for change in site.changes)


def _entries(site: Site) -> Bodies:
    """Entries of somebody who hasn't seen that there are others: the answers have those."""
    for group in site.patrons.families():
        yield None, {"entries": [{"group": group, "what": "note", "note": "mine"}]}


def _entry_forms(site: Site) -> Bodies:
    for group in site.patrons.families():
        yield {"group": f"{group}:", "do": "note", "note": "mine", "key": "0" * 32, "language": "en"}, None


def _change_forms(site: Site) -> Bodies:
    for card in _SCANNED:
        yield {"action": "join", "card": card}, None
        yield {"action": "merge", "card": card}, None
    yield {"action": "move", "patron": "1047", "target_id": "1013", "do": "enter"}, None
    yield from (({"action": "undo", "entry": change}, None) for change in site.changes)


POSTED: dict[str, Callable[[Site], Bodies]] = {
    "api.propose": _plans,
    "api.apply": lambda site: [(None, {"plan": "unknown"})],
    "api.undo": lambda site: [(None, {})],
    "events.receive_event": lambda site: [(None, {"event": 1, "hook": "au.updated", "patron": 1047})],
    "follow_ups.save": _entries,
    "worklist.save": _entry_forms,
    "desk_pages.within": lambda site: [({"within": "name"}, None)],
    "desk_pages.plan": _change_forms,
    "desk_pages.change": _change_forms,
    "desk_pages.undo": lambda site: [
        ({"entry": change, "key": secrets.token_hex(16)}, None) for change in site.changes
    ],
}
"""The forms and bodies that each route gets that takes any. A route that isn't listed here is new: list it."""
REFUSING = {"api.apply", "api.undo", "events.receive_event", "monitoring.metrics", "follow_ups.save", "worklist.save"}
"""The routes that answer this walk with refusals alone."""


def marks_of(message: EmailMessage) -> set[Mark]:
    parts = [part.get_content() for part in message.walk() if not part.is_multipart()]
    return set().union(*(marks_in(part if isinstance(part, bytes) else part.encode()) for part in parts))


def test_readers_see_nothing_of_others(site: Site) -> None:
    move_home(site, 1033, "HARBOR")
    posts = [site.run("xlsx")]
    site.note()
    # These families leave the list, and one of them leaves Harbor Street.
    move_home(site, 1033, "PINE")
    for group in (1003, 1008, 1011):
        for member in site.patrons.families()[group]:
            owe(site.sandbox, member)
    app = site.serve()
    for change in (site.change(app, "move", 1050, target=1036), site.change(app, "remove", 1020)):
        site.undo(app, change)
    posts.append(site.run("html"))
    for to, mail in [pair for post in posts for pair in zip(post.recipients, post.taken, strict=True)]:
        [reader] = [one for one in (HARBOR, MILL) if to == f"{one.library.lower()}@library.example"]
        found = marks_of(mail)
        assert ("name", 1020) in found
        assert not {kind for kind, _ in found} & {*CONTACT_DATA, "note"}
        if mail in posts[1].taken:
            assert foreign(found, reader.report) == [], to
    for reader in (HARBOR, MILL):
        files = {path: marks_in(path.read_bytes()) for path in site.files(reader)}
        assert {path.suffix for path in files} == {f".{output_format(name).ending}" for name in FILE_FORMATS}
        for path, found in files.items():
            assert foreign(found, reader.report) == [], path
            if path.name != INDEX:
                assert {"phone", "mail", "street"} <= {kind for kind, _ in found & reader.own}, path
    silent = {rule.endpoint for rule in app.url_map.iter_rules()}
    for reader in (HARBOR, MILL):
        walk = site.walk(app, reader)
        assert walk() == []
        silent -= (+walk.answered).keys()
        seen = {kind for marks in walk.seen.values() for kind, _ in marks & reader.own}
        assert seen >= {"name", "barcode", "note", "title", *CONTACT_DATA} - ({"guardian"} if reader is MILL else set())
    assert silent == REFUSING


def test_after_a_merge_is_undone_each_note_is_where_it_was(site: Site) -> None:
    site.run()
    site.note(1014)
    app = site.serve()
    merged = site.change(app, "merge", 1047, target=1012)
    site.run()
    site.undo(app, merged)
    site.run()
    everything = caller_of(app, site.sandbox).send("GET", "follow-ups").body
    assert [one["group"] for one in everything["groups"] if one["entries"]] == [1014]
    assert site.walk(app, MILL)() == []


def test_rights_count_as_they_are(site: Site, clock: Clock) -> None:
    site.run()
    site.note()
    # The clerk of Mill Lane also works at Harbor Street.
    change_rows(site.sandbox, "INSERT INTO work_orgs SELECT 7, id FROM aou WHERE shortname = 'HARBOR'")
    both = replace(MILL, own=HARBOR.own | MILL.own, report=HARBOR.report | MILL.report)
    walk = site.walk(site.serve(), both)
    assert walk() == []
    assert ("note", 1004) in walk.seen["follow_ups.follow_ups"]
    change_rows(
        site.sandbox, "DELETE FROM work_orgs WHERE usr = 7 AND org_unit <> (SELECT home_ou FROM au WHERE id = 7)"
    )
    clock.now += 31
    walk.reader = MILL
    assert walk() == []
    end_session(site.sandbox.url, walk.token)
    walk.reader = replace(MILL, own=frozenset(), report=frozenset())
    assert walk() == []


def move_home(site: Site, patron: int, library: str) -> None:
    change_rows(
        site.sandbox, "UPDATE au SET home_ou = (SELECT id FROM aou WHERE shortname = ?) WHERE id = ?", library, patron
    )
