"""Quotes, candles, the instrument list, calendar and status."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import groupby
from typing import Any

from tests.emulators.core.clock import IST
from tests.emulators.core.dialect import Call, Dialect, route
from tests.emulators.core.instruments import Instrument
from tests.emulators.core.market import SESSION, Book, CandleRow, Level, candles
from tests.emulators.core.messages import Response, dump
from tests.emulators.upstox.words import (
    Wrong,
    answer_key,
    is_weekly,
    key_of,
    long_symbol,
    millis,
    number,
    segment_of,
    success,
)

ZERO = Decimal(0)
MOST_KEYS = 500
LEVELS = 5
# unit: (counts, months that one call may span; None: no limit)
UNITS: dict[str, tuple[range, int | None]] = {
    "minutes": (range(1, 301), 1),
    "hours": (range(1, 6), 3),
    "days": (range(1, 2), 120),
    "weeks": (range(1, 2), None),
    "months": (range(1, 2), None),
}
LONG_MINUTES, LONG_MONTHS = 15, 3  # above 15 minutes a call spans a quarter
V3_ALONE = frozenset(
    {
        "prev_close_price",
        "year_high",
        "year_low",
        "previous_oi",
        "cas_eligible",
    }
)
STATUS_EXCHANGES = ("NSE", "NFO", "CDS", "BSE", "BFO", "BCD", "MCX")


class Market(Dialect):
    """Market data of the emulated Upstox. ``holidays``: day → description."""

    by_key: dict[str, Instrument]
    holidays: dict[date, str]

    # --- Quotes -----------------------------------------------------------------------------------

    @route("GET", "/v3/market-quote/ltp", group="ltp")
    def ltp(self, call: Call) -> Response:
        return success(
            {
                answer_key(book.instrument): {
                    "last_price": number(book.last),
                    "instrument_token": key_of(book.instrument),
                    "ltq": book.last_quantity,
                    "volume": book.volume,
                    "cp": number(book.close),
                }
                for book in self._asked(call)
            }
        )

    @route("GET", "/v3/market-quote/ohlc", group="ohlc")
    def ohlc(self, call: Call) -> Response:
        if call.request.query.get("interval") not in ("1d", "I1", "I30"):
            raise Wrong("UDAPI100036", "Invalid Input: interval")
        return success(
            {
                answer_key(book.instrument): {
                    "last_price": number(book.last),
                    "instrument_token": key_of(book.instrument),
                    "prev_ohlc": None,
                    "live_ohlc": _bar(book) | {"volume": book.volume, "ts": millis(book.at)},
                }
                for book in self._asked(call)
            }
        )

    @route("GET", "/v3/market-quote/quotes", group="quotes")
    def quotes(self, call: Call) -> Response:
        return success({answer_key(b.instrument): self._full(b) for b in self._asked(call)})

    @route("GET", "/v2/market-quote/quotes", group="quotes")
    def quotes_v2(self, call: Call) -> Response:
        return success(
            {
                answer_key(book.instrument): {
                    name: value for name, value in self._full(book).items() if name not in V3_ALONE
                }
                for book in self._asked(call)
            }
        )

    def _asked(self, call: Call) -> list[Book]:
        """Return the books of the query's instruments. Those that are not listed are left out."""
        query = call.request.query
        keys = [k for k in (query.get("instrument_key") or query.get("symbol", "")).split(",") if k]
        if not keys:
            raise Wrong("UDAPI1026", "The 'instrument_key' is required")
        if len(keys) > MOST_KEYS:
            raise Wrong("UDAPI100042", "At most 500 instruments")
        if any("|" not in key for key in keys):
            raise Wrong("UDAPI1087", "One of the instrument keys is invalid")
        return [self.exchange.book(self.by_key[key]) for key in keys if key in self.by_key]

    def _full(self, book: Book) -> dict[str, Any]:
        instrument = book.instrument
        interest = book.open_interest if instrument.is_derivative else 0
        return {
            "ohlc": _bar(book),
            "depth": {"buy": _depth(book.bids), "sell": _depth(book.asks)},
            "timestamp": book.at.astimezone(IST).isoformat(timespec="milliseconds"),
            "instrument_token": key_of(instrument),
            "symbol": instrument.symbol,
            "last_price": number(book.last),
            "volume": book.volume,
            "average_price": number(book.average),
            "oi": interest,
            "net_change": number(book.last - book.close),
            "total_buy_quantity": sum(level.quantity for level in book.bids),
            "total_sell_quantity": sum(level.quantity for level in book.asks),
            "lower_circuit_limit": number(instrument.lower_circuit),
            "upper_circuit_limit": number(instrument.upper_circuit),
            "last_trade_time": str(millis(book.at)),
            "oi_day_high": interest,
            "oi_day_low": interest,
            "prev_close_price": number(book.close),
            "year_high": number(book.high),
            "year_low": number(book.low),
            "previous_oi": interest,
            "cas_eligible": False,
        }

    # --- Candles ----------------------------------------------------------------------------------

    @route("GET", "/v3/historical-candle/{key}/{unit}/{interval}/{to}", group="candles", open=True)
    def history_to(self, call: Call) -> Response:
        to = _day(call.params["to"])
        return self._history(call, to, to)

    @route(
        "GET",
        "/v3/historical-candle/{key}/{unit}/{interval}/{to}/{since}",
        group="candles",
        open=True,
    )
    def history_between(self, call: Call) -> Response:
        return self._history(call, _day(call.params["since"]), _day(call.params["to"]))

    def _history(self, call: Call, since: date, to: date) -> Response:
        """Answer what is history: not the running day, but of weeks and months the running one."""
        unit, count, instrument = self._step(call)
        months = UNITS[unit][1]
        if unit == "minutes" and count > LONG_MINUTES:
            months = LONG_MONTHS
        if since > to or (months is not None and since < _months_before(to, months)):
            raise Wrong("UDAPI1148", "Invalid date range")
        today = self.clock.local().date()
        last = min(to, today - timedelta(days=1))
        start, end = datetime.combine(since, time(), IST), datetime.combine(last, time.max, IST)
        return _candles(self._rows(instrument, unit, count, start, end))

    @route(
        "GET",
        "/v3/historical-candle/intraday/{key}/{unit}/{interval}",
        group="candles",
        open=True,
    )
    def today(self, call: Call) -> Response:
        unit, count, instrument = self._step(call)
        if unit not in ("minutes", "hours", "days"):
            raise Wrong("UDAPI1146", "Invalid unit")
        now = self.clock.local()
        start = datetime.combine(now.date(), time(), IST)
        return _candles(self._rows(instrument, unit, count, start, now))

    def _step(self, call: Call) -> tuple[str, int, Instrument]:
        unit, interval = call.params["unit"], call.params["interval"]
        if unit not in UNITS:
            raise Wrong("UDAPI1146", "Invalid unit")
        if not interval.isdigit() or int(interval) not in UNITS[unit][0]:
            raise Wrong("UDAPI1147", "Invalid interval")
        instrument = self.by_key.get(call.params["key"])
        if instrument is None:
            raise Wrong("UDAPI100011", "Invalid Instrument key")
        return unit, int(interval), instrument

    def _rows(
        self, instrument: Instrument, unit: str, count: int, start: datetime, end: datetime
    ) -> Iterable[CandleRow]:
        minutes = {"minutes": count, "hours": 60 * count}.get(unit)
        rows = candles(
            instrument,
            minutes,
            start,
            end,
            seed=self.exchange.seed,
            closed=self.holidays.__contains__,
        )
        if unit in ("weeks", "months"):
            return _joined(rows, unit)
        return rows

    # --- Instruments ------------------------------------------------------------------------------

    @route("GET", "/market-quote/instruments/exchange/{file}", open=True)
    def instruments(self, call: Call) -> Response:
        name = call.params["file"].removesuffix(".json.gz")
        if name not in ("complete", "NSE", "BSE", "MCX") or name == call.params["file"]:
            return self.not_found(call.request)
        rows = [_listed(one) for one in self.exchange.instruments.values()]
        if name != "complete":
            rows = [row for row in rows if row["exchange"] == name]
        return Response(200, gzip.compress(dump(rows), mtime=0), "application/gzip")

    # --- Calendar ---------------------------------------------------------------------------------

    @route("GET", "/v2/market/holidays", open=True)
    def all_holidays(self, call: Call) -> Response:
        return success([_holiday(day, text) for day, text in sorted(self.holidays.items())])

    @route("GET", "/v2/market/holidays/{day}", open=True)
    def one_holiday(self, call: Call) -> Response:
        day = _day(call.params["day"])
        found = [(day, self.holidays[day])] if day in self.holidays else []
        return success([_holiday(*pair) for pair in found])

    @route("GET", "/v2/market/timings/{day}", open=True)
    def timings(self, call: Call) -> Response:
        day = _day(call.params["day"])
        if day.weekday() >= 5 or day in self.holidays:
            return success([])
        opens, closes = (millis(datetime.combine(day, at, IST)) for at in SESSION)
        return success(
            [{"exchange": e, "start_time": opens, "end_time": closes} for e in STATUS_EXCHANGES]
        )

    @route("GET", "/v2/market/status/{exchange}", group="status")
    def status(self, call: Call) -> Response:
        name = call.params["exchange"]
        if name not in STATUS_EXCHANGES:
            raise Wrong("UDAPI100036", "Invalid Input: exchange")
        word = "NORMAL_OPEN" if self.exchange.market_open else "NORMAL_CLOSE"
        at = millis(self.clock.now())
        return success({"exchange": name, "status": word, "last_updated": at})


