"""Many clients at once in several processes: response times, and errors.

A client is a desk of :mod:`bare_desk`, which calls Evergreen's gateway, or of :class:`OurDesk`, which calls the service
for the same. Both only use ``http.client``, so that they cause the same load.
"""

from __future__ import annotations

import http.client
import json
import re
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any
from urllib.parse import quote, urlencode

from bare_desk import FORM, BareDesk, Desk, Family
from programs import API

PROCESSES = 2
"""Processes of clients: Python's threads share a processor, and the clients mustn't be the bottleneck."""
TAKES_A_THREAD = 256 * 1024
"""Bytes of stack per thread; most of five hundred clients are waiting."""
PAGE = "/evergreen-groups/patrons/{patron}/group"
READS = ("summary", "panel", "page", "unfolded", "plan", "plan's page")
WRITES = ("change",)
_FORM = re.compile(r'name="form" value="([0-9a-f]+)"')


class RefusedError(Exception):
    """An unexpected response, with its content."""


class OurDesk(Desk):
    """A desk that calls the service over one connection, or two where the panel uses two."""

    form = ""

    def summary(self, family: Family) -> None:
        """Read the summary, like programs do."""
        self._right_summary(self._ask(("GET", f"{API}/patrons/{family.members[0]}/summary", None)), family)

    def panel(self, family: Family) -> None:
        """Send the panel's requests for a patron's page."""
        settings, summary = self._asked(
            ("GET", "/evergreen-groups/desk.json?client=angular%2Fen-US", None),
            ("GET", f"{API}/patrons/{family.members[0]}/summary", None),
        )
        assert json.loads(settings)["page"] is True
        self._right_summary(summary, family)

    def page(self, family: Family) -> None:
        """Read the list in HTML."""
        text = self._ask(("GET", PAGE.format(patron=family.members[0]), None)).decode()
        assert text.count('name="member" value=') == len(family.members), "a member is missing on the page"
        found = _FORM.search(text)
        assert found is not None
        self.form = found[1]

    def unfolded(self, family: Family) -> None:
        """Read a member's bills and items in HTML."""
        address = PAGE.format(patron=family.members[0])
        assert b"</html>" in self._ask(("GET", f"{address}/members/{family.members[-1]}", None))

    def plan(self, family: Family) -> str:
        """Make a plan, like programs do."""
        body = {"action": "remove", "patrons": [{"id": family.members[-1]}]}
        plan = json.loads(self._ask(("POST", f"{API}/plans", body)))
        assert plan["steps"][0]["patron"]["id"] == family.members[-1], plan
        return str(plan["id"])

    def plans_page(self, family: Family) -> None:
        """Make a plan in HTML, like the desk does."""
        if not self.form:
            self.page(family)
        fields = {"form": self.form, "action": "remove", "member": family.members[-1]}
        text = self._ask(("POST", f"{PAGE.format(patron=family.members[0])}/plan", urlencode(fields)))
        assert b'name="plan" value="' in text, "no plan on the page"

    def change(self, family: Family, target: Family) -> None:
        """Plan to move the last member to another group, apply the plan, and undo it."""
        patron = family.members[-1]
        body = {"action": "move", "patrons": [{"id": patron}], "target": {"id": target.members[0]}}
        plan = json.loads(self._ask(("POST", f"{API}/plans", body)))
        change = json.loads(self._ask(("POST", f"{API}/changes", {"plan": plan["id"]})))
        self._done(change, patron, target.group)
        back = json.loads(self._ask(("POST", f"{API}/changes/{change['id']}/undo", {})))
        self._done(back, patron, family.group)

    def _done(self, change: dict[str, object], patron: int, group: int) -> None:
        steps = change["steps"]
        assert isinstance(steps, list)
        reached = [step for step in steps if step["patron"] == patron and step["field"] == "group"]
        assert [(step["state"], step["value"]) for step in reached] == [("done", group)], change

    def _right_summary(self, body: bytes, family: Family) -> None:
        found = json.loads(body)
        assert found["patron"] == family.members[0], found
        assert {member["id"] for member in found["members"]} == set(family.members), found

    def _ask(self, request: tuple[str, str, Any]) -> bytes:
        return self._asked(request)[0]

    def _asked(self, *requests: tuple[str, str, Any]) -> list[bytes]:
        sent = []
        for method, path, body in requests:
            if path.startswith(API):
                headers = {"Authorization": f"Bearer {self.token}"}
            else:
                cookie = quote(json.dumps(self.token), safe="")
                headers = {"Cookie": f"eg.auth.token={cookie}", "Sec-Fetch-Site": "same-origin"}
            if isinstance(body, dict):
                key = f"bench-{time.monotonic_ns()}-{id(self)}"
                headers |= {"Content-Type": "application/json", "Idempotency-Key": key}
            elif body is not None:
                headers |= FORM
            sent.append((method, path, json.dumps(body) if isinstance(body, dict) else body, headers))
        answers = self.send(*sent)
        for (status, content), (_method, path, _body) in zip(answers, requests, strict=True):
            if status >= 400:
                raise RefusedError(f"{status} {path.rpartition('/')[2]} {content[:200]!r}")
        return [content for _status, content in answers]


