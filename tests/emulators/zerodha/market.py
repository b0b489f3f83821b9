"""Quotes, candles and the instruments file."""

from __future__ import annotations

import csv
import gzip
import io
from datetime import datetime, time, timedelta
from decimal import Decimal
from typing import Any

from tests.emulators.core.clock import IST
from tests.emulators.core.dialect import Call, Dialect, route
from tests.emulators.core.instruments import Instrument
from tests.emulators.core.market import LEVELS, Book, Level, candles
from tests.emulators.core.messages import Response
from tests.emulators.zerodha.orders import one_of
from tests.emulators.zerodha.words import (
    EXCHANGES,
    BadInput,
    error,
    exchange_token,
    number,
    segment_of,
    stamp,
    success,
    token_of,
)

# interval: (minutes, None for days; most days of one request)
INTERVALS: dict[str, tuple[int | None, int]] = {
    "minute": (1, 60),
    "3minute": (3, 100),
    "5minute": (5, 100),
    "10minute": (10, 100),
    "15minute": (15, 200),
    "30minute": (30, 200),
    "60minute": (60, 400),
    "day": (None, 2000),
}
COLUMNS = (
    "instrument_token", "exchange_token", "tradingsymbol", "name", "last_price", "expiry", "strike",
    "tick_size", "lot_size", "instrument_type", "segment", "exchange",
)  # fmt: skip


def depth(levels: list[Level]) -> list[dict[str, Any]]:
    """Return five rows, filled up with zeros."""
    rows: list[dict[str, Any]] = [
        {"price": number(level.price), "quantity": level.quantity, "orders": level.orders}
        for level in levels[:LEVELS]
    ]
    rows += [{"price": 0, "quantity": 0, "orders": 0}] * (LEVELS - len(rows))
    return rows


def ohlc(book: Book) -> dict[str, Any]:
    return {
        "open": number(book.open),
        "high": number(book.high),
        "low": number(book.low),
        "close": number(book.close),
    }


