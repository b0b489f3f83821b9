"""How quotes, instruments, candles and the calendar look from outside."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from brokerages.types import BookLevel, Candle, InstrumentKind, Quote, QuoteDepth
from marketdata.broker_prices import Answers
from marketdata.calendar import IST, Calendar, Phase, SessionGroup, trading_date
from marketdata.models import Instrument, Watchlist
from marketdata.quotes import is_stale, quotes_latest
from marketdata.sources.base import Listing

_CENT = Decimal("0.01")
_NO_QUOTE = "no_quote", "There is no quote of this instrument yet."


def quotes_output(
    asked: Mapping[str, Listing | None],
    depth: QuoteDepth,
    now: datetime,
    answers: Answers | None = None,
) -> dict[str, Any]:
    """Return a quote, or an error, by the name that each instrument was asked by: what a broker
    answered, or the platform's own.
    """
    if answers is None:
        refs = [listing.ref for listing in asked.values() if listing is not None]
        answers = Answers({quote.instrument_id: quote for quote in quotes_latest(refs)})
    data: dict[str, Any] = {}
    for name, listing in asked.items():
        if listing is None:
            data[name] = _error("unknown_instrument", "There is no such instrument.")
        elif (quote := answers.quotes.get(listing.ref.id)) is None:
            data[name] = _error(*answers.errors.get(listing.ref.id, _NO_QUOTE))
        else:
            data[name] = quote_output(listing, quote, depth, now)
    return data


def _error(code: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}


def quote_output(
    listing: Listing, quote: Quote, depth: QuoteDepth, now: datetime
) -> dict[str, Any]:
    """Return a quote to the asked depth. Prices are rupees, quantities units, ``age_ms``
    milliseconds.
    """
    ref = listing.ref
    output: dict[str, Any] = {
        "symbol": ref.key,
        "exchange": ref.exchange,
        "exchange_token": ref.exchange_token,
        "last_price": quote.last_price,
        "at": quote.at,
        "age_ms": max(0, int((now - quote.at).total_seconds() * 1000)),
        "stale": is_stale(quote, now),
        "source": quote.source,
        "simulated": quote.simulated,
    }
    if depth is QuoteDepth.LTP:
        return output
    output["open"], output["high"], output["low"] = quote.open, quote.high, quote.low
    output["previous_close"], output["volume"] = quote.previous_close, quote.volume
    if depth is QuoteDepth.OHLC:
        return output
    previous = quote.previous_close
    change = None if previous is None else quote.last_price - previous
    output["change"] = change
    output["change_percent"] = (
        None if change is None or not previous else (change * 100 / previous).quantize(_CENT)
    )
    output["open_interest"] = quote.open_interest
    output["lower_circuit"], output["upper_circuit"] = quote.lower_circuit, quote.upper_circuit
    output["depth"] = {"buy": _levels(quote.bids), "sell": _levels(quote.asks)}
    return output


def _levels(levels: Iterable[BookLevel]) -> list[dict[str, Any]]:
    return [{"price": x.price, "quantity": x.quantity, "orders": x.orders} for x in levels]


def option_chain_output(
    spot: Listing, expiry: date, options: Iterable[Listing], *, strikes: int | None
) -> dict[str, Any]:
    """Return the quotes of an expiry's options by strike, ``strikes`` on each side of the money."""
    chain = list(options)
    found = {quote.instrument_id: quote for quote in quotes_latest([spot.ref])}
    price = found[spot.ref.id].last_price if spot.ref.id in found else None
    if strikes is not None and price is not None:
        levels = sorted({_strike(x) for x in chain})
        above = bisect_left(levels, price)
        near = set(levels[max(0, above - strikes) : above + strikes])
        chain = [x for x in chain if _strike(x) in near]
    quotes = {quote.instrument_id: quote for quote in quotes_latest(x.ref for x in chain)}
    rows: dict[Decimal, dict[str, Any]] = {}
    for option in chain:
        row = rows.setdefault(
            _strike(option), {"strike": f"{_strike(option):.2f}", "call": None, "put": None}
        )
        side = "call" if option.ref.kind is InstrumentKind.CE else "put"
        row[side] = _option(option, quotes.get(option.ref.id))
    return {
        "symbol": spot.key,
        "last_price": price,
        "expiry": expiry,
        "lot_size": chain[0].ref.lot_size if chain else None,
        "results": list(rows.values()),
    }


def _strike(option: Listing) -> Decimal:
    return option.ref.strike or Decimal(0)


def _option(option: Listing, quote: Quote | None) -> dict[str, Any]:
    return {
        "symbol": option.key,
        "last_price": quote and quote.last_price,
        "bid": quote.bids[0].price if quote and quote.bids else None,
        "ask": quote.asks[0].price if quote and quote.asks else None,
        "volume": quote.volume if quote else None,
        "open_interest": quote and quote.open_interest,
        "simulated": quote.simulated if quote else None,
    }


def instrument_output(row: Instrument) -> dict[str, Any]:
    return {
        "symbol": row.key,
        "exchange": row.exchange,
        "segment": row.segment,
        "trading_symbol": row.symbol,
        "name": row.name,
        "kind": row.kind,
        "isin": row.isin,
        "exchange_token": row.exchange_token,
        "underlying": row.underlying,
        "industry": row.industry,
        "expiry": row.expiry,
        "strike": None if row.strike is None else f"{row.strike:.2f}",
        "tick_size": _short(row.tick_size),
        "lot_size": row.lot_size,
        "freeze_quantity": row.freeze_quantity,
        "is_tradable": row.is_tradable and row.is_active,
        "is_active": row.is_active,
    }


def _short(number: Decimal) -> str:
    text = f"{number:.4f}"
    return text[:-2] if text.endswith("00") else text


def candle_output(candle: Candle) -> dict[str, Any]:
    return {
        "start": candle.start,
        "open": candle.open,
        "high": candle.high,
        "low": candle.low,
        "close": candle.close,
        "volume": candle.volume,
    }


def history_output(candle: Candle) -> dict[str, Any]:
    """Return a candle in the words of the history path: numbers as decimal strings, times in
    India.
    """
    return {
        "datetime": candle.start.astimezone(IST),
        "open": candle.open,
        "high": candle.high,
        "low": candle.low,
        "close": candle.close,
        "volume": candle.volume,
        "oi": candle.open_interest,
    }


def calendar_output(calendar: Calendar, *, always_open: bool, now: datetime) -> dict[str, Any]:
    """Return what is open now, today's phases of every group, and the year's holidays."""
    today = trading_date(now)
    groups = []
    for group in SessionGroup:
        following = calendar.next_session(group, now)
        groups.append(
            {
                "group": group,
                "is_open": always_open or calendar.is_open(group, now),
                "phase": Phase.NORMAL if always_open else calendar.phase_at(group, now),
                "known_until": calendar.known_until(group),
                "next_session": None
                if following is None
                else {"opens": following[0], "closes": following[1]},
                "today": [
                    {"phase": span.phase, "start": span.start, "end": span.end}
                    for span in calendar.day(group, today)
                ],
            }
        )
    year = calendar.holidays(today.replace(month=1, day=1), today.replace(month=12, day=31))
    return {
        "at": now,
        "always_open": always_open,
        "groups": groups,
        "holidays": [{"date": x.day, "name": x.note} for x in year],
    }


def watchlist_output(watchlist: Watchlist, symbols: list[str]) -> dict[str, Any]:
    return {
        "id": watchlist.id,
        "name": watchlist.name,
        "position": watchlist.position,
        "symbols": symbols,
        "created_at": watchlist.created_at,
    }
