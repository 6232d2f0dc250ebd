"""What the service reads from a request: token, origin, address, ids and barcodes, and the language."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_network
from urllib.parse import quote

import pytest
from flask import Request
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.datastructures import Headers
from werkzeug.test import EnvironBuilder

from evergreen_groups.language.language import PSEUDO
from evergreen_groups.settings import LanguageSettings
from evergreen_groups.settings.sections import LOOPBACK
from evergreen_groups.web.problems import ProblemError
from evergreen_groups.web.requests import (
    LARGEST_ID,
    barcode,
    change_id,
    client_address,
    client_network,
    is_allowed,
    language_of_reader,
    record_id,
    refuse_foreign_writes,
    refuse_other_origins,
    token_of,
)

TOKEN, OTHER = "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"
HERE = "https://ils.example.org"


def packed(value: object) -> str:
    return quote(json.dumps(value), safe="")


class TestToken:
    @pytest.mark.parametrize(
        "headers",
        [
            [("Authorization", f"Bearer {TOKEN}")],
            [("Authorization", f"bearer  {TOKEN} ")],
            [("Cookie", f"eg.auth.token={packed(TOKEN)}")],
            [("Cookie", f'eg.auth.token="{TOKEN}"')],
            [("Cookie", f"a=b; eg.auth.token={packed(TOKEN)}; eg.auth.token.oc={packed(OTHER)}")],
            [("Cookie", "a=b"), ("Cookie", f"eg.auth.token={packed(TOKEN)}")],
            [("Cookie", f"eg.auth.token={packed(TOKEN)}; eg.auth.token={packed(TOKEN)}")],
            [("Authorization", f"Bearer {TOKEN}"), ("Cookie", f"eg.auth.token={packed(OTHER)}")],
            [("Authorization", "Basic YTpi"), ("Cookie", f"eg.auth.token={packed(TOKEN)}")],
        ],
    )
    def test_where_it_is_found(self, headers: list[tuple[str, str]]) -> None:
        assert token_of(Headers(headers)) == TOKEN

    @pytest.mark.parametrize(
        "headers",
        [
            [],
            [("Authorization", "Bearer")],
            [("Authorization", "Bearer ")],
            [("Authorization", TOKEN)],
            [("Authorization", f"Basic {TOKEN}")],
            [("Authorization", f"Bearer {TOKEN} {TOKEN}")],
            [("Authorization", "Bearer x")],
            [("Authorization", "Bearer " + "a" * 129)],
            [("Authorization", f'Bearer "{TOKEN}"')],
            [("Authorization", "Bearer "), ("Cookie", f"eg.auth.token={packed(TOKEN)}")],
            [("Cookie", f"eg.auth.token={TOKEN}")],
            [("Cookie", f"eg.auth.token.oc={packed(TOKEN)}")],
            [("Cookie", f"eg.auth.token.provisional={packed(TOKEN)}")],
            [("Cookie", f"EG.AUTH.TOKEN={packed(TOKEN)}")],
            [("Cookie", f"eg.auth.token={packed([TOKEN])}")],
            [("Cookie", "eg.auth.token=%22")],
            [("Cookie", "eg.auth.token=" + "[" * 10_000)],
            [("Cookie", f"eg.auth.token={packed(TOKEN)}; eg.auth.token={packed(OTHER)}")],
        ],
    )
    def test_anything_else_is_no_session(self, headers: list[tuple[str, str]]) -> None:
        with pytest.raises(ProblemError) as refused:
            token_of(Headers(headers))
        assert refused.value.status == 401

    @given(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\r\n"), max_size=60))
    def test_no_cookie_breaks_it(self, text: str) -> None:
        headers = Headers([("Cookie", f"eg.auth.token={text}")])
        with pytest.raises(ProblemError):
            token_of(headers)


class TestOrigin:
    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"Sec-Fetch-Site": "same-origin"},
            {"Sec-Fetch-Site": "none"},
            {"Origin": HERE},
            {"Origin": HERE, "Sec-Fetch-Site": "same-origin"},
        ],
    )
    def test_the_staff_client_and_programs_may(self, headers: dict[str, str]) -> None:
        refuse_other_origins(Headers(headers), HERE)

    @pytest.mark.parametrize(
        "headers",
        [
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
            {"Sec-Fetch-Site": ""},
            {"Origin": "https://evil.example.org"},
            {"Origin": "null"},
            {"Origin": "http://ils.example.org"},
            {"Origin": HERE + ":8443"},
            {"Origin": HERE + ".evil.example"},
            {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"},
        ],
    )
    def test_pages_of_other_origins_may_not(self, headers: dict[str, str]) -> None:
        with pytest.raises(ProblemError) as refused:
            refuse_other_origins(Headers(headers), HERE)
        assert (refused.value.status, refused.value.code) == (403, "another-origin")


class TestWrites:
    @pytest.mark.parametrize(
        "headers",
        [
            {"Authorization": "Bearer 0a1b"},
            {"Authorization": "bearer 0a1b"},
            {"Origin": HERE},
            {"Sec-Fetch-Site": "same-origin"},
            {"Origin": HERE, "Sec-Fetch-Site": "same-origin"},
        ],
    )
    def test_programs_with_a_token_and_own_pages_may(self, headers: dict[str, str]) -> None:
        refuse_foreign_writes(Headers(headers), HERE)

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"Authorization": "Basic 0a1b"},
            {"Authorization": "Bearer 0a1b", "Sec-Fetch-Site": "none"},
            {"Authorization": "Bearer 0a1b", "Origin": "https://evil.example"},
            {"Sec-Fetch-Site": "none"},
            {"Sec-Fetch-Site": "same-site", "Origin": HERE},
            {"Sec-Fetch-Site": "same-origin", "Origin": "https://evil.example"},
        ],
    )
    def test_others_may_not(self, headers: dict[str, str]) -> None:
        with pytest.raises(ProblemError) as refused:
            refuse_foreign_writes(Headers(headers), HERE)
        assert (refused.value.status, refused.value.code) == (403, "foreign-write")


class TestAddress:
    @pytest.mark.parametrize(
        ("peer", "headers", "address"),
        [
            ("127.0.0.1", {}, "127.0.0.1"),
            ("::1", {}, "::1"),
            ("::ffff:127.0.0.1", {}, "127.0.0.1"),
            ("203.0.113.5", {}, "203.0.113.5"),
            ("203.0.113.5", {"X-Forwarded-For": "127.0.0.1"}, "203.0.113.5"),
            ("127.0.0.1", {"X-Forwarded-For": "203.0.113.5"}, "203.0.113.5"),
            ("127.0.0.1", {"X-Forwarded-For": "127.0.0.1, 203.0.113.5"}, "203.0.113.5"),
            ("127.0.0.1", {"X-Forwarded-For": "127.0.0.1, 203.0.113.5, 127.0.0.1"}, "203.0.113.5"),
            ("127.0.0.1", {"X-Forwarded-For": "127.0.0.1"}, "127.0.0.1"),
            ("127.0.0.1", {"X-Forwarded-For": "::ffff:203.0.113.5"}, "203.0.113.5"),
            ("127.0.0.1", {"X-Forwarded-For": "127.0.0.1, somewhere"}, None),
            ("127.0.0.1", {"X-Forwarded-For": "127.0.0.1, 203.0.113.5:443"}, None),
            ("127.0.0.1", {"X-Forwarded-For": ""}, None),
            ("127.0.0.1", {"X-Forwarded-Host": "ils.example.org"}, None),
            ("127.0.0.1", {"Forwarded": "for=203.0.113.5"}, None),
            ("127.0.0.1", {"Via": "1.1 proxy"}, None),
            ("", {}, None),
            (None, {}, None),
        ],
    )
    def test_which_address_counts(self, peer: str | None, headers: dict[str, str], address: str | None) -> None:
        assert client_address(peer, Headers(headers), LOOPBACK) == (ip_address(address) if address else None)

    def test_several_headers_are_one_chain(self) -> None:
        headers = Headers([("X-Forwarded-For", "127.0.0.1"), ("X-Forwarded-For", "203.0.113.5")])
        assert client_address("127.0.0.1", headers, LOOPBACK) == ip_address("203.0.113.5")

    @given(st.lists(st.ip_addresses().map(str) | st.text("0123456789.:,abcdef ", max_size=20), max_size=5))
    def test_nothing_that_a_stranger_writes_makes_them_local(self, made_up: list[str]) -> None:
        """Apache appends the client's real address to whatever the client sent."""
        headers = Headers({"X-Forwarded-For": ", ".join([*made_up, "203.0.113.5"])})
        address = client_address("127.0.0.1", headers, LOOPBACK)
        assert address == ip_address("203.0.113.5")
        assert not is_allowed(address, LOOPBACK)

    def test_an_address_that_is_not_known_is_not_allowed(self) -> None:
        everywhere = (ip_network("0.0.0.0/0"), ip_network("::/0"))
        assert not is_allowed(None, everywhere)
        assert is_allowed(ip_address("192.0.2.1"), everywhere)

    @pytest.mark.parametrize(
        ("one", "other", "same"),
        [
            ("192.0.2.1", "192.0.2.1", True),
            ("192.0.2.1", "192.0.2.2", False),
            ("2001:db8::1", "2001:db8::ffff:1:2", True),
            ("2001:db8::1", "2001:db8:0:0:8000::1", True),
            ("2001:db8::1", "2001:db8:0:1::1", False),
        ],
    )
    def test_what_counts_as_one_place(self, one: str, other: str, same: bool) -> None:
        assert (client_network(ip_address(one)) == client_network(ip_address(other))) is same
        assert client_network(None) != client_network(ip_address(one))


