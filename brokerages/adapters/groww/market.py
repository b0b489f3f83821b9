"""Groww's instruments, quotes and candles in our words. Pure Python.

A quote names its instrument ``NSE_RELIANCE``, a candle request ``NSE-RELIANCE``, the feed by the
exchange's number; contracts are spelt differently in each. None of them is built here: the
instrument file has all three, and we keep the last two together as the broker's token
(``2885/NSE-RELIANCE``).

Sources: https://groww.in/trade-api/docs/python-sdk (live-data, backtesting, instruments)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from brokerages.adapters.groww.answers import BROKER
from brokerages.adapters.groww.mapping import (
    EXCHANGES,
    IST,
    ZERO,
    amount,
    moment,
    optional,
    positive,
    symbol_of,
    units,
    venue_of,
)
from brokerages.errors import NotSupported
from brokerages.types import (
    BookLevel,
    Candle,
    CandleInterval,
    Exchange,
    InstrumentKind,
    InstrumentRecord,
    InstrumentRef,
    Quote,
    Segment,
)

KEYS_A_CALL = 50
LEVELS = 5
BAD_TRADE_TIME = 100_000_000_000  # above it, an epoch time is in milliseconds

KINDS = {
    "EQ": InstrumentKind.EQ,
    "IDX": InstrumentKind.INDEX,
    "FUT": InstrumentKind.FUT,
    "CE": InstrumentKind.CE,
    "PE": InstrumentKind.PE,
}
OPTIONS = frozenset({InstrumentKind.CE, InstrumentKind.PE})
SEGMENTS = {"CASH": Segment.EQUITY, "FNO": Segment.EQUITY_DERIVATIVES}
# The exchange's names of indices that Groww names otherwise.
INDEX_NAMES = {
    "NIFTY": "NIFTY 50",
    "BANKNIFTY": "NIFTY BANK",
    "FINNIFTY": "NIFTY FIN SERVICE",
    "NIFTYMIDSELECT": "NIFTY MID SELECT",
    "NIFTYJR": "NIFTY NEXT 50",
    "INDIAVIX": "INDIA VIX",
}
UNDERLYINGS = {"NIFTYMIDSELECT": "MIDCPNIFTY"}

# Interval → (Groww's word, the most days that one request may ask for).
INTERVALS = {
    CandleInterval.MINUTE: ("1minute", 30),
    CandleInterval.MINUTES_3: ("3minute", 30),
    CandleInterval.MINUTES_5: ("5minute", 30),
    CandleInterval.MINUTES_15: ("15minute", 90),
    CandleInterval.MINUTES_30: ("30minute", 90),
    CandleInterval.HOUR: ("1hour", 180),
    CandleInterval.DAY: ("1day", 180),
    CandleInterval.WEEK: ("1week", 180),
    CandleInterval.MONTH: ("1month", 180),
}
FIRST_DAY = datetime(2020, 1, 1, tzinfo=IST)  # there is nothing older


# --- Names ----------------------------------------------------------------------------------------


def quote_key(instrument: InstrumentRef) -> str:
    """Return the name in quotes, e.g. ``NSE_RELIANCE``."""
    return f"{venue_of(instrument)[0]}_{symbol_of(instrument)}"


def feed_token(instrument: InstrumentRef) -> str:
    """Return the number in the subjects of the feed."""
    token = instrument.broker_token.partition("/")[0] or instrument.exchange_token
    if not token:
        raise _unlisted(instrument)
    return token


def groww_symbol(instrument: InstrumentRef) -> str:
    """Return the name in candle requests, e.g. ``NSE-NIFTY-30Sep25-24650-CE``."""
    exchange, segment = venue_of(instrument)
    name = instrument.broker_token.partition("/")[2]
    if not name and segment == "CASH":
        name = f"{exchange}-{symbol_of(instrument)}"  # shares and indices are always named so
    if not name:
        raise _unlisted(instrument)
    return name


def by_segment(instruments: Iterable[InstrumentRef]) -> dict[str, list[InstrumentRef]]:
    """Return the instruments by Groww's segment: a quote request asks for one."""
    found: dict[str, list[InstrumentRef]] = {}
    for instrument in instruments:
        found.setdefault(venue_of(instrument)[1], []).append(instrument)
    return found


def chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


# --- Quotes ---------------------------------------------------------------------------------------


def ltp_quote(
    instrument: InstrumentRef,
    last: Any,
    bar: Any,
    now: datetime,
) -> Quote | None:
    """Return a quote of a last price and, where it was asked for, today's bar, or None without a
    price.

    Groww states no time with either: it is ``now``. The close of the bar is not documented as
    yesterday's and is left out.
    """
    price = positive(last)
    if price is None:
        return None
    day = ohlc(bar)
    return Quote(
        instrument_id=instrument.id,
        last_price=price,
        at=now,
        source=BROKER,
        open=day.get("open"),
        high=day.get("high"),
        low=day.get("low"),
    )


def full_quote(
    instrument: InstrumentRef, payload: Mapping[str, Any], now: datetime
) -> Quote | None:
    """Return a quote with depth; None without a last price. Any field may be null."""
    price = positive(payload.get("last_price"))
    if price is None:
        return None
    day, change = ohlc(payload.get("ohlc")), optional(payload.get("day_change"))
    depth = payload.get("depth") or {}
    interest = payload.get("open_interest")
    derivative = instrument.segment is not Segment.EQUITY and interest is not None
    return Quote(
        instrument_id=instrument.id,
        last_price=price,
        at=trade_time(payload.get("last_trade_time"), now),
        source=BROKER,
        open=day.get("open"),
        high=day.get("high"),
        low=day.get("low"),
        previous_close=None if change is None else price - change,
        volume=units(payload.get("volume")),
        open_interest=units(interest) if derivative else None,
        bids=levels(depth.get("buy")),
        asks=levels(depth.get("sell")),
        lower_circuit=positive(payload.get("lower_circuit_limit")),
        upper_circuit=positive(payload.get("upper_circuit_limit")),
    )


def ohlc(bar: Any) -> dict[str, Decimal]:
    """Read a bar that is an object or, as Groww's REST pages show it, a text like
    ``{open: 149.5,high: 150.5}``. Zero and null stand for nothing.
    """
    if isinstance(bar, str):
        bar = dict(re.findall(r"(open|high|low|close)\W+(\d+(?:\.\d+)?)", bar))
    if not isinstance(bar, Mapping):
        return {}
    read = {name: positive(bar.get(name)) for name in ("open", "high", "low", "close")}
    return {name: value for name, value in read.items() if value is not None}


def levels(rows: Any) -> tuple[BookLevel, ...]:
    found = []
    for row in rows or ():
        price, quantity = positive(row.get("price")), units(row.get("quantity"))
        if price is not None and quantity > 0:
            found.append(BookLevel(price, quantity, units(row.get("orderCount"))))
    return tuple(found[:LEVELS])


def trade_time(value: Any, now: datetime) -> datetime:
    """Read an epoch time: the documents say milliseconds, seconds have been seen too."""
    number = units(value)
    if number <= 0:
        return now
    seconds = number / 1000 if number > BAD_TRADE_TIME else number
    return datetime.fromtimestamp(seconds, UTC)


# --- Candles --------------------------------------------------------------------------------------


def spans(
    interval: CandleInterval, start: datetime, end: datetime
) -> Iterator[tuple[datetime, datetime]]:
    """Yield the parts of [``start``, ``end``) that one request may ask for, oldest first."""
    length = timedelta(days=INTERVALS[interval][1])
    start = max(start, FIRST_DAY)
    while start < end:
        stop = min(start + length, end)
        yield start, stop
        start = stop


def candle_time(at: datetime) -> str:
    return at.astimezone(IST).strftime("%Y-%m-%d %H:%M:%S")


