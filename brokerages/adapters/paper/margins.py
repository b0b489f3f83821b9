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

The premium of a sold option is not shown as cash while the option is open; it counts when it is closed.
"""

from __future__ import annotations

import hashlib
from decimal import ROUND_UP, Decimal

from brokerages.errors import InvalidOrder, MarketClosed, NotSupported, Refused
from brokerages.types import (
    ZERO,
    InstrumentKind,
    InstrumentRef,
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


def unit_margin(instrument: InstrumentRef, product: Product, side: Side, price: Decimal) -> Decimal:
    """Return the rupees that one unit ties up when ``side`` opens it at ``price``, to four decimals."""
    if instrument.kind in OPTIONS:
        if side is Side.BUY:
            return price
        base = instrument.strike if instrument.strike is not None else price
        return (base * DERIVATIVE_RATE).quantize(FOUR, ROUND_UP)
    if instrument.kind is InstrumentKind.FUT:
        return (price * DERIVATIVE_RATE).quantize(FOUR, ROUND_UP)
    if product is Product.CNC:
        return price
    rate = MTF_RATE if product is Product.MTF else INTRADAY_RATE
    return (price * rate).quantize(FOUR, ROUND_UP)


def pays_in_full(instrument: InstrumentRef, product: Product) -> bool:
    """Return whether a bought unit is paid for and owned, so that its cost is spent, not blocked."""
    return product is Product.CNC or instrument.kind in OPTIONS


def reference_price(
    side: Side,
    order_type: OrderType,
    price: Decimal | None,
    trigger_price: Decimal | None,
    quote: Quote,
) -> Decimal:
    """Return the price that an order not yet filled is margined at.

    Its limit, else its trigger, else the best price of the other side. A sale that opens a short position is margined at no
    less than the last price, since it fills at that or better.
    """
    if order_type.has_price and price is not None:
        reference = price
    elif order_type.has_trigger and trigger_price is not None:
        reference = trigger_price
    else:
        best = quote.asks if side is Side.BUY else quote.bids
        reference = best[0].price if best else quote.last_price
    return reference if side is Side.BUY else max(reference, quote.last_price)


def check_terms(request: OrderRequest) -> None:
    """Raise `InvalidOrder` or `NotSupported` for terms that no market could make acceptable."""
    instrument = request.instrument
    if request.after_market:
        raise NotSupported(
            "The paper broker does not take after-market orders.",
            broker=BROKER,
            code="after_market",
        )
    if instrument.kind is InstrumentKind.INDEX:
        raise _invalid("not_tradable", f"{instrument.key} is an index and cannot be traded.")
    if not request.client_order_id or len(request.client_order_id) > 40:
        raise _invalid("client_order_id", "An order needs a tag of 1 to 40 characters.")
    _check_product(instrument, request.product)
    check_amounts(
        instrument,
        request.quantity,
        request.order_type,
        request.side,
        request.price,
        request.trigger_price,
    )
    if not 0 <= request.disclosed_quantity <= request.quantity:
        raise _invalid(
            "disclosed_quantity", "The disclosed quantity must be between 0 and the quantity."
        )


def _check_product(instrument: InstrumentRef, product: Product) -> None:
    equity = instrument.kind is InstrumentKind.EQ
    if product in DELIVERY and not equity:
        raise _invalid("product", f"{product} is for shares; use NRML or MIS for {instrument.key}.")
    if product is Product.NRML and equity:
        raise _invalid("product", f"NRML is for derivatives; use CNC or MIS for {instrument.key}.")


def check_amounts(
    instrument: InstrumentRef,
    quantity: int,
    order_type: OrderType,
    side: Side,
    price: Decimal | None,
    trigger_price: Decimal | None,
) -> None:
    """Raise `InvalidOrder` when quantity, price or trigger price break the instrument's steps and limits."""
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
    if order_type.has_price:
        _check_price(instrument, "price", price)
    if order_type.has_trigger:
        _check_price(instrument, "trigger price", trigger_price)
    if order_type is OrderType.SL and price is not None and trigger_price is not None:
        if side is Side.BUY and price < trigger_price:
            raise _invalid(
                "price", "The price of a stop-loss buy order may not be below its trigger price."
            )
        if side is Side.SELL and price > trigger_price:
            raise _invalid(
                "price", "The price of a stop-loss sell order may not be above its trigger price."
            )


def _check_price(instrument: InstrumentRef, what: str, price: Decimal | None) -> None:
    code = what.replace(" ", "_")
    if price is None or not price.is_finite() or not ZERO < price <= MAX_PRICE:
        raise _invalid(code, f"This order needs a positive {what}.")
    if price % instrument.tick_size:
        raise _invalid(
            "tick_size", f"The {what} must be a multiple of the tick size {instrument.tick_size}."
        )


def check_market(
    side: Side,
    order_type: OrderType,
    price: Decimal | None,
    trigger_price: Decimal | None,
    quote: Quote | None,
    *,
    is_open: bool,
) -> Quote:
    """Return the quote that the order meets.

    Raises:
        MarketClosed: outside the segment's hours, or there is no market data.
        InvalidOrder: outside the circuit limits, or a trigger price that the market has passed already.
    """
    if not is_open:
        raise MarketClosed("The market is closed.", broker=BROKER, code="market_closed")
    if quote is None or quote.last_price <= 0:
        raise MarketClosed(
            "There is no market data for this instrument.", broker=BROKER, code="no_market_data"
        )
    wanted = [price] if order_type.has_price else []
    wanted += [trigger_price] if order_type.has_trigger else []
    for value in wanted:
        if value is not None:
            _check_band(value, quote)
    if order_type.has_trigger and trigger_price is not None:
        if side is Side.BUY and trigger_price <= quote.last_price:
            raise _invalid(
                "trigger_price",
                f"The trigger price of a buy order must be above the last price {quote.last_price}.",
            )
        if side is Side.SELL and trigger_price >= quote.last_price:
            raise _invalid(
                "trigger_price",
                f"The trigger price of a sell order must be below the last price {quote.last_price}.",
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
