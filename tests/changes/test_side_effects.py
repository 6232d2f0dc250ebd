"""Side effects of a move, beyond the group itself, in answers recorded from real servers."""

from support.recorded import idl_of, payload

from evergreen_groups.changes.apply import side_effects
from evergreen_groups.gateway import Record
from evergreen_groups.gateway.record import decode


def patron(exchange_id: str) -> Record:
    """Return the patron in an answer, without the fleshed ``groups``, which only the first answer has."""
    record = decode(payload(exchange_id)[0], idl_of("3.16"))
    assert isinstance(record, Record)
    return record.replace(groups=None)


def test_search_words_made_by_another_release_are_rebuilt() -> None:
    """The patron was last written by 3.17, which indexes the guardian's name, and is moved by 3.16."""
    before, after = patron("3.16/move-fleshed-003"), patron("3.16/move-fleshed-004")
    assert before.name_kw_tsvector != after.name_kw_tsvector
    assert list(side_effects(before, after, "usrgroup")) == []


def test_another_name_is_an_effect() -> None:
    before = patron("3.16/move-fleshed-003")
    after = before.replace(name_keywords="Lukas", name_kw_tsvector="'lukas':1")
    assert [effect.field for effect in side_effects(before, after, "usrgroup")] == ["name_keywords"]
