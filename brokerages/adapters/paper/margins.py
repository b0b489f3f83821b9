"""What an order at the paper broker must satisfy, and what one unit of it ties up. Pure Python.

Rates follow what Indian brokers ask, rounded to simple numbers:

====================  ==============================================
delivery (CNC)        all of the price
margin trading (MTF)  25 % of the price; the broker lends the rest
intraday equity       20 % of the price
futures               12 % of the contract price
options, bought       all of the premium
options, sold         12 % of the strike, over the premium received
====================  ==============================================

The premium of a sold option is not shown as cash while the option is open; it counts when it is
closed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from decimal import ROUND_UP, Decimal

from brokerages.errors import InvalidOrder, MarketClosed, NotSupported, Refused
from brokerages.types import (
    ZERO,
    InstrumentKind,
    InstrumentRef,
    OrderChange,
    OrderRequest,
    OrderType,
    Product,
    Quote,
    Side,
)

BROKER = "paper"
FOUR = Decimal("0.0001")

MTF_RATE = Decimal("0.25")
INTRADAY_RATE = Decimal("0.20")
DERIVATIVE_RATE = Decimal("0.12")

MAX_QUANTITY = 10**9
MAX_PRICE = Decimal(10) ** 9

DELIVERY = frozenset({Product.CNC, Product.MTF})
"""Products that cannot be sold short."""

OPTIONS = frozenset({InstrumentKind.CE, InstrumentKind.PE})


@dataclass(frozen=True, slots=True)
class Trade:
    """What is traded, in which product and direction."""

    instrument: InstrumentRef
    product: Product
    side: Side

    def unit_margin(self, price: Decimal) -> Decimal:
        """Return the rupees that one unit opened at ``price`` ties up, to four decimals."""
        if self.instrument.kind in OPTIONS:
            if self.side is Side.BUY:
                return price
            strike = self.instrument.strike
            base = price if strike is None else strike
            return (base * DERIVATIVE_RATE).quantize(FOUR, ROUND_UP)
        if self.instrument.kind is InstrumentKind.FUT:
            return (price * DERIVATIVE_RATE).quantize(FOUR, ROUND_UP)
        if self.product is Product.CNC:
            return price
        rate = MTF_RATE if self.product is Product.MTF else INTRADAY_RATE
        return (price * rate).quantize(FOUR, ROUND_UP)


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms of an order that an exchange judges."""

    trade: Trade
    order_type: OrderType
    quantity: int
    price: Decimal | None
    trigger_price: Decimal | None

    @classmethod
    def of(cls, request: OrderRequest) -> Terms:
        return cls(
            Trade(request.instrument, request.product, request.side),
            request.order_type,
            request.quantity,
            request.price if request.order_type.has_price else None,
            request.trigger_price if request.order_type.has_trigger else None,
        )

    def changed(self, change: OrderChange) -> Terms:
        """Return these terms with those of ``change`` in their place."""
        return replace(
            self,
            order_type=change.order_type,
            quantity=change.quantity,
            price=change.price if change.order_type.has_price else None,
            trigger_price=change.trigger_price if change.order_type.has_trigger else None,
        )

    def without_trigger(self) -> Terms:
        """Return what a stop order has become once it was hit."""
        order_type = OrderType.LIMIT if self.order_type.has_price else OrderType.MARKET
        return replace(self, order_type=order_type, trigger_price=None)

    def reference_price(self, quote: Quote) -> Decimal:
        """Return the price that the order is margined at before it is filled.

        Its limit, else its trigger, else the best price of the other side. A sale that opens a
        short position is margined at no less than the last price: it fills at that or better.
        """
        buying = self.trade.side is Side.BUY
        best = quote.asks if buying else quote.bids
        reference = best[0].price if best else quote.last_price
        if self.price is not None:
            reference = self.price
        elif self.trigger_price is not None:
            reference = self.trigger_price
        return reference if buying else max(reference, quote.last_price)


def check_request(request: OrderRequest) -> None:
    """Raise `InvalidOrder` or `NotSupported` for what no market could make acceptable."""
    instrument = request.instrument
    if request.after_market:
        raise NotSupported(
            "The paper broker does not take after-market orders.",
            broker=BROKER,
            code="after_market",
        )
    if request.iceberg_legs:
        raise NotSupported(
            "The paper broker does not take iceberg orders.", broker=BROKER, code="iceberg"
        )
    if not request.client_order_id or len(request.client_order_id) > 40:
        raise _invalid("client_order_id", "An order needs a tag of 1 to 40 characters.")
    if instrument.kind is InstrumentKind.INDEX:
        raise _invalid("not_tradable", f"{instrument.key} is an index and cannot be traded.")
    equity, product = instrument.kind is InstrumentKind.EQ, request.product
    if product in DELIVERY and not equity:
        raise _invalid("product", f"{product} is for shares; use NRML or MIS for {instrument.key}.")
    if product is Product.NRML and equity:
        raise _invalid("product", f"NRML is for derivatives; use CNC or MIS for {instrument.key}.")
    check_terms(Terms.of(request), request.disclosed_quantity)


