"""What is asked of an instrument's history, read strictly."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any

import msgspec
from rest_framework.exceptions import ValidationError

from brokerages.types import CandleInterval
from marketdata.calendar import IST
from marketdata.inputs import instrument_asked
from marketdata.sources.base import Listing

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=60)]

OLDEST = date(1990, 1, 1)
MOST_CANDLES = 100_000  # of one answer
DAY_MINUTES = 375  # of one session
WORDS = {
    **{interval.value: interval for interval in CandleInterval},
    "minute": CandleInterval.MINUTE,
    "1minute": CandleInterval.MINUTE,
    "3minute": CandleInterval.MINUTES_3,
    "5minute": CandleInterval.MINUTES_5,
    "15minute": CandleInterval.MINUTES_15,
    "30minute": CandleInterval.MINUTES_30,
    "60minute": CandleInterval.HOUR,
    "hour": CandleInterval.HOUR,
    "1h": CandleInterval.HOUR,
    "day": CandleInterval.DAY,
    "week": CandleInterval.WEEK,
    "month": CandleInterval.MONTH,
}
"""The words for an interval: the platform's own, and those that brokers use."""
_MINUTES = {
    CandleInterval.MINUTE: 1,
    CandleInterval.MINUTES_3: 3,
    CandleInterval.MINUTES_5: 5,
    CandleInterval.MINUTES_15: 15,
    CandleInterval.MINUTES_30: 30,
    CandleInterval.HOUR: 60,
}


class HistoryInput(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a history request."""

    interval: str
    from_date: Text
    to_date: Text
    symbol: Text | None = None
    exchange_token: Text | int | None = None
    exchange: Text | None = None
    instrument_type: Text | None = None


@dataclass(frozen=True, slots=True)
class HistoryAsked:
    """Candles of ``listing`` (None: no such instrument) that start in [start, end), aware UTC."""

    name: str
    listing: Listing | None
    interval: CandleInterval
    start: datetime
    end: datetime


def history_asked(body: Any, now: datetime) -> HistoryAsked:
    """Read the body of a history request.

    Raises:
        ValidationError: a field is missing or wrong, or the span has too many candles.
    """
    if not isinstance(body, dict):
        raise ValidationError(["An object is needed."])
    try:
        asked = msgspec.convert(body, HistoryInput)
    except msgspec.ValidationError as e:
        raise ValidationError([str(e)]) from e
    interval = WORDS.get(asked.interval.lower())
    if interval is None:
        raise ValidationError({"interval": [f"Must be one of {', '.join(WORDS)}."]})
    start, _ = _moment("from_date", asked.from_date)
    last, whole_day = _moment("to_date", asked.to_date)
    if start > last:
        raise ValidationError({"from_date": ["Must not be after to_date."]})
    # both ends belong to the span: a date as a whole day, a time as the candle that starts then
    end = last + (timedelta(days=1) if whole_day else timedelta(seconds=1))
    end = min(end, now + timedelta(seconds=1))
    minutes = _MINUTES.get(interval)
    if minutes is not None:
        days = max((end - start).days, 0) * 5 // 7 + 1
        if days * DAY_MINUTES // minutes > MOST_CANDLES:
            raise ValidationError(
                {"from_date": [f"The span has more than {MOST_CANDLES} candles; ask for less."]}
            )
    name, listing = instrument_asked(
        asked.symbol, asked.exchange_token, asked.exchange, asked.instrument_type
    )
    return HistoryAsked(name, listing, interval, start, end)


def _moment(name: str, text: str) -> tuple[datetime, bool]:
    """Return a date or a time as aware UTC (without an offset it is Indian time), and whether it
    was a date.
    """
    try:
        if len(text) == len("2025-01-01"):
            day, moment = date.fromisoformat(text), None
        else:
            moment = datetime.fromisoformat(text)
            day = moment.date()
    except ValueError:
        raise ValidationError(
            {name: ["Must be a date such as 2025-01-29, or a time such as 2025-01-29 09:15:00."]}
        ) from None
    if not OLDEST <= day <= date(2100, 1, 1):
        raise ValidationError({name: [f"Must be between {OLDEST} and 2100-01-01."]})
    if moment is None:
        return datetime.combine(day, time(), IST).astimezone(UTC), True
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=IST)
    return aware.astimezone(UTC), False