def _bar(book: Book) -> dict[str, Any]:
    """Return the running day; its close is the latest price."""
    return {
        "open": number(book.open),
        "high": number(book.high),
        "low": number(book.low),
        "close": number(book.last),
    }


def _depth(levels: list[Level]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [
        {"quantity": level.quantity, "price": number(level.price), "orders": level.orders}
        for level in levels[:LEVELS]
    ]
    return rows + [{"quantity": 0, "price": 0, "orders": 0}] * (LEVELS - len(rows))


def _day(text: str) -> date:
    try:
        if len(text) != 10:
            raise ValueError(text)
        return date.fromisoformat(text)
    except ValueError:
        raise Wrong("UDAPI1088", "Invalid date: it is YYYY-MM-DD") from None


def _months_before(day: date, months: int) -> date:
    year, month = divmod(day.year * 12 + day.month - 1 - months, 12)
    last = (date(year + (month == 11), (month + 1) % 12 + 1, 1) - timedelta(days=1)).day
    return date(year, month + 1, min(day.day, last))


def _candles(rows: Iterable[CandleRow]) -> Response:
    """Return candles as the broker lists them: newest first."""
    listed = [
        [
            row.start.isoformat(),
            number(row.open),
            number(row.high),
            number(row.low),
            number(row.close),
            row.volume,
            row.open_interest,
        ]
        for row in rows
    ]
    return success({"candles": listed[::-1]})


def _joined(days: Iterable[CandleRow], unit: str) -> Iterator[CandleRow]:
    """Yield weeks (from Monday) or months of days; each is filed under its first day."""

    def first(row: CandleRow) -> datetime:
        if unit == "months":
            return row.start.replace(day=1)
        return row.start - timedelta(days=row.start.weekday())

    for start, group in groupby(days, first):
        part = list(group)
        yield CandleRow(
            start,
            part[0].open,
            max(row.high for row in part),
            min(row.low for row in part),
            part[-1].close,
            sum(row.volume for row in part),
            part[-1].open_interest,
        )


def _listed(one: Instrument) -> dict[str, Any]:
    """Return one row of the instrument list: ticks in paise, expiries in milliseconds."""
    row: dict[str, Any] = {
        "segment": segment_of(one),
        "name": one.name,
        "exchange": {"NFO": "NSE", "CDS": "NSE", "BFO": "BSE"}.get(one.exchange, one.exchange),
        "instrument_type": one.kind,
        "instrument_key": key_of(one),
        "exchange_token": str(one.token),
        "trading_symbol": long_symbol(one),
    }
    if one.is_index:
        return row
    row |= {
        "lot_size": one.lot,
        "freeze_quantity": number(Decimal(one.freeze or 100_000)),
        "tick_size": number(one.tick * 100),
        "qty_multiplier": Decimal("1"),
    }
    if not one.is_derivative:
        return row | {"isin": one.isin, "short_name": one.symbol, "security_type": "NORMAL"}
    assert one.expiry is not None
    row |= {
        "expiry": millis(datetime.combine(one.expiry, time(23, 59, 59), IST)),
        "minimum_lot": one.lot,
        "weekly": is_weekly(one),
        "underlying_symbol": one.underlying,
        "underlying_type": "INDEX",
        "asset_symbol": one.underlying,
        "asset_type": "INDEX",
    }
    return row if one.strike is None else row | {"strike_price": number(one.strike)}


def _holiday(day: date, text: str) -> dict[str, Any]:
    return {
        "date": day.isoformat(),
        "description": text,
        "holiday_type": "TRADING_HOLIDAY",
        "closed_exchanges": list(STATUS_EXCHANGES),
        "open_exchanges": [],
    }
