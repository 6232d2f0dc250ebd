"""Whatever a consortium is like, the product's answers and changes don't depend on Evergreen's release.

The exception is in docs/releases.md: an account that may see no one at its own home library sees itself from 3.15 on.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache, partial
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reckoning.library import Library
from reckoning.populations import PASSWORD, Content, population
from reckoning.product import QUESTIONS, Product, audit_criteria, document, over_random_consortia, product
from reckoning.reckoning import Document
from support.releases import LATEST, differences_of

from evergreen_groups.audit import Audit
from evergreen_groups.changes import PlanOutcome
from evergreen_groups.client import Client, Plan
from evergreen_groups.errors import EvergreenGroupsError
from evergreen_groups.render.audit import render_audit
from evergreen_groups.render.report import render

ACCOUNTS = ("a superuser", "sees all patrons", "sees one library", "as it comes")
ASKER = 2
_PERMISSIONS = (
    *("VIEW_USER", "VIEW_USER_FINES_SUMMARY", "VIEW_USER_TRANSACTIONS", "VIEW_TRANSACTION"),
    *("VIEW_GROUP_PENALTY_THRESHOLD", "VIEW_CIRCULATIONS", "UPDATE_USER", "CREATE_USER_GROUP_LINK"),
    *("group_application.user", "group_application.user.patron"),
)
_OF_THE_RUN = {"generated_at", "gateway", "at"}


def asked_by(content: Content, account: str) -> Content:
    """Return the dataset with one of ``ACCOUNTS`` as the account that asks."""
    if account == "as it comes":  # with any mix of permissions
        return content
    changed = copy.deepcopy(content)
    asker = next(row for row in changed["au"] if row["id"] == ASKER)
    orgs = {row["id"]: row["ou_type"] - 1 for row in changed["aou"]}  # each with its depth
    library = max(orgs, key=lambda org: (orgs[org], org)) if account == "sees one library" else min(orgs)
    perms = [["STAFF_LOGIN", library, 0], *([name, library, orgs[library]] for name in _PERMISSIONS)]
    asker.update(super_user="t" if account == "a superuser" else "f", home_ou=library)
    changed["staff_permissions"] = {"asker": {"password": PASSWORD, "type": "staff", "perms": perms}}
    changed["group_permissions"] = {"1 Everyone": []}
    return changed


def answers(product: Product, content: Content, chance: Random) -> dict[str, Any]:
    """Return each job's document, or its error, and the members of groups after a few moves and an undo."""
    client = product.client(content)
    found: dict[str, Any] = {
        "report": _answer(lambda: document(lambda stream: render(product.report(content), "json", stream))),
        "audit": _answer(lambda: document(lambda stream: render_audit(_audited(client, content), "json", stream))),
    }
    library = Library(content)
    for patron in content["_question"]["check"]:
        if patron == ASKER and not library.visible(library.account):
            continue
        for name, (_what, ask, _expect) in QUESTIONS.items():
            found[f"{name} {patron}"] = _answer(partial(ask, client, patron))
    found["moves"] = list(_moves(client, content, chance))
    found["in the end"] = {row["id"]: row["usrgroup"] for row in product.sandbox._store.rows("au", {})}
    return found


def _audited(client: Client, content: Content) -> Audit:
    return client.audit(audit_criteria(client, content))


def _moves(client: Client, content: Content, chance: Random) -> Iterator[Any]:
    """Move one patron to another's group, remove another, and undo the first move.

    Never those of the account that asks.
    """
    barcodes = [row["barcode"] for row in content["ac"] if row["usr"] != ASKER]
    who, to, out = (chance.choice(barcodes) for _ in range(3))
    plans: tuple[Callable[[], Plan], ...] = (
        lambda: client.move([who], to=to),
        lambda: client.remove([out], lead=False),
        lambda: client.undo(min(entry.id for entry in client.changes.entries())),
    )
    for plan in plans:
        try:
            made = plan()
            yield [str(warning) for warning in made.draft.warnings], _outcome(made.apply())
        except (EvergreenGroupsError, ValueError) as error:  # without anything to undo, min() raises a ValueError
            yield _error(error)


def _outcome(outcome: PlanOutcome) -> Any:
    stopped = None if outcome.stopped is None else _error(outcome.stopped)
    return [(step.step.patron_id, step.state.value, step.value, str(step.reason)) for step in outcome.steps], stopped


def _answer(ask: Callable[[], Document]) -> Any:
    try:
        return _without_the_run(ask())
    except EvergreenGroupsError as error:
        return _error(error)


def _error(error: Exception) -> str:
    return f"{type(error).__name__} {getattr(error, 'code', '')}"


def _without_the_run(value: Any) -> Any:
    """Return a document without what differs between runs."""
    if isinstance(value, dict):
        return {name: _without_the_run(inner) for name, inner in value.items() if name not in _OF_THE_RUN}
    return [_without_the_run(inner) for inner in value] if isinstance(value, list) else value


ProductOn = Callable[[str], Product]


@pytest.fixture(scope="module")
def product_on(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProductOn]:
    with ExitStack() as stack:
        yield cache(lambda release: stack.enter_context(product(tmp_path_factory.mktemp("product"), release)))


@pytest.mark.long
@pytest.mark.older(latest=False)
@over_random_consortia(25)
@given(seed=st.integers(1, 2**32), account=st.sampled_from(ACCOUNTS))
def test_nothing_depends_on_the_release(seed: int, account: str, release: str, product_on: ProductOn) -> None:
    content = asked_by(population(Random(seed)), account)
    here, latest = (answers(product_on(one), content, Random(seed)) for one in (release, LATEST))
    assert [name for name in latest if here[name] != latest[name]] == []


@pytest.mark.long
@pytest.mark.older
def test_the_account_sees_itself_depending_on_the_release(release: str, product_on: ProductOn) -> None:
    content = asked_by(population(Random(1)), "sees one library")
    asker = next(row for row in content["au"] if row["id"] == ASKER)
    asker["home_ou"] = next(row["id"] for row in content["aou"] if row["id"] != asker["home_ou"])
    seen = product_on(release).client(content).gateway.pcrud.id_list("au", {"id": ASKER}, limit=2)
    assert bool(seen) is ("oneself-hidden" not in differences_of(release))
