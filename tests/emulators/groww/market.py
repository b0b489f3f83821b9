"""Live data, history, option chains, and the instrument file."""

from __future__ import annotations

import csv
import io
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from tests.emulators.core.clock import IST
from tests.emulators.core.dialect import Call, route
from tests.emulators.core.instruments import Instrument
from tests.emulators.core.market import Book, candles
from tests.emulators.core.messages import Response
from tests.emulators.core.orders import Reason, Refusal
from tests.emulators.groww.portfolio import Portfolio
from tests.emulators.groww.words import groww_symbol, success, symbol, token, venue

MOST_KEYS = 50
# Word → (minutes of a candle, None for days; the most days of one request).
INTERVALS = {
    "1minute": (1, 30), "2minute": (2, 30), "3minute": (3, 30), "5minute": (5, 30),
    "10minute": (10, 90), "15minute": (15, 90), "30minute": (30, 90), "1hour": (60, 180),
    "4hour": (240, 180), "1day": (None, 180), "1week": (None, 180), "1month": (None, 180),
}  # fmt: skip
COLUMNS = (
    "exchange", "exchange_token", "trading_symbol", "groww_symbol", "name", "instrument_type",
    "segment", "series", "isin", "underlying_symbol", "underlying_exchange_token", "expiry_date",
    "strike_price", "lot_size", "tick_size", "freeze_quantity", "is_reserved", "buy_allowed",
    "sell_allowed", "internal_trading_symbol", "is_intraday",
)  # fmt: skip
GREEKS = {"delta": 0.52, "gamma": 0.0012, "theta": -9.1, "vega": 10.3, "rho": 2.1, "iv": 11.8}


class Market(Portfolio):
    @route("GET", "/v1/live-data/quote", group="live")
    def quote(self, call: Call) -> Response:
        query = call.request.query
        instrument = self.listed(query["exchange"], query["segment"], query["trading_symbol"])
        return success(self._quote(self.exchange.book(instrument)))

    @route("GET", "/v1/live-data/ltp", group="live")
    def ltp(self, call: Call) -> Response:
        return success({key: book.last for key, book in self._asked(call).items()})

    @route("GET", "/v1/live-data/ohlc", group="live")
    def ohlc(self, call: Call) -> Response:
        return success({key: self._bar(book) for key, book in self._asked(call).items()})

    @route(
        "GET",
        "/v1/live-data/greeks/exchange/{exchange}/underlying/{underlying}"
        "/trading_symbol/{name}/expiry/{expiry}",
        group="live",
    )
    def greeks(self, call: Call) -> Response:
        self.listed(call.params["exchange"], "FNO", call.params["name"])
        return success({"greeks": GREEKS})

    @route("GET", "/v1/option-chain/exchange/{exchange}/underlying/{underlying}", group="live")
    def option_chain(self, call: Call) -> Response:
        strikes: dict[str, dict[str, Any]] = {}
        for one in self._contracts(call.params["exchange"], call.params["underlying"]):
            if one.is_option and str(one.expiry) == call.request.query["expiry_date"]:
                book = self.exchange.book(one)
                strikes.setdefault(f"{one.strike.normalize():f}", {})[one.kind] = {
                    "greeks": GREEKS,
                    "trading_symbol": one.symbol,
                    "ltp": book.last,
                    "open_interest": book.open_interest,
                    "volume": book.volume,
                }
        index = self.listed(call.params["exchange"], "CASH", call.params["underlying"])
        last = self.exchange.book(index).last
        return success({"underlying_ltp": last, "strikes": strikes})

    @route("GET", "/v1/historical/expiries", group="live")
    def expiries(self, call: Call) -> Response:
        query = call.request.query
        days = {
            one.expiry
            for one in self._contracts(query["exchange"], query["underlying_symbol"])
            if int(query.get("year", one.expiry.year)) == one.expiry.year
            and int(query.get("month", one.expiry.month)) == one.expiry.month
        }
        return success({"expiries": [str(day) for day in sorted(days)]})

    @route("GET", "/v1/historical/contracts", group="live")
    def contracts(self, call: Call) -> Response:
        query = call.request.query
        return success(
            {
                "contracts": [
                    groww_symbol(one)
                    for one in self._contracts(query["exchange"], query["underlying_symbol"])
                    if str(one.expiry) == query["expiry_date"]
                ]
            }
        )

    @route("GET", "/v1/historical/candles", group="live")
    def candles(self, call: Call) -> Response:
        """Times include both ends. Weeks and months are told by their first day."""
        query = call.request.query
        start, end = (
            datetime.strptime(query[name], "%Y-%m-%d %H:%M:%S").replace(tzinfo=IST)
            for name in ("start_time", "end_time")
        )
        minutes, days = INTERVALS[query["candle_interval"]]
        if end - start > timedelta(days=days):
            raise Refusal(Reason.TERMS, f"At most {days} days can be requested")
        instrument = self._by_groww_symbol(query["groww_symbol"])
        until = min(end, self.clock.now())
        rows = list(candles(instrument, minutes, start, until, seed=self.exchange.seed))
        told = [
            [
                row.start.strftime("%Y-%m-%dT%H:%M:%S"), row.open, row.high, row.low, row.close,
                row.volume, row.open_interest if instrument.is_derivative else None,
            ]
            for row in rows
        ]  # fmt: skip
        if query["candle_interval"] in ("1week", "1month"):
            told = _longer(told, query["candle_interval"])
        return success(
            {
                "candles": told,
                "closing_price": instrument.reference,
                "start_time": query["start_time"],
                "end_time": query["end_time"],
                "interval_in_minutes": minutes or 1440,
            }
        )

    @route("GET", "/instruments/instrument.csv", open=True)
    def instrument_file(self, call: Call) -> Response:
        """The list, with the oddities of the real one: a test contract, a row without a symbol, a
        commodity, futures with a strike of -0.01.
        """
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        for instrument in self.exchange.instruments.values():
            writer.writerow(_csv_row(instrument))
        odd = {"exchange": "NSE", "instrument_type": "EQ", "segment": "CASH", "lot_size": 1}
        writer.writerow(odd | {"trading_symbol": "011NSETEST", "name": "011NSETEST"})
        writer.writerow(odd | {"trading_symbol": "", "name": "NAMELESS"})
        writer.writerow(
            {
                "exchange": "MCX", "segment": "COMMODITY", "instrument_type": "FUT",
                "trading_symbol": "GOLD26DECFUT", "lot_size": 100, "expiry_date": "2026-12-04",
            }
        )  # fmt: skip
        return Response.text(text.getvalue(), content_type="text/csv")

    def _asked(self, call: Call) -> dict[str, Book]:
        """Return the books of ``exchange_symbols``: repeated, or one text with commas."""
        keys = [k.strip() for text in call.request.all("exchange_symbols") for k in text.split(",")]
        if len(keys) > MOST_KEYS:
            raise Refusal(Reason.TERMS, f"At most {MOST_KEYS} symbols are allowed")
        found = {}
        for key in keys:
            exchange, _, name = key.partition("_")
            try:
                instrument = self.listed(exchange, call.request.query["segment"], name)
            except Refusal:
                continue
            found[key] = self.exchange.book(instrument)
        return found

    def _bar(self, book: Book) -> Any:
        bar = {"open": book.open, "high": book.high, "low": book.low, "close": book.close}
        if self.levers.ohlc_as_text:
            return "{" + ",".join(f"{name}: {value}" for name, value in bar.items()) + "}"
        return bar

    def _quote(self, book: Book) -> dict[str, Any]:
        instrument = book.instrument
        best_bid = book.bids[0] if book.bids else None
        best_ask = book.asks[0] if book.asks else None
        return {
            "average_price": None,
            "bid_quantity": best_bid and best_bid.quantity,
            "bid_price": best_bid and best_bid.price,
            "offer_price": best_ask and best_ask.price,
            "offer_quantity": best_ask and best_ask.quantity,
            "day_change": book.last - book.close,
            "day_change_perc": (book.last / book.close - 1) * 100,
            "upper_circuit_limit": instrument.upper_circuit,
            "lower_circuit_limit": instrument.lower_circuit,
            "ohlc": self._bar(book),
            "depth": None if instrument.is_index else {
                name: [{"price": level.price, "quantity": level.quantity} for level in side]
                for name, side in (("buy", book.bids), ("sell", book.asks))
            },
            "high_trade_range": None,
            "low_trade_range": None,
            "implied_volatility": None,
            "last_price": book.last,
            "last_trade_quantity": book.last_quantity,
            "last_trade_time": int(book.at.timestamp() * 1000),
            "market_cap": None,
            "open_interest": book.open_interest if instrument.is_derivative else None,
            "previous_open_interest": None,
            "oi_day_change": None,
            "oi_day_change_percentage": None,
            "total_buy_quantity": sum(level.quantity for level in book.bids),
            "total_sell_quantity": sum(level.quantity for level in book.asks),
            "volume": None if instrument.is_index else book.volume,
            "week_52_high": None,
            "week_52_low": None,
        }  # fmt: skip

    def _contracts(self, exchange: str, underlying: str) -> list[Instrument]:
        return [
            one
            for one in self.exchange.instruments.values()
            if one.is_derivative and venue(one)[0] == exchange and one.underlying == underlying
        ]

    def _by_groww_symbol(self, name: str) -> Instrument:
        for instrument in self.exchange.instruments.values():
            if groww_symbol(instrument) == name:
                return instrument
        raise Refusal(Reason.INSTRUMENT)


