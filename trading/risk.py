"""Why an order is denied before it is sent. Pure rules: the first that fails gives a stable code
and a sentence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

from brokerages.types import (
    InstrumentKind,
    InstrumentRef,
    OrderType,
    Product,
    Quote,
    Segment,
    Side,
    Validity,
)

MAX_QUANTITY = 10_000_000
MAX_PRICE = Decimal(10_000_000)
MAX_LEGS = 50  # brokers take fewer; what is too many is theirs to say


@dataclass(frozen=True, slots=True)
class OrderTerms:
    """What the user asks for, before it is tied to a connection."""

    instrument: InstrumentRef
    side: Side
    quantity: int
    order_type: OrderType
    product: Product
    validity: Validity = Validity.DAY
    price: Decimal | None = None
    trigger_price: Decimal | None = None
    disclosed_quantity: int = 0
    after_market: bool = False
    iceberg_legs: int = 0
    market_protection: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Denial:
    """Why not: ``code`` is stable for programs, ``message`` says what to do, ``detail`` carries the
    numbers.
    """

    code: str
    message: str
    detail: Mapping[str, Any] = field(default_factory=dict)


def why_denied(
    terms: OrderTerms, *, today: date, is_open: bool, quote: Quote | None
) -> Denial | None:
    """Return the first reason against ``terms``, or None.

    ``today`` is the trading day in IST, ``is_open`` whether the instrument's segment takes orders
    now, ``quote`` the latest market where there is one (its circuit limits are the price band).
    """
    return (
        _why_not_tradable(terms, today)
        or _why_bad_product(terms)
        or (
            None
            if is_open or terms.after_market
            else Denial("market_closed", f"{terms.instrument.key}: the market is closed now.")
        )
        or _why_bad_quantity(terms)
        or _why_bad_parts(terms)
        or _why_bad_prices(terms)
        or _why_outside_band(terms, quote)
    )


def _why_not_tradable(terms: OrderTerms, today: date) -> Denial | None:
    instrument = terms.instrument
    if instrument.kind is InstrumentKind.INDEX:
        return Denial(
            "not_tradable", f"{instrument.key} is an index; trade its futures or options instead."
        )
    if instrument.expiry is not None and instrument.expiry < today:
        return Denial(
            "contract_expired", f"{instrument.key} expired on {instrument.expiry:%d %b %Y}."
        )
    return None


def _why_bad_product(terms: OrderTerms) -> Denial | None:
    is_equity = terms.instrument.segment is Segment.EQUITY
    if is_equity and terms.product is Product.NRML:
        return Denial(
            "product_not_allowed", "NRML is for derivatives; use CNC, MIS or MTF for shares."
        )
    if not is_equity and terms.product in (Product.CNC, Product.MTF):
        return Denial(
            "product_not_allowed",
            f"{terms.product} is for shares; use NRML or MIS for derivatives.",
        )
    return None


def _why_bad_quantity(terms: OrderTerms) -> Denial | None:
    instrument, quantity = terms.instrument, terms.quantity
    if not 0 < quantity <= MAX_QUANTITY:
        return Denial("invalid_quantity", f"Quantity must be between 1 and {MAX_QUANTITY}.")
    if quantity % instrument.lot_size:
        return Denial(
            "lot_size",
            f"Quantity must be a multiple of the lot size {instrument.lot_size}.",
            {"lot_size": instrument.lot_size},
        )
    if instrument.freeze_quantity and _largest_part(terms) > instrument.freeze_quantity:
        return Denial(
            "freeze_quantity",
            f"The exchange takes at most {instrument.freeze_quantity} units in one order.",
            {"freeze_quantity": instrument.freeze_quantity},
        )
    if not 0 <= terms.disclosed_quantity <= quantity:
        return Denial(
            "disclosed_quantity", "The disclosed quantity must be between 0 and the quantity."
        )
    if terms.disclosed_quantity and terms.validity is Validity.IOC:
        return Denial("disclosed_quantity", "An IOC order cannot disclose only a part.")
    return None


def _largest_part(terms: OrderTerms) -> int:
    """Return the units of the largest order that the exchange sees: an iceberg's legs are orders of
    their own, in whole lots.
    """
    if not terms.iceberg_legs:
        return terms.quantity
    lots = -(-terms.quantity // terms.instrument.lot_size)
    return -(-lots // terms.iceberg_legs) * terms.instrument.lot_size


def _why_bad_parts(terms: OrderTerms) -> Denial | None:
    lots = terms.quantity // terms.instrument.lot_size
    if terms.iceberg_legs and not 2 <= terms.iceberg_legs <= min(lots, MAX_LEGS):
        return Denial(
            "iceberg_legs",
            f"An iceberg has 2 to {MAX_LEGS} legs, and each at least one lot.",
            {"lots": lots},
        )
    if terms.iceberg_legs and (terms.disclosed_quantity or terms.validity is Validity.IOC):
        return Denial("iceberg_legs", "An iceberg is a DAY order that discloses its legs.")
    if terms.after_market and terms.validity is Validity.IOC:
        return Denial("validity_not_allowed", "An after-market order cannot be IOC.")
    if terms.market_protection is not None:
        if terms.order_type.has_price:
            return Denial(
                "market_protection_not_allowed",
                f"A {terms.order_type} order has a price and takes no market protection.",
            )
        if not 0 < terms.market_protection <= 100:
            return Denial(
                "market_protection", "The market protection must be a percentage from 0.01 to 100."
            )
    return None


def _why_bad_prices(terms: OrderTerms) -> Denial | None:
    for name, value, wanted in (
        ("price", terms.price, terms.order_type.has_price),
        ("trigger_price", terms.trigger_price, terms.order_type.has_trigger),
    ):
        label = name.replace("_", " ")
        if wanted and value is None:
            return Denial(f"{name}_required", f"A {terms.order_type} order needs a {label}.")
        if not wanted and value is not None:
            return Denial(f"{name}_not_allowed", f"A {terms.order_type} order takes no {label}.")
        if value is None:
            continue
        if not 0 < value <= MAX_PRICE:
            return Denial(
                f"invalid_{name}", f"The {label} must be above 0 and at most {MAX_PRICE}."
            )
        if value % terms.instrument.tick_size:
            tick = terms.instrument.tick_size.normalize()
            return Denial(
                "tick_size",
                f"The {label} must be a multiple of the tick size {tick:f}.",
                {"tick_size": f"{tick:f}"},
            )
    if (
        terms.order_type is OrderType.SL
        and terms.price is not None
        and terms.trigger_price is not None
    ):
        if terms.side is Side.BUY and terms.price < terms.trigger_price:
            return Denial(
                "stop_price", "A stop-loss buy needs a price at or above its trigger price."
            )
        if terms.side is Side.SELL and terms.price > terms.trigger_price:
            return Denial(
                "stop_price", "A stop-loss sell needs a price at or below its trigger price."
            )
    if terms.order_type.has_trigger and terms.validity is Validity.IOC:
        return Denial("validity_not_allowed", "A stop-loss order cannot be IOC.")
    return None


def _why_outside_band(terms: OrderTerms, quote: Quote | None) -> Denial | None:
    if quote is None or quote.lower_circuit is None or quote.upper_circuit is None:
        return None
    for label, value in (("price", terms.price), ("trigger price", terms.trigger_price)):
        if value is not None and not quote.lower_circuit <= value <= quote.upper_circuit:
            return Denial(
                "price_band",
                f"The {label} must be within today's band"
                f" {quote.lower_circuit} to {quote.upper_circuit}.",
                {
                    "lower_circuit": str(quote.lower_circuit),
                    "upper_circuit": str(quote.upper_circuit),
                },
            )
    return None
