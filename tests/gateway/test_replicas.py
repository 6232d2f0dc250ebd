"""Whether a site may read from database replicas, according to real servers."""

import pytest
from support import gateways
from support.recorded import gateway_of

from evergreen_groups.sandbox import Sandbox


@pytest.mark.parametrize(
    ("exchange_id", "may_be"),
    [("releases-056", False), ("3.11/releases-056", True)],
)
def test_what_a_server_says_of_copies(exchange_id: str, may_be: bool) -> None:
    """A server that can't tell may have replicas."""
    with gateway_of(exchange_id) as gateway:
        assert gateway.reads_replicas is may_be
        assert gateway.reads_replicas is may_be  # and the server isn't asked again


def test_a_gateway_that_gives_no_reason_says_nothing_of_copies() -> None:
    """The Rust gateway doesn't say that a method is missing."""
    with (
        Sandbox(release="3.11", gateway="rust") as sandbox,
        gateways.gateway_of(sandbox.url, "consortium_staff") as gateway,
    ):
        assert gateway.reads_replicas