class Market(Dialect):
    """Market data of the emulated Kite. ``by_token`` finds instruments by Kite's numbers."""

    by_token: dict[int, Instrument]

    # --- Quotes -----------------------------------------------------------------------------------

    @route("GET", "/quote", group="quote")
    def quote(self, call: Call) -> Response:
        return success({key: self._full(book) for key, book in self._asked(call, 500)})

    @route("GET", "/quote/ohlc", group="quote")
    def quote_ohlc(self, call: Call) -> Response:
        return success(
            {
                key: {
                    "instrument_token": token_of(book.instrument),
                    "last_price": number(book.last),
                    "ohlc": ohlc(book),
                }
                for key, book in self._asked(call, 1000)
            }
        )

    @route("GET", "/quote/ltp", group="quote")
    def quote_ltp(self, call: Call) -> Response:
        return success(
            {
                key: {
                    "instrument_token": token_of(book.instrument),
                    "last_price": number(book.last),
                }
                for key, book in self._asked(call, 1000)
            }
        )

    @route("GET", "/instruments/trigger_range/{transaction_type}", group="quote")
    def trigger_range(self, call: Call) -> Response:
        one_of(call.params, "transaction_type", ("buy", "sell"))
        return success(
            {
                key: {
                    "instrument_token": token_of(book.instrument),
                    "lower": number(book.instrument.lower_circuit),
                    "upper": number(book.instrument.upper_circuit),
                }
                for key, book in self._asked(call, 500)
            }
        )

    def _asked(self, call: Call, most: int) -> list[tuple[str, Book]]:
        """Return the books of the query's instruments; those that are not listed are left out.
        Numbers are taken for tokens.
        """
        keys = call.request.all("i")
        if len(keys) > most:
            raise BadInput(f"Too many instruments: at most {most}.")
        found = []
        for key in keys:
            instrument = self.exchange.instruments.get(key)
            if instrument is None and key.isdigit():
                instrument = self.by_token.get(int(key))
            if instrument is not None:
                found.append((key, self.exchange.book(instrument)))
        return found

    def _full(self, book: Book) -> dict[str, Any]:
        instrument = book.instrument
        derived = instrument.is_derivative
        return {
            "instrument_token": token_of(instrument),
            "timestamp": stamp(book.at),
            "last_trade_time": stamp(book.at),
            "last_price": number(book.last),
            "last_quantity": book.last_quantity,
            "buy_quantity": sum(level.quantity for level in book.bids),
            "sell_quantity": sum(level.quantity for level in book.asks),
            "volume": book.volume,
            "average_price": number(Decimal(0) if instrument.is_index else book.average),
            "oi": book.open_interest if derived else 0,
            "oi_day_high": book.open_interest if derived else 0,
            "oi_day_low": book.open_interest if derived else 0,
            "net_change": number(book.last - book.close),
            "lower_circuit_limit": number(instrument.lower_circuit),
            "upper_circuit_limit": number(instrument.upper_circuit),
            "ohlc": ohlc(book),
            "depth": {"buy": depth(book.bids), "sell": depth(book.asks)},
        }

    # --- Candles ----------------------------------------------------------------------------------

    @route("GET", "/instruments/historical/{token}/{interval}", group="historical")
    def historical(self, call: Call) -> Response:
        query, interval = call.request.query, call.params["interval"]
        if interval not in INTERVALS:
            raise BadInput("Invalid `interval`.")
        minutes, most_days = INTERVALS[interval]
        token = call.params["token"]
        instrument = self.by_token.get(int(token)) if token.isdigit() else None
        if instrument is None:
            raise BadInput("Invalid `instrument_token`.")
        start, end = (
            self._moment(query, "from", time()),
            self._moment(query, "to", time(23, 59, 59)),
        )
        if end < start:
            raise BadInput("`from` date cannot be after `to` date.")
        if end - start > timedelta(days=most_days):
            raise BadInput(f"interval exceeds max limit: {most_days} days")
        if query.get("continuous") == "1" and (instrument.kind != "FUT" or minutes is not None):
            raise BadInput("Invalid `continuous`.")
        with_interest = query.get("oi") == "1"
        rows = []
        now = self.clock.now()
        for one in candles(instrument, minutes, start, min(end, now), seed=self.exchange.seed):
            row: list[Any] = [
                one.start.strftime("%Y-%m-%dT%H:%M:%S%z"),
                one.open, one.high, one.low, one.close, one.volume,
            ]  # fmt: skip
            rows.append([*row, one.open_interest] if with_interest else row)
        return success({"candles": rows})

    def _moment(self, query: dict[str, str], name: str, day_time: time) -> datetime:
        text = query.get(name, "")
        try:
            if len(text) == 10:
                return datetime.combine(datetime.fromisoformat(text).date(), day_time, IST)
            return datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=IST)
        except ValueError:
            raise BadInput(f"Invalid `{name}` date.") from None

    # --- Instruments ------------------------------------------------------------------------------

    @route("GET", "/instruments", group="other")
    def instruments(self, call: Call) -> Response:
        return self._file(call, list(self.exchange.instruments.values()))

    @route("GET", "/instruments/{exchange}", group="other")
    def instruments_of(self, call: Call) -> Response:
        name = call.params["exchange"]
        if name not in EXCHANGES:
            return error(400, "InputException", "Invalid `exchange`.")
        listed = self.exchange.instruments.values()
        return self._file(call, [one for one in listed if one.exchange == name])

    def _file(self, call: Call, listed: list[Instrument]) -> Response:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        for one in listed:
            writer.writerow(
                (
                    token_of(one), exchange_token(one), one.symbol,
                    one.underlying if one.is_derivative else one.name,
                    0, one.expiry.isoformat() if one.expiry else "", _short(one.strike),
                    _short(one.tick), one.lot, one.kind if one.is_derivative else "EQ",
                    segment_of(one), one.exchange,
                )
            )  # fmt: skip
        body, headers = text.getvalue().encode(), {}
        if "gzip" in call.request.headers.get("accept-encoding", ""):
            body, headers = gzip.compress(body), {"Content-Encoding": "gzip"}
        return Response(200, body, "text/csv", headers)


def _short(value: Decimal | None) -> str:
    return f"{value.normalize():f}" if value else "0"


__all__ = ["INTERVALS", "Market", "depth", "ohlc"]
