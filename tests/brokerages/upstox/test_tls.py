"""Certificates are checked, of requests and of sockets: a token never goes to a stranger."""

from __future__ import annotations

from collections.abc import Iterator

import certifi
import pytest

from brokerages.adapters.upstox import client
from brokerages.errors import NotSent
from brokerages.types import OrderReport, QuoteDepth, StreamDown, StreamUp, Tick
from tests.brokerages.contract.conftest import Listener
from tests.brokerages.upstox.conftest import MONDAY, SHARE, Desk, order
from tests.emulators.core.clock import Clock
from tests.emulators.core.exchange import Exchange as Venue
from tests.emulators.core.server import EmulatorServer
from tests.emulators.tls import Certificate, make_certificate
from tests.emulators.upstox import Upstox


@pytest.fixture
def certificate(tmp_path) -> Certificate:
    return make_certificate(tmp_path)


@pytest.fixture
def desk(certificate: Certificate) -> Iterator[Desk]:
    client._sdk_parts.cache_clear()  # it has read the authorities
    with EmulatorServer(Upstox(Venue(clock=Clock(MONDAY))), tls=certificate.context) as server:
        yield Desk(server)
    client._sdk_parts.cache_clear()


@pytest.fixture
def trusted(certificate: Certificate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certifi, "where", lambda: str(certificate.path))


def test_server_that_proves_who_it_is(trusted, desk):
    """As at the broker's own addresses, but that the authority is ours."""
    adapter = desk.adapter()
    stream = adapter.open_stream()
    stream.subscribe([SHARE], QuoteDepth.FULL)
    listener = Listener(stream)
    listener.wait(StreamUp, 2)
    listener.wait(Tick)
    adapter.place_order(order())
    listener.wait(OrderReport)
    listener.close()


def test_stranger_gets_no_request(desk):
    """Not sent, and that is known: the handshake failed before the request."""
    with pytest.raises(NotSent):
        desk.adapter()
    assert desk.server.recorder.count() == 0


def test_stranger_gets_no_socket(desk, certificate, monkeypatch):
    with monkeypatch.context() as trusting:
        trusting.setattr(certifi, "where", lambda: str(certificate.path))
        adapter = desk.adapter()
        adapter.check_session()
    listener = Listener(adapter.open_stream())
    listener.wait(StreamDown)
    assert listener.of(StreamUp) == []
    assert desk.server.recorder.count("GET /portfolio-stream-feeder/*") == 0
    listener.close()
