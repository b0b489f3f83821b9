"""Listings without a database, for the pure parts of this app."""

from datetime import date
from decimal import Decimal

from brokerages.types import Exchange, InstrumentKind, InstrumentRef, Segment
from marketdata import bundled
from marketdata.calendar import Calendar, SessionGroup
from marketdata.sources.base import Listing

EXPIRY = date(2026, 12, 29)


def calendar() -> Calendar:
    return Calendar(row for row, _ in bundled.session_rows())


def share(
    pk: int = 1, symbol: str = "RELIANCE", price: str = "1364", tick: str = "0.10"
) -> Listing:
    ref = InstrumentRef(
        pk, Exchange.NSE, Segment.EQUITY, symbol, InstrumentKind.EQ, tick_size=Decimal(tick)
    )
    return Listing(ref, SessionGroup.EQUITY_FNO, Decimal(price))


def index(pk: int = 2, symbol: str = "NIFTY 50", price: str = "24800") -> Listing:
    ref = InstrumentRef(
        pk, Exchange.NSE, Segment.INDEX, symbol, InstrumentKind.INDEX, underlying="NIFTY"
    )
    return Listing(ref, SessionGroup.INDEX, Decimal(price), is_tradable=False)


def derivative(
    kind: InstrumentKind, strike: int | None = None, pk: int = 3, expiry: date = EXPIRY
) -> Listing:
    ref = InstrumentRef(
        pk,
        Exchange.NFO,
        Segment.EQUITY_DERIVATIVES,
        f"NIFTY26DEC{strike or ''}{kind}",
        kind,
        tick_size=Decimal("0.10" if kind is InstrumentKind.FUT else "0.05"),
        lot_size=65,
        freeze_quantity=1800,
        expiry=expiry,
        strike=None if strike is None else Decimal(strike),
        underlying="NIFTY",
    )
    return Listing(ref, SessionGroup.EQUITY_DERIVATIVES, None, index())
