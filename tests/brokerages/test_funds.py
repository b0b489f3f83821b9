"""A broker is asked for its funds seldom, and not again at once when it did not answer."""

from decimal import Decimal
from unittest.mock import Mock

import pytest
from django.core.cache import cache

from brokerages.base import SessionRenewal
from brokerages.errors import BrokerError, OutcomeUnknown
from brokerages.services import funds
from brokerages.types import Funds

pytestmark = pytest.mark.django_db

MONEY = Funds(Decimal("10.50"), Decimal("2.25"), Decimal("12.75"))


@pytest.fixture
def broker(monkeypatch, make_connection):
    """Return a connection at a broker with a login, and what its adapter's `fetch_funds` is."""
    cache.clear()
    connection = make_connection()
    able = Mock(capabilities=Mock(session_renewal=SessionRenewal.INTERACTIVE))
    monkeypatch.setattr(funds, "adapter_class", lambda _: able)
    adapter = Mock()
    monkeypatch.setattr(funds, "adapter_for", lambda _: adapter)
    return connection, adapter.fetch_funds


def test_asked_once_for_many_pages(broker) -> None:
    connection, asked = broker
    asked.return_value = MONEY
    assert [funds.funds_latest(connection) for _ in range(3)] == [MONEY] * 3
    assert asked.call_count == 1


def test_one_that_does_not_answer_is_not_asked_again_at_once(broker) -> None:
    connection, asked = broker
    asked.side_effect = OutcomeUnknown("no answer", broker="bank")
    for _ in range(3):
        with pytest.raises(BrokerError, match="no answer"):
            funds.funds_latest(connection)
    assert asked.call_count == 1


def test_paper_is_always_read(make_connection) -> None:
    connection = make_connection()
    from brokerages.services import session_open

    session_open(user_id=connection.user_id, connection_id=connection.pk)
    first = funds.funds_latest(connection)
    assert first.total > 0
    assert cache.get(f"funds:{connection.pk}") is None
