"""Fixtures for the gateway's tests."""

import pytest
from support.gateway_server import TOKEN, Server, connect


@pytest.fixture
def gateways():
    """Open gateways on servers, and close both at the end."""
    opened = []

    def start(answers, **settings):
        server = Server(otherwise=answers)
        gateway = connect(server, token=TOKEN, **settings)
        opened.append((gateway, server))
        return gateway, server

    yield start
    for gateway, server in opened:
        gateway.close()
        server.__exit__()
