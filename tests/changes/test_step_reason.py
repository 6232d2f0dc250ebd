"""Reasons in the journal: translated texts, and the ILS's own words, which are never used as templates."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergreen_groups.changes.reasons import StepReason, refusal
from evergreen_groups.errors import EventError
from evergreen_groups.gateway import Gateway
from evergreen_groups.language import Language, gettext, use_language
from evergreen_groups.language.language import PSEUDO
from evergreen_groups.message import Message

GATEWAY = Gateway("https://ils.example.org")  # never asked


@pytest.mark.parametrize(
    "said",
    ["ODD {event.x}", "{event.__class__}", "{event[9]}", "{event!z}", "{", "{}", "{0}", "{unknown}", "{event:z}"],
)
def test_braces_in_what_an_ils_says_stay_as_they_are(said: str) -> None:
    reason = refusal(GATEWAY, EventError("refused", textcode=said))
    assert reason == f"Evergreen refused the change ({said})"
    assert reason.followed_by(Message("tries: {count}"), count=3) == f"{reason}; tries: 3"
    with use_language(Language(PSEUDO)):
        assert [gettext(message) for message in reason.messages]


@given(st.text(max_size=30))
def test_whatever_an_ils_says_is_a_reason(said: str) -> None:
    assert isinstance(refusal(GATEWAY, EventError("refused", textcode=said)), StepReason)
