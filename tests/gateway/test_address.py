"""Every spelling of the gateway's address has one form, which identifies the server in leases and caches."""

from __future__ import annotations

import pytest

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.gateway.transport import Address


@pytest.mark.parametrize(
    ("base", "spellings"),
    [
        (
            "https://ils.example.org",
            [
                "https://ils.example.org/",
                "HTTPS://ILS.example.ORG",
                "https://ils.example.org:443",
                "https://ils.example.org:0443/",
                "https://ils.example.org:",
                "https://ils.example.org.",
                "https://Ils.Example.Org.:443//",
                "https://ils%2Eexample.org",
                "https://ils.example.org/osrf-gateway-v1",
                "https://ils.example.org/osrf-gateway-v1/",
                " https://ils.example.org ",
            ],
        ),
        ("http://ils.example.org", ["http://ILS.example.org:80/"]),
        ("https://ils.example.org:8443", ["https://ILS.example.org.:8443/"]),
        ("https://ils.example.org:80", ["https://ils.example.org:80/"]),
        ("https://ils.example.org/opac", ["https://ils.example.org/%6fpac/", "https://ils.example.org/a/../opac"]),
        ("https://ils.example.org/%C3%A9", ["https://ils.example.org/é/", "https://ils.example.org/%c3%a9"]),
        ("https://xn--bcher-kva.example", ["https://bücher.example", "https://BÜCHER.example.", "https://XN--bcher-kva.example"]),
        ("http://[::1]:8080", ["http://[0:0:0:0:0:0:0:1]:8080/", "http://[::0001]:8080"]),
        ("https://[2001:db8::a]", ["https://[2001:DB8::A]:443/"]),
    ],
)  # fmt: skip
def test_every_spelling_is_one_address(base: str, spellings: list[str]) -> None:
    assert {Address.parse(spelling).base for spelling in [base, *spellings]} == {base}


@pytest.mark.parametrize("other", ["http://ils.example.org", "https://ils.example.org:80", "https://ils.example.org/A"])
def test_what_differs_is_another_address(other: str) -> None:
    assert Address.parse(other).base == other


@pytest.mark.parametrize(
    "url", ["https://", "https://.", "https://:443", "ils.example.org", "https://[::1", "https://h:x"]
)
def test_what_has_no_host_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        Address.parse(url)