@pytest.mark.parametrize(
    "text", ["0", "-1", "+1", "1.0", "01", " 1", "1\n", "٣", "1e3", "", "abc", "2147483648", "9" * 5000]
)
def test_invalid_ids(text: str) -> None:
    with pytest.raises(ProblemError) as refused:
        record_id(text)
    assert (refused.value.status, refused.value.code) == (400, "id-wrong")
    assert "from 1 to 2147483647" in str(refused.value)
    assert record_id("2147483647") == LARGEST_ID
    with pytest.raises(ProblemError) as refused:
        change_id(text)
    assert (refused.value.status, refused.value.code) == (400, "change-id-wrong")


@pytest.mark.parametrize("text", ["", " ", "a/b", "a%00", "ñ", "'", "1" * 65])
def test_invalid_barcodes(text: str) -> None:
    with pytest.raises(ProblemError) as refused:
        barcode(text)
    assert (refused.value.status, refused.value.code) == (400, "barcode-wrong")
    assert "at most 64" in str(refused.value)
    assert barcode("1" * 64) == "1" * 64
    assert {barcode("a b"), barcode("ab\n")} == {"ab"}
    assert barcode("D-20000000001001") == "D-20000000001001"


GROUP = "/evergreen-groups/patrons/7/group"
SETTINGS = LanguageSettings(default="es", currency="CAD", timezone="America/Toronto")


