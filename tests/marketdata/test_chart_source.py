"""Charts show the prices of whom the user's prices come from, and say so."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import uuid4

import pytest

from brokerages.errors import NotSupported
from brokerages.selectors import ConnectionBrief
from brokerages.types import Candle, CandleInterval
from marketdata import broker_prices
from marketdata.selectors import ref_by_key

pytestmark = pytest.mark.django_db


@pytest.fixture
def reliance(django_db_setup):
    from marketdata.services import instruments_load

    instruments_load()
    return ref_by_key("NSE:RELIANCE")


@pytest.fixture
def at_broker(monkeypatch):
    """Let the user's prices come from a broker; return what it is asked for."""
    asked = []
    brief = ConnectionBrief(uuid4(), "zerodha", "Zerodha")
    monkeypatch.setattr(broker_prices, "prices_from", lambda _: brief)

    def fetch(connection, instrument_id, interval, start, end):
        asked.append((connection, instrument_id, interval, start, end))
        price = Decimal("100.05")
        return [
            Candle(start + timedelta(minutes=n), price, price, price, price, n) for n in range(300)
        ]

    monkeypatch.setattr(broker_prices, "candles_fetch", fetch)
    return asked


def test_the_brokers_own(at_broker, reliance) -> None:
    found = broker_prices.chart(uuid4(), reliance, "5m", 100)

    assert (found.source, found.simulated, len(found.candles)) == ("zerodha", False, 100)
    assert found.candles[-1].volume == 299
    [(_, instrument_id, interval, start, end)] = at_broker
    assert (instrument_id, interval) == (reliance.id, CandleInterval.MINUTES_5)
    assert timedelta(days=5) < end - start < timedelta(days=10)


def test_a_year_of_days_reaches_back_over_weekends_and_holidays(at_broker, reliance) -> None:
    broker_prices.chart(uuid4(), reliance, "1d", 250)

    [(*_, start, end)] = at_broker
    assert end - start > timedelta(days=365)


def test_an_interval_that_no_broker_has(at_broker, reliance) -> None:
    with pytest.raises(NotSupported):
        broker_prices.chart(uuid4(), reliance, "10m", 10)


def test_the_platforms_own_is_marked(reliance, monkeypatch) -> None:
    monkeypatch.setattr(broker_prices, "prices_from", lambda _: None)

    found = broker_prices.chart(uuid4(), reliance, "5m", 10)

    assert (found.source, found.simulated) == ("simulated", True)
    assert found.candles[-1].start <= datetime.now(UTC)
