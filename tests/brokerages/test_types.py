"""The values at the boundary refuse what they cannot hold."""

from decimal import Decimal

import pytest

from brokerages.base import Capabilities, SessionRenewal
from brokerages.errors import (
    InsufficientFunds,
    MarketClosed,
    NotSent,
    OutcomeUnknown,
    RateLimited,
    Refused,
)
from brokerages.registry import BROKER_NAMES, UnknownBroker, adapter_class
from brokerages.types import Exchange, Money, OrderRequest, OrderType, Product, Side, Validity
from tests.brokerages.conftest import FUTURE, SHARE


class TestMoney:
    def test_adds_and_subtracts_exactly(self):
        assert Money(Decimal("0.10")) + Money(Decimal("0.20")) == Money(Decimal("0.30"))
        assert Money(Decimal(1)) - Money(Decimal("0.01")) == Money(Decimal("0.99"))

    @pytest.mark.parametrize("amount", [0.1, 1, "1.00", None])
    def test_only_decimals(self, amount):
        with pytest.raises(TypeError):
            Money(amount)

    @pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "0.001"])
    def test_only_whole_paise(self, text):
        with pytest.raises(ValueError, match=text):
            Money(Decimal(text))

    @pytest.mark.parametrize(
        ("text", "rounded"), [("1.005", "1.01"), ("-1.005", "-1.01"), ("1.0049", "1.00")]
    )
    def test_rounds_halves_away_from_zero(self, text, rounded):
        assert Money.rounded(Decimal(text)) == Money(Decimal(rounded))


def test_sides_are_opposite():
    assert (Side.BUY.sign, Side.SELL.sign) == (1, -1)
    assert (Side.BUY.opposite, Side.SELL.opposite) == (Side.SELL, Side.BUY)


def test_order_types_say_what_they_need():
    assert [t for t in OrderType if t.has_price] == [OrderType.LIMIT, OrderType.SL]
    assert [t for t in OrderType if t.has_trigger] == [OrderType.SL, OrderType.SL_M]


def test_errors_say_what_the_broker_did():
    assert issubclass(RateLimited, NotSent)
    assert issubclass(InsufficientFunds, Refused)
    assert issubclass(MarketClosed, Refused)
    assert not issubclass(OutcomeUnknown, (Refused, NotSent))
    assert RateLimited("slow down", broker="x", retry_after=2.5).retry_after == 2.5


def test_capabilities_name_what_is_missing():
    narrow = Capabilities(
        order_types=frozenset({OrderType.LIMIT}),
        products=frozenset({Product.CNC}),
        validities=frozenset({Validity.DAY}),
        exchanges=frozenset({Exchange.NSE}),
        session_renewal=SessionRenewal.NONE,
    )

    def why(instrument=SHARE, order_type=OrderType.LIMIT, product=Product.CNC, **more):
        request = OrderRequest("T", instrument, Side.BUY, 1, order_type, product, **more)
        reason = narrow.why_not(request)
        return reason and reason[0]

    assert why() is None
    assert why(FUTURE) == "exchange_not_supported"
    assert why(order_type=OrderType.MARKET) == "order_type_not_supported"
    assert why(product=Product.MIS) == "product_not_supported"
    assert why(validity=Validity.IOC) == "validity_not_supported"


def test_registry_knows_its_brokers_and_no_other():
    assert [adapter_class(name).name for name in BROKER_NAMES] == list(BROKER_NAMES)
    with pytest.raises(UnknownBroker):
        adapter_class("brokerages.adapters.paper.adapter:PaperAdapter")
