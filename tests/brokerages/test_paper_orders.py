"""What the paper broker does with an order when it arrives."""

from decimal import Decimal

import pytest

from brokerages.types import ReportedStatus
from tests.brokerages.conftest import levels

pytestmark = pytest.mark.django_db


def test_market_buy_fills_at_once_and_becomes_a_holding(paper, market):
    market.show(last=100, asks=levels((100.5, 5), (101, 20)))

    ack = paper.buy(10)

    assert ack.report.status is ReportedStatus.FILLED
    assert [(f.quantity, f.price) for f in ack.fills] == [(5, Decimal("100.5")), (5, Decimal(101))]
    assert ack.report.average_price == Decimal("100.75")
    assert paper.holding == 10
    assert paper.available == Decimal(100_000) - Decimal("1007.50")
    assert paper.used == 0
