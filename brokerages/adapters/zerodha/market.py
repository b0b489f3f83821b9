"""Kite's quotes, candles, ticks and instrument list in our words. Pure.

Source: https://kite.trade/docs/connect/v3/market-quotes/, historical/ and websocket/.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from brokerages.adapters.zerodha.mapping import TRADED, listed_symbol, symbol_of
from brokerages.adapters.zerodha.values import BROKER, moment, price, price_or_none, whole
from brokerages.base import IST
from brokerages.errors import InvalidOrder
from brokerages.types import (
    BookLevel,
    Candle,
    CandleInterval,
    Exchange,
    InstrumentKind,
    InstrumentRecord,
    InstrumentRef,
    Quote,
    QuoteDepth,
    Segment,
    Tick,
)

QUOTES_AT_ONCE = {QuoteDepth.FULL: 500, QuoteDepth.OHLC: 1000, QuoteDepth.LTP: 1000}

# Our interval: Kite's word, and the most days in one request (the lower of the published figures).
INTERVALS = {
    CandleInterval.MINUTE: ("minute", 30),
    CandleInterval.MINUTES_3: ("3minute", 90),
    CandleInterval.MINUTES_5: ("5minute", 90),
    CandleInterval.MINUTES_15: ("15minute", 180),
    CandleInterval.MINUTES_30: ("30minute", 180),
    CandleInterval.HOUR: ("60minute", 365),
    CandleInterval.DAY: ("day", 2000),
}

# Kite's instrument_token is exchange token × 256 + the number of the segment.
_SEGMENT_IDS = {Exchange.NSE: 1, Exchange.NFO: 2, Exchange.BSE: 4, Exchange.BFO: 5}

# The name under which an index's contracts are listed.
_UNDERLYINGS = {
    "NIFTY 50": "NIFTY",
    "NIFTY BANK": "BANKNIFTY",
    "NIFTY FIN SERVICE": "FINNIFTY",
    "NIFTY MID SELECT": "MIDCPNIFTY",
    "NIFTY NEXT 50": "NIFTYNXT50",
    "SENSEX": "SENSEX",
    "BANKEX": "BANKEX",
    "SNSX50": "SENSEX50",
}
_COLUMNS = {"instrument_token", "exchange_token", "tradingsymbol", "segment", "exchange"}
_EPOCH = 1970
_DERIVATIVES = {Exchange.NFO, Exchange.BFO}
_KINDS = {
    "FUT": InstrumentKind.FUT,
    "CE": InstrumentKind.CE,
    "PE": InstrumentKind.PE,
}


# --- Quotes ---------------------------------------------------------------------------------------


def quote_key(instrument: InstrumentRef) -> str:
    """Return the name by which quotes are asked for, e.g. ``NSE:NIFTY 50``."""
    return f"{instrument.exchange}:{symbol_of(instrument)}"


def quote_of(instrument: InstrumentRef, row: Mapping[str, Any], now: datetime) -> Quote | None:
    """Read one entry of ``/quote``, ``/quote/ohlc`` or ``/quote/ltp``; None if it never traded.

    Only ``/quote`` has a time; ``now`` stands in for it. ``ohlc.close`` is the previous day's.
    Books of the same second have the same ``sequence``: Kite does not number them.
    """
    last = price_or_none(row["last_price"])
    if last is None:
        return None
    at = moment(row.get("timestamp")) or now
    ohlc, depth = row.get("ohlc") or {}, row.get("depth") or {}
    return Quote(
        instrument_id=instrument.id,
        last_price=last,
        at=at,
        source=BROKER,
        open=price_or_none(ohlc.get("open")),
        high=price_or_none(ohlc.get("high")),
        low=price_or_none(ohlc.get("low")),
        previous_close=price_or_none(ohlc.get("close")),
        volume=whole(row.get("volume") or 0),
        open_interest=_open_interest(instrument, row),
        bids=_levels(depth.get("buy")),
        asks=_levels(depth.get("sell")),
        lower_circuit=price_or_none(row.get("lower_circuit_limit")),
        upper_circuit=price_or_none(row.get("upper_circuit_limit")),
        sequence=int(at.timestamp()),
    )


def tick_of(instrument: InstrumentRef, row: Mapping[str, Any], now: datetime) -> Tick | None:
    """Read one tick as the SDK decodes it; None if there is no price in it.

    The SDK divides the wire's whole numbers by a power of ten, so its floats name them exactly.
    Its times are naive in this machine's zone; modes without a time get ``now``.
    """
    last = price_or_none(row["last_price"])
    if last is None:
        return None
    stamp = row.get("exchange_timestamp")
    if not isinstance(stamp, datetime) or stamp.year <= _EPOCH:  # 0 on the wire: no time yet
        at = now
    else:
        at = stamp.astimezone(now.tzinfo)
    volume = whole(row.get("volume_traded") or 0)
    quote = None
    if "ohlc" in row:
        ohlc, depth = row["ohlc"], row.get("depth") or {}
        quote = Quote(
            instrument_id=instrument.id,
            last_price=last,
            at=at,
            source=BROKER,
            open=price_or_none(ohlc.get("open")),
            high=price_or_none(ohlc.get("high")),
            low=price_or_none(ohlc.get("low")),
            previous_close=price_or_none(ohlc.get("close")),
            volume=volume,
            open_interest=_open_interest(instrument, row),
            bids=_levels(depth.get("buy")),
            asks=_levels(depth.get("sell")),
            sequence=int(at.timestamp()),
        )
    return Tick(instrument.id, last, at, volume, BROKER, quote)


def _levels(rows: Any) -> tuple[BookLevel, ...]:
    """Return the book's side without the zeros that fill it up to five."""
    return tuple(
        BookLevel(price(row["price"]), whole(row["quantity"]), whole(row.get("orders") or 0))
        for row in rows or ()
        if row["quantity"] and row["price"]
    )


