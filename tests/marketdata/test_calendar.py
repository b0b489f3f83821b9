"""Sessions at their boundaries, holidays, special days, and days that nobody has published."""

from datetime import UTC, date, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketdata.calendar import IST, Calendar, Phase, SessionGroup, SessionRow, trading_date
from tests.marketdata.helpers import calendar

CALENDAR = calendar()
EQUITY, FNO = SessionGroup.EQUITY, SessionGroup.EQUITY_FNO
DERIVATIVES, COMMODITY = SessionGroup.EQUITY_DERIVATIVES, SessionGroup.COMMODITY
HOLIDAYS = [
    (1, 15), (1, 26), (3, 3), (3, 26), (3, 31), (4, 3), (4, 14), (5, 1), (5, 28), (6, 26), (9, 14),
    (10, 2), (10, 20), (11, 10), (11, 24), (12, 25),
]  # fmt: skip


def ist(day: date, clock: str) -> datetime:
    return datetime.combine(day, time.fromisoformat(clock), IST)


@pytest.mark.parametrize(
    ("group", "day", "clock", "is_open"),
    [
        (EQUITY, date(2026, 7, 31), "09:14:59", False),
        (EQUITY, date(2026, 7, 31), "09:15:00", True),
        (EQUITY, date(2026, 7, 31), "15:29:59", True),
        (EQUITY, date(2026, 7, 31), "15:30:00", False),
        # the closing auction began on 2026-08-03: only for shares with derivatives
        (FNO, date(2026, 7, 31), "15:20:00", True),
        (FNO, date(2026, 8, 3), "15:14:59", True),
        (FNO, date(2026, 8, 3), "15:15:00", False),
        (EQUITY, date(2026, 8, 3), "15:20:00", True),
        (EQUITY, date(2026, 8, 3), "15:30:00", False),
        # derivatives go on to 15:40 from the same day
        (DERIVATIVES, date(2026, 7, 31), "15:29:59", True),
        (DERIVATIVES, date(2026, 7, 31), "15:30:00", False),
        (DERIVATIVES, date(2026, 8, 3), "15:39:59", True),
        (DERIVATIVES, date(2026, 8, 3), "15:40:00", False),
        # commodities follow US summer time
        (COMMODITY, date(2026, 3, 6), "23:54:59", True),
        (COMMODITY, date(2026, 3, 9), "23:29:59", True),
        (COMMODITY, date(2026, 3, 9), "23:30:00", False),
        (COMMODITY, date(2026, 10, 30), "23:30:00", False),
        (COMMODITY, date(2026, 11, 2), "23:54:59", True),
        # the budget Sunday is a normal day; the Sundays beside it are not
        (EQUITY, date(2026, 2, 1), "10:00:00", True),
        (DERIVATIVES, date(2026, 2, 1), "15:29:59", True),
        (EQUITY, date(2026, 2, 8), "10:00:00", False),
        # the election holiday closed commodities for the morning only
        (EQUITY, date(2026, 1, 15), "10:00:00", False),
        (COMMODITY, date(2026, 1, 15), "16:59:59", False),
        (COMMODITY, date(2026, 1, 15), "17:00:00", True),
        # the time of Muhurat trading is not known
        (EQUITY, date(2026, 11, 8), "18:30:00", False),
        # unknown days are closed
        (EQUITY, date(2026, 12, 31), "10:00:00", True),
        (EQUITY, date(2027, 1, 4), "10:00:00", False),
        (EQUITY, date(2025, 12, 31), "10:00:00", False),
        (SessionGroup.CURRENCY, date(2026, 7, 31), "10:00:00", False),
    ],
)
def test_open_at_the_boundaries(group, day, clock, is_open):
    assert CALENDAR.is_open(group, ist(day, clock)) is is_open


@pytest.mark.parametrize(("month", "day"), HOLIDAYS)
def test_holidays_are_closed(month, day):
    for group in (EQUITY, FNO, DERIVATIVES, SessionGroup.INDEX):
        assert CALENDAR.session_bounds(group, date(2026, month, day)) is None


