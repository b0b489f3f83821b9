"""Contracts by rule: expiries of 2026 with their holidays, symbols, lots and ticks."""

from datetime import date
from decimal import Decimal
from itertools import pairwise

import pytest

from brokerages.types import InstrumentKind
from marketdata import bundled
from marketdata.calendar import SessionGroup
from marketdata.contracts import (
    Expiry,
    contract_symbol,
    contracts,
    expiries,
    monthly_expiry,
    strikes,
    tick_size,
)
from tests.marketdata.helpers import calendar

CALENDAR = calendar()
REFERENCES = {
    "NIFTY": Decimal(24800),
    "BANKNIFTY": Decimal(55300),
    "FINNIFTY": Decimal(26300),
    "MIDCPNIFTY": Decimal(13000),
    "SENSEX": Decimal(81200),
}
TUESDAY, THURSDAY = 2, 4


def closed(day: date) -> bool:
    return CALENDAR.is_expiry_day_closed(SessionGroup.EQUITY_DERIVATIVES, day)


def listed(today: date) -> dict[str, object]:
    found = contracts(bundled.contract_terms(), bundled.tick_bands(), REFERENCES, today, closed)
    return {contract.symbol: contract for contract in found}


@pytest.mark.parametrize(
    ("month", "day"),
    [
        (1, 27), (2, 24), (3, 30), (4, 28), (5, 26), (6, 30), (7, 28), (8, 25), (9, 29), (10, 27),
        (11, 23), (12, 29),
    ],
)  # fmt: skip
def test_monthly_expiries_at_nse(month, day):
    """Last Tuesday; 31 March and 24 November are holidays, so the day before."""
    assert monthly_expiry(2026, month, TUESDAY, closed) == date(2026, month, day)


@pytest.mark.parametrize(("month", "day"), [(3, 25), (5, 27), (11, 26), (12, 31)])
def test_monthly_expiries_at_bse(month, day):
    """Last Thursday; 26 March and 28 May are holidays."""
    assert monthly_expiry(2026, month, THURSDAY, closed) == date(2026, month, day)


def test_expiries_beyond_the_calendar_avoid_national_holidays():
    assert monthly_expiry(2027, 1, TUESDAY, closed) == date(2027, 1, 25)


def test_weekly_expiries_are_moved_back_too():
    days = [expiry.day for expiry in expiries(TUESDAY, True, date(2026, 11, 4), closed)]

    assert days == [date(2026, 11, 9), date(2026, 11, 17), date(2026, 11, 23), date(2026, 12, 29)]


def test_an_expiry_is_listed_on_its_day_and_gone_the_day_after():
    on = expiries(TUESDAY, True, date(2026, 11, 23), closed)
    after = expiries(TUESDAY, True, date(2026, 11, 24), closed)

    assert on[0] == Expiry(date(2026, 11, 23), True)
    assert [x.day for x in on] == [
        date(2026, 11, 23), date(2026, 12, 1), date(2026, 12, 8), date(2026, 12, 29),
    ]  # fmt: skip
    assert [x.day for x in after] == [
        date(2026, 12, 1), date(2026, 12, 8), date(2026, 12, 29), date(2027, 1, 25),
    ]  # fmt: skip


def test_an_underlying_without_weeks_has_two_months():
    assert [x.monthly for x in expiries(TUESDAY, False, date(2026, 6, 1), closed)] == [True, True]


def test_symbols():
    monthly, weekly = Expiry(date(2026, 11, 23), True), Expiry(date(2026, 12, 1), False)
    strike = Decimal(24500)

    assert contract_symbol("NIFTY", monthly, InstrumentKind.FUT) == "NIFTY26NOVFUT"
    assert contract_symbol("NIFTY", monthly, InstrumentKind.CE, strike) == "NIFTY26NOV24500CE"
    assert contract_symbol("NIFTY", weekly, InstrumentKind.PE, strike) == "NIFTY26D0124500PE"
    june = Expiry(date(2026, 6, 9), False)
    assert (
        contract_symbol("NIFTY", june, InstrumentKind.CE, Decimal("192.5")) == "NIFTY26609192.5CE"
    )


def test_todays_contracts():
    found = listed(date(2026, 11, 23))

    future, call = found["NIFTY26NOVFUT"], found["NIFTY26D0124500CE"]
    assert (future.expiry, future.lot_size, future.freeze_quantity) == (
        date(2026, 11, 23),
        65,
        1800,
    )
    assert (call.strike, call.expiry, call.tick_size) == (24500, date(2026, 12, 1), Decimal("0.05"))
    assert found["SENSEX26NOVFUT"].expiry == date(2026, 11, 26)
    assert {x.exchange for x in found.values() if x.underlying == "SENSEX"} == {"BFO"}
    lots = {x.underlying: x.lot_size for x in found.values()}
    assert lots == {
        "NIFTY": 65, "BANKNIFTY": 30, "FINNIFTY": 60, "MIDCPNIFTY": 120, "SENSEX": 20,
    }  # fmt: skip
    assert len({x.exchange_token for x in found.values()}) == len(found)
    assert all(not closed(x.expiry) for x in found.values())


def test_a_lot_belongs_to_the_contract_not_to_the_underlying():
    found = listed(date(2025, 12, 29)).values()  # both lot sizes were listed at once

    lots = {x.expiry: x.lot_size for x in found if x.underlying == "NIFTY"}
    assert lots[date(2025, 12, 30)] == 75
    assert lots[date(2026, 1, 6)] == lots[date(2026, 1, 27)] == 65


def test_strikes_surround_the_reference():
    found = strikes(Decimal(24800), Decimal(50))

    assert found[0] < 22900
    assert found[-1] > 26700
    assert {b - a for a, b in pairwise(found)} == {Decimal(50)}


@pytest.mark.parametrize(
    ("kind", "price", "tick"),
    [
        ("EQ", "249.99", "0.01"), ("EQ", "250", "0.05"), ("EQ", "1000", "0.05"),
        ("EQ", "1000.05", "0.10"), ("EQ", "5000", "0.10"), ("EQ", "5000.10", "0.50"),
        ("EQ", "10000", "0.50"), ("EQ", "10000.50", "1"), ("EQ", "20000", "1"),
        ("EQ", "20001", "5"),
        ("FUT", "15000", "0.05"), ("FUT", "15000.05", "0.10"), ("FUT", "30000", "0.10"),
        ("FUT", "30000.10", "0.20"), ("CE", "81200", "0.05"), ("PE", "0.05", "0.05"),
    ],
)  # fmt: skip
def test_ticks_by_price_band(kind, price, tick):
    found = tick_size(
        bundled.tick_bands(), InstrumentKind(kind), Decimal(price), date(2026, 11, 23)
    )

    assert found == Decimal(tick)


def test_no_tick_before_the_first_row():
    with pytest.raises(LookupError):
        tick_size(bundled.tick_bands(), InstrumentKind.EQ, Decimal(100), date(2025, 4, 14))