def parse_candles(payload: Mapping[str, Any]) -> list[Candle]:
    """Read rows of ``[time, open, high, low, close, volume, open interest or null]``. Rows without
    prices are no candles.
    """
    found = []
    for row in payload["candles"] or ():
        prices = [positive(value) for value in row[1:5]]
        if len(prices) < 4 or None in prices:
            continue
        opened, high, low, close = (price for price in prices if price is not None)
        interest = row[6] if len(row) > 6 else None
        found.append(
            Candle(
                start=_candle_start(row[0]),
                open=opened,
                high=high,
                low=low,
                close=close,
                volume=units(row[5]),
                open_interest=None if interest is None else units(interest),
            )
        )
    return found


def within(candles: Iterable[Candle], start: datetime, end: datetime) -> list[Candle]:
    """Return candles that start in [``start``, ``end``), each once, oldest first."""
    found = {candle.start: candle for candle in candles if start <= candle.start < end}
    return [found[at] for at in sorted(found)]


def _candle_start(value: Any) -> datetime:
    return moment(value) if isinstance(value, str) else datetime.fromtimestamp(units(value), UTC)


# --- Instruments ----------------------------------------------------------------------------------


def parse_instruments(rows: Iterable[Mapping[str, str]]) -> Iterator[InstrumentRecord]:
    """Read rows of the instrument file by column name. Left out: test contracts, rows without a
    symbol, what is not offered for trading (commodities), and rows that do not make sense.
    """
    for row in rows:
        record = _record(row)
        if record is not None:
            yield record


def _record(row: Mapping[str, str]) -> InstrumentRecord | None:
    text = {name: (value or "").strip() for name, value in row.items() if name}
    symbol, name = text.get("trading_symbol", ""), text.get("name", "")
    kind = KINDS.get(text.get("instrument_type", ""))
    venue = text.get("exchange", ""), text.get("segment", "")
    exchange = EXCHANGES.get(venue)
    if not symbol or kind is None or exchange is None or venue[1] not in SEGMENTS:
        return None
    if "NSETEST" in symbol or "NSETEST" in name.replace(" ", ""):
        return None
    try:
        return _read_record(text, exchange, kind, symbol, name)
    except (ValueError, InvalidOperation):
        return None


def _read_record(
    text: Mapping[str, str], exchange: Exchange, kind: InstrumentKind, symbol: str, name: str
) -> InstrumentRecord:
    is_index, token = kind is InstrumentKind.INDEX, text.get("exchange_token", "")
    underlying = text.get("underlying_symbol", "") or (symbol if is_index else "")
    expiry = text.get("expiry_date", "")
    freeze = _number(text.get("freeze_quantity", ""))
    tick = _number(text.get("tick_size", ""))
    return InstrumentRecord(
        exchange=exchange,
        segment=Segment.INDEX if is_index else SEGMENTS[text["segment"]],
        kind=kind,
        symbol=INDEX_NAMES.get(symbol, symbol) if is_index else symbol,
        broker_symbol=symbol,
        broker_token=f"{token}/{text.get('groww_symbol', '')}",
        exchange_token=token if token.isdigit() else "",
        name=name,
        isin=text.get("isin", ""),
        tick_size=tick if tick > 0 else Decimal("0.05"),
        lot_size=max(int(_number(text.get("lot_size", ""))), 1),
        freeze_quantity=int(freeze) if freeze > 0 else None,
        expiry=date.fromisoformat(expiry) if expiry else None,
        strike=amount(text["strike_price"]) if kind in OPTIONS else None,
        underlying=UNDERLYINGS.get(underlying, underlying),
    )


def _number(text: str) -> Decimal:
    return amount(text) if text else ZERO


def _unlisted(instrument: InstrumentRef) -> NotSupported:
    return NotSupported(
        f"Groww's name of {instrument.key} is not known; read its instrument list first.",
        broker=BROKER,
        code="instrument_unlisted",
    )