def _csv_row(instrument: Instrument) -> dict[str, Any]:
    exchange, segment = venue(instrument)
    kind = "IDX" if instrument.is_index else instrument.kind
    strike = instrument.strike if instrument.is_option else Decimal("-0.01")
    return {
        "exchange": exchange,
        "exchange_token": token(instrument),
        "trading_symbol": symbol(instrument),
        "groww_symbol": groww_symbol(instrument),
        "name": instrument.name,
        "instrument_type": kind,
        "segment": segment,
        "series": "EQ" if kind == "EQ" and exchange == "NSE" else "",
        "isin": instrument.isin,
        "underlying_symbol": instrument.underlying if instrument.is_derivative else "",
        "expiry_date": str(instrument.expiry or ""),
        "strike_price": strike if instrument.is_derivative else "",
        "lot_size": instrument.lot,
        "tick_size": instrument.tick,
        "freeze_quantity": instrument.freeze or "",
        "is_reserved": 0,
        "buy_allowed": 1,
        "sell_allowed": 1,
        "internal_trading_symbol": symbol(instrument),
        "is_intraday": 1,
    }


def _longer(rows: list[list[Any]], interval: str) -> list[list[Any]]:
    """Put days together to weeks or months."""
    found: dict[str, list[Any]] = {}
    for row in rows:
        day = datetime.fromisoformat(row[0])
        first = day - timedelta(days=day.weekday()) if interval == "1week" else day.replace(day=1)
        key = first.strftime("%Y-%m-%dT%H:%M:%S")
        if key not in found:
            found[key] = [key, *row[1:]]
            continue
        whole = found[key]
        whole[2], whole[3] = max(whole[2], row[2]), min(whole[3], row[3])
        whole[4], whole[5], whole[6] = row[4], whole[5] + row[5], row[6]
    return list(found.values())
