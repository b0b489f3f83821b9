"""Upstox's market data ↔ ours: quotes, candles, instruments, the feed. Pure Python.

Prices are rupees per unit; the instrument list alone writes ticks in paise and expiries in epoch
milliseconds. Source: https://upstox.com/developer/api-documentation/
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from brokerages.adapters.upstox.refusals import BROKER
from brokerages.adapters.upstox.values import (
    Row,
    amount,
    date_of_millis,
    decimal,
    from_millis,
    moment,
    price,
    read_json,
    record,
    required,
    rows,
    text,
    units,
)
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

LEVELS = 5

# --- Quotes ---------------------------------------------------------------------------------------


def parse_quotes(
    data: Any, wanted: Mapping[str, InstrumentRef], depth: QuoteDepth, now: datetime
) -> list[Quote]:
    """Read the quotes of the instruments in ``wanted`` (by key).

    The answer is keyed by another spelling than the question; rows say in ``instrument_token`` what
    they are of. An instrument without a price is left out. Only the full quote says when it is of.
    """
    read = {QuoteDepth.LTP: _ltp, QuoteDepth.OHLC: _ohlc, QuoteDepth.FULL: _full}[depth]
    quotes = []
    for row in record(data).values():
        instrument = wanted.get(text(record(row), "instrument_token"))
        last = price(row, "last_price")
        if instrument is not None and last is not None:
            quotes.append(read(row, instrument.id, last, now))
    return quotes


def _ltp(row: Row, instrument_id: int, last: Decimal, now: datetime) -> Quote:
    return Quote(
        instrument_id=instrument_id,
        last_price=last,
        at=now,
        source=BROKER,
        previous_close=price(row, "cp"),
        volume=units(row, "volume"),
        sequence=_millis(now),
    )


def _ohlc(row: Row, instrument_id: int, last: Decimal, now: datetime) -> Quote:
    live, before = record(row.get("live_ohlc") or {}), record(row.get("prev_ohlc") or {})
    return Quote(
        instrument_id=instrument_id,
        last_price=last,
        at=now,
        source=BROKER,
        open=price(live, "open"),
        high=price(live, "high"),
        low=price(live, "low"),
        previous_close=price(before, "close"),
        volume=units(live, "volume"),
        sequence=_millis(now),
    )


def _full(row: Row, instrument_id: int, last: Decimal, now: datetime) -> Quote:
    day, depth = record(row.get("ohlc") or {}), record(row.get("depth") or {})
    close = price(row, "prev_close_price")
    if close is None and row.get("net_change") is not None:
        close = last - amount(row, "net_change")  # the running day's own close is its last price
    at = moment(row.get("timestamp")) or now
    return Quote(
        instrument_id=instrument_id,
        last_price=last,
        at=at,
        source=BROKER,
        open=price(day, "open"),
        high=price(day, "high"),
        low=price(day, "low"),
        previous_close=close,
        volume=units(row, "volume"),
        open_interest=units(row, "oi") if row.get("oi") else None,
        bids=_levels(depth.get("buy")),
        asks=_levels(depth.get("sell")),
        lower_circuit=price(row, "lower_circuit_limit"),
        upper_circuit=price(row, "upper_circuit_limit"),
        sequence=_millis(at),
    )


def _levels(side: Any) -> tuple[BookLevel, ...]:
    levels = [
        BookLevel(level, units(row, "quantity"), units(row, "orders"))
        for row in rows(side)
        if (level := price(row, "price"))
    ]
    return tuple(levels[:LEVELS])


def _millis(at: datetime) -> int:
    return int(at.timestamp() * 1000)


# --- Candles --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Step:
    """How one interval is asked for. ``days`` is how many days, both ends counted, one call may
    span (None: no limit); ``today`` tells whether the running day has a call of its own.
    """

    unit: str
    count: int
    days: int | None
    today: bool = True


# One call spans a month, a quarter or ten years: the days are of the shortest such span.
STEPS = {
    CandleInterval.MINUTE: Step("minutes", 1, 28),
    CandleInterval.MINUTES_3: Step("minutes", 3, 28),
    CandleInterval.MINUTES_5: Step("minutes", 5, 28),
    CandleInterval.MINUTES_15: Step("minutes", 15, 28),
    CandleInterval.MINUTES_30: Step("minutes", 30, 89),
    CandleInterval.HOUR: Step("hours", 1, 89),
    CandleInterval.DAY: Step("days", 1, 3650),
    CandleInterval.WEEK: Step("weeks", 1, None, today=False),
    CandleInterval.MONTH: Step("months", 1, None, today=False),
}


def history_spans(step: Step, first: date, last: date) -> Iterator[tuple[date, date]]:
    """Yield (from, to) of the calls that cover the days from ``first`` to ``last``, both counted,
    without gap or overlap.
    """
    while first <= last:
        to = last if step.days is None else min(last, first + timedelta(days=step.days - 1))
        yield first, to
        first = to + timedelta(days=1)


def parse_candles(data: Any) -> list[Candle]:
    """Read candles; the broker lists them newest first."""
    listed = record(data).get("candles")
    if listed is None:
        return []
    if not isinstance(listed, list):
        raise ValueError("candles are no list")
    candles = []
    for row in listed:
        if not isinstance(row, list) or len(row) < 6:
            raise ValueError("a candle has at least six columns")
        start = moment(row[0])
        if start is None:
            raise ValueError("a candle without a time")
        opened, high, low, close = (decimal(value) for value in row[1:5])
        interest = int(decimal(row[6])) if len(row) > 6 and row[6] else None
        candles.append(Candle(start, opened, high, low, close, int(decimal(row[5])), interest))
    return candles


def joined(candles: Iterable[Candle], start: datetime, end: datetime) -> list[Candle]:
    """Return the candles of [``start``, ``end``), oldest first, each once (the later read wins)."""
    found = {candle.start: candle for candle in candles if start <= candle.start < end}
    return [found[at] for at in sorted(found)]


# --- Instruments ----------------------------------------------------------------------------------

_SEGMENTS: dict[str, tuple[Exchange, Segment]] = {
    "NSE_EQ": (Exchange.NSE, Segment.EQUITY),
    "BSE_EQ": (Exchange.BSE, Segment.EQUITY),
    "NSE_INDEX": (Exchange.NSE, Segment.INDEX),
    "BSE_INDEX": (Exchange.BSE, Segment.INDEX),
    "NSE_FO": (Exchange.NFO, Segment.EQUITY_DERIVATIVES),
    "BSE_FO": (Exchange.BFO, Segment.EQUITY_DERIVATIVES),
    "NCD_FO": (Exchange.CDS, Segment.CURRENCY),
    "MCX_FO": (Exchange.MCX, Segment.COMMODITY),
}
_KINDS = {
    "FUT": InstrumentKind.FUT,
    "CE": InstrumentKind.CE,
    "PE": InstrumentKind.PE,
}
# Shares: NSE's series and BSE's groups that trade like shares. Bonds, gold bonds, government
# securities and the like have other codes and are left out.
_SHARE_TYPES = frozenset({"EQ", "BE", "BZ", "SM", "ST", "A", "B", "T", "X", "XT", "Z", "M", "MT"})
# What contracts on an index call it.
_UNDERLYINGS = {
    "NIFTY 50": "NIFTY",
    "NIFTY BANK": "BANKNIFTY",
    "NIFTY FIN SERVICE": "FINNIFTY",
    "NIFTY MID SELECT": "MIDCPNIFTY",
    "NIFTY NEXT 50": "NIFTYNXT50",
    "SENSEX": "SENSEX",
    "BANKEX": "BANKEX",
}
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_WEEKLY_MONTHS = "123456789OND"


def parse_instrument(row: Row) -> InstrumentRecord | None:
    """Read one row of the instrument list; None for what our vocabulary does not name."""
    place = _SEGMENTS.get(text(row, "segment"))
    if place is None:
        return None
    exchange, segment = place
    key, word = required(row, "instrument_key"), text(row, "instrument_type")
    common: dict[str, Any] = {
        "exchange": exchange,
        "segment": segment,
        "broker_symbol": required(row, "trading_symbol"),
        "broker_token": key,
        "exchange_token": text(row, "exchange_token"),
        "name": text(row, "name"),
    }
    if segment is Segment.INDEX:
        symbol = key.partition("|")[2].upper()
        return InstrumentRecord(
            **common,
            kind=InstrumentKind.INDEX,
            symbol=symbol,
            underlying=_UNDERLYINGS.get(symbol, ""),
        )
    common |= {"tick_size": amount(row, "tick_size") / 100, "lot_size": units(row, "lot_size") or 1}
    if common["tick_size"] <= 0:
        return None
    freeze = units(row, "freeze_quantity") or None
    if segment is Segment.EQUITY:
        if word not in _SHARE_TYPES:
            return None
        return InstrumentRecord(
            **common,
            kind=InstrumentKind.EQ,
            symbol=required(row, "trading_symbol"),
            isin=text(row, "isin"),
            freeze_quantity=freeze,
        )
    if (kind := _KINDS.get(word)) is None:
        return None
    underlying = text(row, "underlying_symbol") or required(row, "asset_symbol")
    expiry = date_of_millis(row.get("expiry"))
    strike = None if kind is InstrumentKind.FUT else decimal(row.get("strike_price"))
    weekly = row.get("weekly") is True
    return InstrumentRecord(
        **common,
        kind=kind,
        symbol=contract_symbol(underlying, expiry, strike, kind, weekly=weekly),
        freeze_quantity=freeze,
        expiry=expiry,
        strike=strike,
        underlying=underlying,
    )


def contract_symbol(
    underlying: str, expiry: date, strike: Decimal | None, kind: InstrumentKind, *, weekly: bool
) -> str:
    """Return the exchange's symbol, e.g. ``NIFTY26SEPFUT``, ``NIFTY26SEP25000CE``, and of a weekly
    ``NIFTY2692223250PE``; the list has a longer one.
    """
    month = _MONTHS[expiry.month - 1]
    if weekly:
        month = f"{_WEEKLY_MONTHS[expiry.month - 1]}{expiry:%d}"
    level = "" if strike is None else f"{strike.normalize():f}"
    return f"{underlying}{expiry:%y}{month}{level}{kind}"


def rows_of_list(chunks: Iterable[bytes]) -> Iterator[Row]:
    """Yield the objects of a JSON array that arrives in pieces, without holding all of it.

    Raises:
        ValueError: not an array of objects, or cut off.
    """
    decoder = json.JSONDecoder(parse_float=Decimal)
    buffer, pending, at = b"", "", 0
    opened = done = False
    for piece in chunks:
        buffer += piece
        try:
            pending, buffer = pending[at:] + buffer.decode(), b""
        except UnicodeDecodeError as e:
            if len(buffer) - e.start > 3:
                raise  # not merely a character that the pieces have split
            pending, buffer = pending[at:] + buffer[: e.start].decode(), buffer[e.start :]
        at = 0
        while True:
            at = _skip(pending, at)
            if done or at >= len(pending):
                break
            if not opened:
                if pending[at] != "[":
                    raise ValueError("not a list")
                opened, at = True, at + 1
                continue
            if pending[at] == ",":
                at += 1
                continue
            if pending[at] == "]":
                done = True
                break
            try:
                row, at = decoder.raw_decode(pending, at)
            except ValueError:
                if len(pending) - at > 65_536:
                    raise
                break  # the rest of the row is in the next piece
            yield record(row)
    if not done:
        raise ValueError("the list is cut off")


def _skip(pending: str, at: int) -> int:
    while at < len(pending) and pending[at].isspace():
        at += 1
    return at


# --- The feed -------------------------------------------------------------------------------------

MODES = {QuoteDepth.LTP: "ltpc", QuoteDepth.OHLC: "full", QuoteDepth.FULL: "full"}


def feed_request(method: str, keys: Sequence[str], guid: str, mode: str = "") -> bytes:
    """Return a frame for the feed: ``method`` is sub, unsub or change_mode."""
    data: dict[str, Any] = {"instrumentKeys": list(keys)}
    if mode:
        data["mode"] = mode
    return json.dumps({"guid": guid, "method": method, "data": data}).encode()


def parse_feed(message: Any, wanted: Mapping[str, InstrumentRef]) -> list[Tick]:
    """Read one decoded ``FeedResponse``; instruments that nobody asked for are left out.

    A field that is missing is zero. A row without a last price says nothing and is left out.
    """
    sent_at = from_millis(message.currentTs) if message.currentTs else None
    ticks = []
    for key, feed in message.feeds.items():
        if (instrument := wanted.get(key)) and (tick := _tick(instrument.id, feed, sent_at)):
            ticks.append(tick)
    return ticks


def _tick(instrument_id: int, feed: Any, sent_at: datetime | None) -> Tick | None:
    which = feed.WhichOneof("FeedUnion")
    full, body = None, feed
    if which == "fullFeed":
        full = feed.fullFeed.WhichOneof("FullFeedUnion")
        if full is None:
            return None
        body = getattr(feed.fullFeed, full)
    elif which == "firstLevelWithGreeks":
        body = feed.firstLevelWithGreeks
    last = decimal(body.ltpc.ltp)
    traded_at = from_millis(body.ltpc.ltt) if body.ltpc.ltt > 0 else None
    at = sent_at or traded_at
    if not last or at is None:
        return None
    volume = int(body.vtt) if full == "marketFF" or which == "firstLevelWithGreeks" else 0
    quote = None
    if full is not None:
        day = next((bar for bar in body.marketOHLC.ohlc if bar.interval == "1d"), None)
        levels = list(body.marketLevel.bidAskQuote)[:LEVELS] if full == "marketFF" else []
        quote = Quote(
            instrument_id=instrument_id,
            last_price=last,
            at=at,
            source=BROKER,
            open=_double(day.open) if day else None,
            high=_double(day.high) if day else None,
            low=_double(day.low) if day else None,
            previous_close=_double(body.ltpc.cp),
            volume=volume,
            open_interest=(int(body.oi) or None) if full == "marketFF" else None,
            bids=tuple(BookLevel(p, int(q.bidQ)) for q in levels if (p := _double(q.bidP))),
            asks=tuple(BookLevel(p, int(q.askQ)) for q in levels if (p := _double(q.askP))),
            sequence=_millis(at),
        )
    return Tick(instrument_id, last, at, volume, BROKER, quote)


def _double(value: float) -> Decimal | None:
    return decimal(value) or None


def parse_message(text_frame: str) -> Row:
    """Read one frame of the portfolio stream."""
    return record(read_json(text_frame))