def _open_interest(instrument: InstrumentRef, row: Mapping[str, Any]) -> int | None:
    if instrument.exchange not in _DERIVATIVES or row.get("oi") is None:
        return None
    return whole(row["oi"])


# --- Candles --------------------------------------------------------------------------------------


def instrument_token(instrument: InstrumentRef) -> int:
    """Return Kite's number of an instrument, for candles and streams.

    Raises:
        InvalidOrder: neither Kite's number nor the exchange's is known.
    """
    if instrument.broker_token.isdecimal():
        return int(instrument.broker_token)
    segment = _SEGMENT_IDS.get(instrument.exchange)
    is_index = instrument.kind is InstrumentKind.INDEX  # numbered by Kite alone
    if segment is None or is_index or not instrument.exchange_token.isdecimal():
        raise InvalidOrder(
            f"Zerodha's number of {instrument.key} is not known; load its instrument list first.",
            broker=BROKER,
            code="no_instrument_token",
        )
    return int(instrument.exchange_token) * 256 + segment


def spans(start: datetime, end: datetime, days: int) -> Iterator[tuple[datetime, datetime]]:
    """Cut ``start`` (included) to ``end`` (not included) into requests of at most ``days`` days,
    at midnights in India so that no candle is cut. Yields naive IST times; Kite includes both.
    """
    first, last = start.astimezone(IST), end.astimezone(IST)
    while first < last:
        midnight = datetime.combine(first.date() + timedelta(days=days), time(), IST)
        stop = min(midnight, last)
        until = stop - timedelta(microseconds=1)
        yield _second(first, up=True), _second(until, up=False)
        first = stop


def candles(rows: Iterable[Mapping[str, Any]], start: datetime, end: datetime) -> list[Candle]:
    """Read the SDK's candles: those that start in the span, oldest first, each once."""
    found: dict[datetime, Candle] = {}
    for row in rows:
        at = moment(row["date"])
        if at is None or not start <= at < end:
            continue
        open_interest = row.get("oi")
        found[at] = Candle(
            start=at,
            open=price(row["open"]),
            high=price(row["high"]),
            low=price(row["low"]),
            close=price(row["close"]),
            volume=whole(row["volume"]),
            open_interest=None if open_interest is None else whole(open_interest),
        )
    return [found[at] for at in sorted(found)]


def _second(at: datetime, *, up: bool) -> datetime:
    naive = at.replace(tzinfo=None)
    if up and naive.microsecond:
        naive += timedelta(seconds=1)
    return naive.replace(microsecond=0)


# --- Instruments ----------------------------------------------------------------------------------


def instrument_rows(data: bytes | str) -> Iterator[dict[str, str]]:
    """Read the CSV of ``GET /instruments/{exchange}`` as it stands.

    Raises:
        ValueError: not such a list.
    """
    text = data.decode("utf-8") if isinstance(data, bytes) else data
    reader = csv.DictReader(io.StringIO(text))
    if _COLUMNS - set(reader.fieldnames or ()):
        raise ValueError("not an instrument list")
    return reader


def instrument_records(rows: Iterable[Mapping[str, Any]]) -> Iterator[InstrumentRecord]:
    """Read instrument rows; those that our vocabulary cannot name, or that make no sense, are left
    out: one of them must not hide the rest.
    """
    for row in rows:
        try:
            record = _record(row)
        except (KeyError, TypeError, ValueError):
            continue
        if record is not None:
            yield record


def _record(row: Mapping[str, Any]) -> InstrumentRecord | None:
    if row["exchange"] not in TRADED:
        return None
    exchange, symbol = Exchange(row["exchange"]), str(row["tradingsymbol"])
    token, name = str(whole(row["instrument_token"])), str(row.get("name") or "").strip()
    terms: dict[str, Any] = {
        "exchange": exchange,
        "symbol": symbol,
        "broker_symbol": symbol,
        "broker_token": token,
        "exchange_token": str(row["exchange_token"]),
        "name": name,
    }
    tick = price(row["tick_size"])
    if row["segment"] == "INDICES":
        return InstrumentRecord(
            **terms,
            segment=Segment.INDEX,
            kind=InstrumentKind.INDEX,
            tick_size=tick or Decimal("0.05"),
            underlying=_UNDERLYINGS.get(symbol, ""),
        )
    lot = whole(row["lot_size"])
    if not symbol or tick <= 0 or lot <= 0:
        return None
    terms |= {"tick_size": tick, "lot_size": lot}
    if exchange not in _DERIVATIVES:
        if row["instrument_type"] != "EQ":
            return None
        terms["symbol"] = listed_symbol(exchange, symbol)
        return InstrumentRecord(**terms, segment=Segment.EQUITY, kind=InstrumentKind.EQ)
    kind = _KINDS[row["instrument_type"]]
    expiry = row["expiry"]
    strike = None if kind is InstrumentKind.FUT else price(row["strike"])
    if not name or (strike is not None and strike <= 0):
        return None
    return InstrumentRecord(
        **terms,
        segment=Segment.EQUITY_DERIVATIVES,
        kind=kind,
        expiry=expiry if isinstance(expiry, date) else date.fromisoformat(expiry),
        strike=strike,
        underlying=name,
    )


def by_key(instruments: Sequence[InstrumentRef]) -> dict[str, list[InstrumentRef]]:
    """Return instruments by the name that quotes are asked and answered for."""
    found: dict[str, list[InstrumentRef]] = {}
    for instrument in instruments:
        found.setdefault(quote_key(instrument), []).append(instrument)
    return found