def read(query: str, **headers: str) -> str:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    request = Request(EnvironBuilder(path=GROUP, query_string=query, headers=names).get_environ())
    return language_of_reader(request, SETTINGS).tag


@pytest.mark.parametrize(
    ("query", "headers", "tag"),
    [
        ("client=eg2/fr-CA", {"Cookie": "eg_locale=cs_cz", "Accept_Language": "en"}, "fr-CA"),
        ("client=eg", {"Cookie": "eg_locale=cs_cz", "Accept_Language": "en"}, "cs-CZ"),
        ("", {"Cookie": "eg_locale=fr-CA"}, "fr-CA"),
        ("", {"Referer": "https://ils.example.org/eg2/cs-CZ/staff/circ/patron/7/checkout"}, "cs-CZ"),
        ("client=eg", {"Accept_Language": "fr-FR,fr;q=0.9,en;q=0.8"}, "fr-FR"),
        ("client=eg2/en-US", {"Accept_Language": "fr-FR"}, "en-US"),
        ("client=eg2/fi-FI", {"Accept_Language": "cs"}, "cs"),  # a client in a language without translations
        ("client=eg2/fr-CA&language=cs", {}, "cs"),
        (f"client=eg2/{PSEUDO}", {}, PSEUDO),
        ("", {}, "es"),
        ("client=eg2/../..&language=%00", {"Cookie": "eg_locale=;", "Accept_Language": "\x7f"}, "es"),
    ],
)
def test_which_language(query: str, headers: dict[str, str], tag: str) -> None:
    assert read(query, **headers) == tag


def test_currency_and_time_zone_are_the_librarys() -> None:
    language = language_of_reader(Request(EnvironBuilder(path=GROUP).get_environ()), SETTINGS)
    assert (language.currency, str(language.timezone)) == ("CAD", "America/Toronto")
