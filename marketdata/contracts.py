"""Index futures and options that exist on a day, by the exchanges' own rules. Pure Python.

Terms (expiry weekday, strike interval, lot, freeze quantity) are dated rows by *expiry*: a lot
belongs to a contract, never to an underlying. Symbols are in the style of order tickets:
``NIFTY26DECFUT``, monthly ``NIFTY26DEC24500CE``, weekly ``NIFTY26D0124500CE`` (month as 1-9, O, N,
D; then the day).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

from brokerages.types import InstrumentKind

WEEKLY_MONTHS = "123456789OND"
MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DERIVATIVES = (InstrumentKind.FUT, InstrumentKind.CE, InstrumentKind.PE)
MONTHLY_EXPIRIES = 2
WEEKLY_EXPIRIES = 2
# Strikes reach this far from the reference price, so that options near the money exist however a
# day goes.
STRIKE_REACH = Decimal("0.08")

Closed = Callable[[date], bool]


@dataclass(frozen=True, slots=True)
class ContractTerms:
    """The terms of one underlying for the expiries from ``expiry_from`` to ``expiry_to``
    (inclusive; None: open end).

    ``expiry_weekday`` is ISO (Tuesday 2). ``lot_size`` and ``freeze_quantity`` are units.
    """

    underlying: str
    exchange: str
    expiry_weekday: int
    weekly: bool
    strike_interval: Decimal
    lot_size: int
    freeze_quantity: int
    expiry_from: date
    expiry_to: date | None
    source: str

    def covers(self, expiry: date) -> bool:
        return self.expiry_from <= expiry and (self.expiry_to is None or expiry <= self.expiry_to)


@dataclass(frozen=True, slots=True)
class TickBand:
    """The tick size of one kind up to a price (inclusive; None: no limit), from a date on."""

    kind: InstrumentKind
    up_to: Decimal | None
    tick_size: Decimal
    valid_from: date


@dataclass(frozen=True, slots=True)
class Contract:
    """One listed derivative. ``strike`` is None for a future."""

    exchange: str
    symbol: str
    name: str
    kind: InstrumentKind
    underlying: str
    expiry: date
    strike: Decimal | None
    lot_size: int
    freeze_quantity: int
    tick_size: Decimal
    exchange_token: str


@dataclass(frozen=True, slots=True)
class Expiry:
    day: date
    monthly: bool


def tick_size(bands: Iterable[TickBand], kind: InstrumentKind, price: Decimal, on: date) -> Decimal:
    """Return the tick size of ``kind`` at ``price`` rupees by the rows in force on ``on``.

    Raises:
        LookupError: no row covers the kind on that day.
    """
    rows = [band for band in bands if band.kind is kind and band.valid_from <= on]
    newest = max((band.valid_from for band in rows), default=None)
    for band in rows:
        if band.valid_from == newest and (band.up_to is None or price <= band.up_to):
            return band.tick_size
    raise LookupError(f"no tick size for {kind} at {price} on {on}")


def moved_back(day: date, closed: Closed) -> date:
    """Return ``day``, or the last trading day before it when it is closed."""
    while closed(day):
        day -= timedelta(days=1)
    return day


def monthly_expiry(year: int, month: int, weekday: int, closed: Closed) -> date:
    """Return the last ``weekday`` (ISO) of the month, moved back from a closed day."""
    first_of_next = date(year + month // 12, month % 12 + 1, 1)
    last = first_of_next - timedelta(days=1)
    return moved_back(last - timedelta(days=(last.isoweekday() - weekday) % 7), closed)


def expiries(weekday: int, weekly: bool, today: date, closed: Closed) -> list[Expiry]:
    """Return the expiries listed on ``today``: the next two months', and the next two weeks'
    between them if weekly.

    A contract is listed up to and including its expiry day.
    """
    monthly: list[date] = []
    year, month = today.year, today.month
    while len(monthly) < MONTHLY_EXPIRIES:
        day = monthly_expiry(year, month, weekday, closed)
        if day >= today:
            monthly.append(day)
        year, month = year + month // 12, month % 12 + 1
    found = [Expiry(day, True) for day in monthly]
    if weekly:
        # A week's nominal day may lie before today's week while its month's expiry is the same day:
        # skip those.
        nominal = today + timedelta(days=(weekday - today.isoweekday()) % 7)
        weeks: list[date] = []
        while len(weeks) < WEEKLY_EXPIRIES:
            day = moved_back(nominal, closed)
            is_monthly = day == monthly_expiry(nominal.year, nominal.month, weekday, closed)
            if day >= today and not is_monthly:
                weeks.append(day)
            nominal += timedelta(days=7)
        found += [Expiry(day, False) for day in weeks]
    return sorted(found, key=lambda expiry: expiry.day)


def contract_symbol(
    underlying: str, expiry: Expiry, kind: InstrumentKind, strike: Decimal | None = None
) -> str:
    """Return the order-ticket symbol of a contract."""
    prefix = contract_prefix(underlying, expiry)
    if kind is InstrumentKind.FUT:
        return f"{prefix}FUT"
    return f"{prefix}{_plain(strike)}{kind}"


def contract_prefix(underlying: str, expiry: Expiry) -> str:
    """Return what the symbols of all contracts of one expiry begin with."""
    day = expiry.day
    month = f"{day:%y}{MONTHS[day.month - 1]}"
    when = month if expiry.monthly else f"{day:%y}{WEEKLY_MONTHS[day.month - 1]}{day:%d}"
    return f"{underlying}{when}"


def strikes(reference: Decimal, interval: Decimal) -> list[Decimal]:
    """Return the strikes around ``reference`` (rupees), ascending, at multiples of ``interval``."""
    low = int(reference * (1 - STRIKE_REACH) / interval)
    high = int(reference * (1 + STRIKE_REACH) / interval) + 1
    return [interval * step for step in range(low, high + 1)]


def contracts(
    terms: Sequence[ContractTerms],
    bands: Sequence[TickBand],
    references: dict[str, Decimal],
    today: date,
    closed: Closed,
) -> Iterator[Contract]:
    """Yield every contract listed on ``today``; ``references`` gives each underlying's reference
    price in rupees.
    """
    for number, underlying in enumerate(sorted({row.underlying for row in terms}), 1):
        rows = [row for row in terms if row.underlying == underlying]
        current = next((row for row in reversed(rows) if row.covers(today)), rows[-1])
        reference = references[underlying]
        for expiry in expiries(current.expiry_weekday, current.weekly, today, closed):
            row = next((row for row in rows if row.covers(expiry.day)), current)
            ticks = {kind: tick_size(bands, kind, reference, today) for kind in _DERIVATIVES}
            yield from _of_expiry(row, number, expiry, reference, ticks)


def _of_expiry(
    row: ContractTerms,
    number: int,
    expiry: Expiry,
    reference: Decimal,
    ticks: dict[InstrumentKind, Decimal],
) -> Iterator[Contract]:
    def contract(kind: InstrumentKind, strike: Decimal | None, words: str) -> Contract:
        return Contract(
            exchange=row.exchange,
            symbol=contract_symbol(row.underlying, expiry, kind, strike),
            name=f"{row.underlying} {expiry.day:%d %b %Y} {words}",
            kind=kind,
            underlying=row.underlying,
            expiry=expiry.day,
            strike=strike,
            lot_size=row.lot_size,
            freeze_quantity=row.freeze_quantity,
            tick_size=ticks[kind],
            exchange_token=synthetic_token(number, expiry.day, kind, strike),
        )

    if expiry.monthly:
        yield contract(InstrumentKind.FUT, None, "FUT")
    for kind in (InstrumentKind.CE, InstrumentKind.PE):
        for strike in strikes(reference, row.strike_interval):
            yield contract(kind, strike, f"{_plain(strike)} {kind}")


def synthetic_token(number: int, expiry: date, kind: InstrumentKind, strike: Decimal | None) -> str:
    """Return a token that is unique among generated contracts: 16 digits, where an exchange's
    has at most six.

    The exchanges number contracts as they list them, which no rule gives; a broker's instrument
    list brings the real numbers.
    """
    code = {InstrumentKind.FUT: 0, InstrumentKind.CE: 1, InstrumentKind.PE: 2}[kind]
    return f"9{expiry:%y%m%d}{number:02d}{code}{int(strike or 0):06d}"


def _plain(strike: Decimal | None) -> str:
    """Return a strike without trailing zeros: ``24500``, ``192.5``."""
    return f"{(strike or Decimal(0)).normalize():f}"