def test_the_year_has_its_trading_days():
    days = [date(2026, 1, 1) + timedelta(days=n) for n in range(365)]
    weekdays = {day for day in days if day.isoweekday() <= 5}
    closed = {date(2026, month, day) for month, day in HOLIDAYS}

    traded = {day for day in days if CALENDAR.session_bounds(EQUITY, day)}

    assert traded == (weekdays - closed) | {date(2026, 2, 1)}


@pytest.mark.parametrize(
    ("day", "clock", "phase"),
    [
        (date(2026, 9, 4), "09:07:59", Phase.PRE_OPEN),
        (date(2026, 9, 4), "09:08:00", Phase.PRE_OPEN_MATCHING),
        (date(2026, 9, 7), "09:04:59", Phase.PRE_OPEN),
        (date(2026, 9, 7), "09:05:00", Phase.PRE_OPEN_LIMIT),
        (date(2026, 9, 7), "09:10:00", Phase.PRE_OPEN_MATCHING),
        (date(2026, 9, 7), "15:15:00", Phase.CLOSING_REFERENCE),
        (date(2026, 9, 7), "15:20:00", Phase.CLOSING_AUCTION),
        (date(2026, 9, 7), "15:25:00", Phase.CLOSING_AUCTION_LIMIT),
        (date(2026, 9, 7), "15:30:00", Phase.CLOSING_MATCHING),
        (date(2026, 9, 7), "15:35:00", Phase.CLOSED),
        (date(2026, 9, 7), "15:49:59", Phase.CLOSED),
        (date(2026, 9, 7), "15:50:00", Phase.POST_CLOSE),
        (date(2026, 7, 31), "15:40:00", Phase.POST_CLOSE),
        (date(2026, 9, 7), "16:00:00", Phase.CLOSED),
    ],
)
def test_phases_of_a_share_with_derivatives(day, clock, phase):
    assert CALENDAR.phase_at(FNO, ist(day, clock)) is phase


@given(
    at=st.datetimes(datetime(2025, 6, 1), datetime(2027, 12, 31), timezones=st.just(UTC)),
    group=st.sampled_from(SessionGroup),
)
def test_open_means_inside_the_bounds_of_that_day(at, group):
    day = trading_date(at)
    bounds = CALENDAR.session_bounds(group, day)

    assert CALENDAR.is_open(group, at) is (bounds is not None and bounds[0] <= at < bounds[1])
    if day.year != 2026:
        assert bounds is None


def test_an_added_day_wins_over_the_weekday_rows():
    closed = SessionRow(
        "ALL", Phase.CLOSED, None, None, date(2026, 12, 7), date(2026, 12, 7), "1234567", True
    )
    added = Calendar([*CALENDAR.rows, closed])

    assert not added.is_open(EQUITY, ist(date(2026, 12, 7), "10:00:00"))
    assert added.is_open(EQUITY, ist(date(2026, 12, 8), "10:00:00"))
    assert added.holidays(date(2026, 12, 1), date(2026, 12, 31))[0].day == date(2026, 12, 7)


def test_neighbouring_sessions():
    friday_evening = ist(date(2026, 11, 20), "18:00:00")
    monday = date(2026, 11, 23)

    assert CALENDAR.last_session(DERIVATIVES, friday_evening)[0] == date(2026, 11, 20)
    assert CALENDAR.next_session(DERIVATIVES, friday_evening) == CALENDAR.session_bounds(
        DERIVATIVES, monday
    )
    noon = ist(monday, "12:00:00")
    assert CALENDAR.next_session(DERIVATIVES, noon) == CALENDAR.session_bounds(DERIVATIVES, monday)
    # Tuesday 24 November is a holiday
    after = CALENDAR.next_session(DERIVATIVES, ist(monday, "16:00:00"))
    assert trading_date(after[0]) == date(2026, 11, 25)
    assert CALENDAR.next_session(DERIVATIVES, ist(date(2027, 3, 1), "10:00:00")) is None


def test_how_far_the_calendar_goes():
    assert CALENDAR.known_until(EQUITY) == date(2026, 12, 31)
    assert CALENDAR.known_until(SessionGroup.CURRENCY) is None
