from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from brokerages.types import (
    Exchange,
    InstrumentKind,
    InstrumentRef,
    OrderType,
    Product,
    Quote,
    Segment,
    Side,
    Validity,
)
from trading.risk import OrderTerms, why_denied

TODAY = date(2026, 11, 23)
SHARE = InstrumentRef(
    id=1,
    exchange=Exchange.NSE,
    segment=Segment.EQUITY,
    symbol="RELIANCE",
    kind=InstrumentKind.EQ,
    tick_size=Decimal("0.10"),
)
OPTION = InstrumentRef(
    id=2,
    exchange=Exchange.NFO,
    segment=Segment.EQUITY_DERIVATIVES,
    symbol="NIFTY26NOV26000CE",
    kind=InstrumentKind.CE,
    lot_size=65,
    freeze_quantity=1800,
    expiry=date(2026, 11, 24),
)
INDEX = InstrumentRef(
    id=3,
    exchange=Exchange.NSE,
    segment=Segment.INDEX,
    symbol="NIFTY 50",
    kind=InstrumentKind.INDEX,
)
QUOTE = Quote(
    instrument_id=1,
    last_price=Decimal(2500),
    at=datetime(2026, 11, 23, 5, tzinfo=UTC),
    source="simulated",
    lower_circuit=Decimal(2250),
    upper_circuit=Decimal(2750),
)


def denial(instrument=SHARE, *, today=TODAY, is_open=True, quote=QUOTE, **terms):
    chosen = {
        "side": Side.BUY,
        "quantity": instrument.lot_size,
        "order_type": OrderType.MARKET,
        "product": Product.CNC if instrument is SHARE else Product.NRML,
    } | terms
    found = why_denied(
        OrderTerms(instrument=instrument, **chosen), today=today, is_open=is_open, quote=quote
    )
    return found and found.code


LIMIT = {"order_type": OrderType.LIMIT}
STOP = {"order_type": OrderType.SL}


@pytest.mark.parametrize(
    ("code", "terms"),
    [
        (None, {}),
        (None, LIMIT | {"price": Decimal("2500.10")}),
        (None, STOP | {"price": Decimal(2510), "trigger_price": Decimal(2505)}),
        (None, {"order_type": OrderType.SL_M, "trigger_price": Decimal(2505)}),
        (None, {"instrument": OPTION, "quantity": 130}),
        ("not_tradable", {"instrument": INDEX}),
        ("contract_expired", {"instrument": OPTION, "today": date(2026, 11, 25)}),
        ("product_not_allowed", {"product": Product.NRML}),
        ("product_not_allowed", {"instrument": OPTION, "product": Product.CNC}),
        ("product_not_allowed", {"instrument": OPTION, "product": Product.MTF}),
        ("market_closed", {"is_open": False}),
        ("invalid_quantity", {"quantity": 0}),
        ("invalid_quantity", {"quantity": -1}),
        ("invalid_quantity", {"quantity": 10_000_001}),
        ("lot_size", {"instrument": OPTION, "quantity": 66}),
        ("freeze_quantity", {"instrument": OPTION, "quantity": 1820}),
        ("disclosed_quantity", {"quantity": 10, "disclosed_quantity": 11}),
        (
            "disclosed_quantity",
            {"quantity": 10, "disclosed_quantity": 5, "validity": Validity.IOC},
        ),
        ("price_required", LIMIT),
        ("price_not_allowed", {"price": Decimal(2500)}),
        ("trigger_price_required", STOP | {"price": Decimal(2500)}),
        ("trigger_price_not_allowed", LIMIT | {"price": 2500, "trigger_price": Decimal(2500)}),
        ("invalid_price", LIMIT | {"price": Decimal(0)}),
        ("invalid_price", LIMIT | {"price": Decimal(10_000_001)}),
        ("tick_size", LIMIT | {"price": Decimal("2500.05")}),
        (
            "tick_size",
            {"order_type": OrderType.SL_M, "trigger_price": Decimal("2500.01")},
        ),
        ("stop_price", STOP | {"price": Decimal(2500), "trigger_price": Decimal(2505)}),
        (
            "stop_price",
            STOP | {"side": Side.SELL, "price": Decimal(2510), "trigger_price": Decimal(2505)},
        ),
        (
            "validity_not_allowed",
            {
                "order_type": OrderType.SL_M,
                "trigger_price": Decimal(2505),
                "validity": Validity.IOC,
            },
        ),
        ("price_band", LIMIT | {"price": Decimal("2750.10")}),
        ("price_band", LIMIT | {"price": Decimal("2249.90")}),
        (None, LIMIT | {"price": Decimal(2750)}),
        (None, LIMIT | {"price": Decimal(9000), "quote": None}),
    ],
)
def test_first_reason_has_a_stable_code(code, terms):
    assert denial(**terms) == code


def test_expiry_day_itself_trades():
    assert denial(instrument=OPTION, today=date(2026, 11, 24)) is None