def check_terms(terms: Terms, disclosed_quantity: int) -> None:
    """Raise `InvalidOrder` when the terms break the instrument's steps and limits."""
    instrument, quantity = terms.trade.instrument, terms.quantity
    if not 0 < quantity <= MAX_QUANTITY:
        raise _invalid("quantity", "The quantity must be a positive whole number of units.")
    if quantity % instrument.lot_size:
        raise _invalid(
            "lot_size", f"The quantity must be a multiple of the lot size {instrument.lot_size}."
        )
    if instrument.freeze_quantity is not None and quantity > instrument.freeze_quantity:
        raise _invalid(
            "freeze_quantity",
            f"The quantity is above the exchange's freeze quantity {instrument.freeze_quantity}.",
        )
    if not 0 <= disclosed_quantity <= quantity:
        raise _invalid(
            "disclosed_quantity", "The disclosed quantity must be between 0 and the quantity."
        )
    if terms.order_type.has_price:
        _check_price(instrument, "price", terms.price)
    if terms.order_type.has_trigger:
        _check_price(instrument, "trigger price", terms.trigger_price)
    if terms.price is not None and terms.trigger_price is not None:
        _check_stop_limit(terms.trade.side, terms.price, terms.trigger_price)


def _check_price(instrument: InstrumentRef, what: str, price: Decimal | None) -> None:
    code = what.replace(" ", "_")
    if price is None or not price.is_finite() or not ZERO < price <= MAX_PRICE:
        raise _invalid(code, f"This order needs a positive {what}.")
    if price % instrument.tick_size:
        raise _invalid(
            "tick_size", f"The {what} must be a multiple of the tick size {instrument.tick_size}."
        )


def _check_stop_limit(side: Side, price: Decimal, trigger_price: Decimal) -> None:
    if side is Side.BUY and price < trigger_price:
        raise _invalid("price", "A stop-loss buy price may not be below its trigger price.")
    if side is Side.SELL and price > trigger_price:
        raise _invalid("price", "A stop-loss sell price may not be above its trigger price.")


def check_market(terms: Terms, quote: Quote | None, *, is_open: bool) -> Quote:
    """Return the quote that the order meets.

    Raises:
        MarketClosed: outside the segment's hours, or there is no market data.
        InvalidOrder: outside the circuit limits, or a stop that the market has passed already.
    """
    if not is_open:
        raise MarketClosed("The market is closed.", broker=BROKER, code="market_closed")
    if quote is None or quote.last_price <= 0:
        raise MarketClosed(
            "There is no market data for this instrument.", broker=BROKER, code="no_market_data"
        )
    for price in (terms.price, terms.trigger_price):
        if price is not None:
            _check_band(price, quote)
    trigger, last = terms.trigger_price, quote.last_price
    if trigger is not None:
        if terms.trade.side is Side.BUY and trigger <= last:
            raise _invalid(
                "trigger_price",
                f"The trigger price of a buy order must be above the last price {last}.",
            )
        if terms.trade.side is Side.SELL and trigger >= last:
            raise _invalid(
                "trigger_price",
                f"The trigger price of a sell order must be below the last price {last}.",
            )
    return quote


def _check_band(price: Decimal, quote: Quote) -> None:
    low, high = quote.lower_circuit, quote.upper_circuit
    if (low is not None and price < low) or (high is not None and price > high):
        raise _invalid(
            "price_band", f"The price must be within the circuit limits {low} and {high}."
        )


def check_luck(client_order_id: str, rate: Decimal) -> None:
    """Raise `Refused` for a share ``rate`` of all tags: always the same ones."""
    if rate <= 0:
        return
    draw = int.from_bytes(hashlib.sha256(client_order_id.encode()).digest()[:6], "big")
    if draw < rate * 2**48:
        raise Refused(
            "Rejected by the paper exchange's simulated faults.",
            broker=BROKER,
            code="simulated_rejection",
        )


def _invalid(code: str, message: str) -> InvalidOrder:
    return InvalidOrder(message, broker=BROKER, code=code)
