"""Fixtures for the gateway's tests."""

import pytest
from support.gateway_server import TOKEN, Server, connect


@pytest.fixture
def gateways():
    """Open gateways on servers, which they have as ``server``, and close both at the end."""
    opened = []

    def start(answers, *, tls=None, **settings):
        server = Server(otherwise=answers, tls=tls)
        opened.append(connect(server, token=TOKEN, **settings))
        opened[-1].server = server
        return opened[-1]

    yield start
    for gateway in opened:
        gateway.close()
        gateway.server.__exit__()