@dataclass(frozen=True)
class Load:
    """A task for many clients; ``ours`` says which server they call."""

    what: str
    ours: bool
    url: str
    tokens: tuple[str, ...]
    families: tuple[Family, ...]
    clients: int
    seconds: float


@dataclass
class Outcome:
    """The results: seconds of each task, and errors."""

    seconds: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    took: float = 0.0
    """Seconds from first to last."""
    processor: float = 0.0
    """CPU seconds of the clients."""

    @property
    def per_second(self) -> float:
        return len(self.seconds) / self.took if self.took else 0.0

    def quantile(self, percent: int) -> float:
        if len(self.seconds) < 2:
            return 1000 * (self.seconds or [0.0])[0]
        return 1000 * statistics.quantiles(self.seconds, n=100, method="inclusive")[percent - 1]


def under_load(executor: ProcessPoolExecutor, load: Load) -> Outcome:
    count = min(PROCESSES, load.clients)
    start = time.monotonic() + 0.3 + load.clients / 1000
    parts = list(executor.map(_part, [load] * count, range(count), [count] * count, [start] * count))
    return together(parts, max(part.took for part in parts))


def together(outcomes: Sequence[Outcome], took: float) -> Outcome:
    whole = Outcome(took=took)
    for one in outcomes:
        whole.seconds += one.seconds
        whole.errors += one.errors
        whole.processor += one.processor
    return whole


def clients_pool() -> ProcessPoolExecutor:
    """Return the processes of the clients, which haven't loaded the package."""
    return ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn"))


def _part(load: Load, part: int, parts: int, start: float) -> Outcome:
    threading.stack_size(TAKES_A_THREAD)
    outcome, used = Outcome(), time.process_time()
    threads = [
        threading.Thread(target=_client, args=(load, number, start, outcome))
        for number in range(part, load.clients, parts)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    outcome.processor = time.process_time() - used
    return outcome


def _client(load: Load, number: int, start: float, outcome: Outcome) -> None:
    token = load.tokens[number % len(load.tokens)]
    desk: OurDesk | BareDesk = OurDesk(load.url, token) if load.ours else BareDesk(load.url, token)
    act = _action(desk, load.what)
    time.sleep(max(0.0, start - time.monotonic()))
    turn = number
    while (began := time.monotonic()) < start + load.seconds:
        # A client that writes has two families to itself; with other clients' changes, its plan would become outdated.
        index = 2 * number if load.what in WRITES else turn
        try:
            act(load.families[index % len(load.families)], load.families[(index + 1) % len(load.families)])
        except (AssertionError, RefusedError, OSError, http.client.HTTPException, KeyError, ValueError) as error:
            outcome.errors[f"{type(error).__name__} {str(error)[:120]}"] += 1
            desk.close()
        else:
            outcome.seconds.append(time.monotonic() - began)
        outcome.took = max(outcome.took, time.monotonic() - start)
        turn += 7  # so that clients don't request the same at the same time
    desk.close()


def _action(desk: OurDesk | BareDesk, what: str) -> Callable[[Family, Family], object]:
    if what == "change":
        return desk.change
    if what == "plan's page" and isinstance(desk, OurDesk):
        do: Callable[[Family], object] = desk.plans_page
    elif what == "panel" and isinstance(desk, BareDesk):
        do = desk.summary
    else:
        do = getattr(desk, what.removesuffix("'s page"))
    return lambda family, _other: do(family)
