"""What the pages show of instruments and prices, as plain values ready for a template."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from brokerages.types import BookLevel, Exchange, InstrumentKind, Quote
from marketdata import selectors, services
from marketdata.broker_prices import quotes_for_pages
from marketdata.errors import UnknownInstrument, WatchlistConflict
from marketdata.models import Watchlist
from marketdata.sources.base import Listing

WATCHLIST_NAME = "Watchlist"
STARTERS = (
    "NSE:NIFTY 50", "NSE:RELIANCE", "NSE:HDFCBANK", "NSE:ICICIBANK", "NSE:INFY", "NSE:TCS",
    "NSE:SBIN", "NSE:ITC", "NSE:TATAMOTORS",
)  # fmt: skip
INDICES = (("NSE:NIFTY 50", "NIFTY 50"), ("NSE:NIFTY BANK", "BANK NIFTY"))
BOOK_LEVELS = 5


def watchlist_default(*, user_id: UUID) -> Watchlist | None:
    """Return the list that the watchlist column shows: the user's first."""
    return selectors.watchlist_list(user_id=user_id).first()


def watchlist_ensure(*, user_id: UUID, symbols: Iterable[str] = ()) -> Watchlist:
    """Return the user's first list, made if there is none."""
    found = watchlist_default(user_id=user_id)
    if found is not None:
        return found
    try:
        return services.watchlist_create(user_id=user_id, name=WATCHLIST_NAME, symbols=symbols)
    except WatchlistConflict:  # another request of the same user was faster
        return selectors.watchlist_list(user_id=user_id).get()


def watchlist_start(*, user_id: UUID) -> Watchlist:
    """Return the user's first list; one that is new or empty gets a few well-known shares."""
    known = [symbol for symbol in STARTERS if selectors.listing_by_key(symbol)]
    watchlist = watchlist_ensure(user_id=user_id, symbols=known)
    if not selectors.watchlist_symbols([watchlist.pk]).get(watchlist.pk):
        for symbol in known:
            services.watchlist_item_add(watchlist=watchlist, symbol=symbol)
    return watchlist


def watchlist_panel(*, user_id: UUID) -> dict[str, Any]:
    """Return the list and a row with a price for each of its instruments."""
    watchlist = watchlist_default(user_id=user_id)
    symbols = selectors.watchlist_symbols([watchlist.pk]).get(watchlist.pk, []) if watchlist else []
    items = priced_rows(symbols, user_id=user_id)
    return {
        "watchlist": watchlist,
        "items": items,
        "simulated_prices": any(item["simulated"] for item in items),
    }


def watched_symbols(*, user_id: UUID) -> set[str]:
    watchlist = watchlist_default(user_id=user_id)
    return (
        set(selectors.watchlist_symbols([watchlist.pk]).get(watchlist.pk, []))
        if watchlist
        else set()
    )


def index_rows(*, user_id: UUID) -> list[dict[str, Any]]:
    """Return the indices of the bar at the top, those that are listed."""
    short = dict(INDICES)
    rows = priced_rows(short, user_id=user_id)
    return [{**row, "short": short[row["symbol"]]} for row in rows]


def priced_rows(symbols: Iterable[str], *, user_id: UUID) -> list[dict[str, Any]]:
    """Return a row for each known instrument, in the order given, with its price if it has one."""
    listings = [listing for symbol in symbols if (listing := selectors.listing_by_key(symbol))]
    quotes = quotes_for_pages(user_id, (x.ref for x in listings))
    return [
        {
            "symbol": x.ref.key,
            "name": x.ref.name,
            "kind": x.ref.kind.value,
            "tradable": _tradable(x),
        }
        | price_fields(quotes.get(x.ref.id))
        for x in listings
    ]


def price_fields(quote: Quote | None) -> dict[str, Any]:
    """Return the price with its change since the previous close."""
    if quote is None:
        return {"last_price": None, "change": None, "change_percent": None, "simulated": False}
    previous = quote.previous_close
    change = quote.last_price - previous if previous else None
    return {
        "last_price": quote.last_price,
        "change": change,
        "change_percent": change * 100 / previous if change is not None and previous else None,
        "simulated": quote.simulated,
    }


def instrument_panel(symbol: str, *, user_id: UUID) -> dict[str, Any]:
    """Return one instrument with its price, its book and the facts of its contract.

    Raises:
        UnknownInstrument: no active instrument of that key.
    """
    listing = selectors.listing_by_key(symbol)
    if listing is None:
        raise UnknownInstrument(symbol)
    ref = listing.ref
    quote = quote_of(listing, user_id=user_id)
    return {
        "instrument": {
            "symbol": ref.key,
            "name": ref.name,
            "kind": ref.kind.value,
            "industry": listing.industry,
            "isin": ref.isin,
            "lot_size": ref.lot_size,
            "tick_size": ref.tick_size,
            "freeze_quantity": ref.freeze_quantity,
            "expiry": ref.expiry,
            "strike": ref.strike,
            "tradable": _tradable(listing),
        }
        | price_fields(quote),
        **book_fields(quote),
    }


def depth_panel(symbol: str, *, user_id: UUID) -> dict[str, Any]:
    """Return the five best levels of each side; raises as `instrument_panel`."""
    listing = selectors.listing_by_key(symbol)
    if listing is None:
        raise UnknownInstrument(symbol)
    return book_fields(quote_of(listing, user_id=user_id))


def book_fields(quote: Quote | None) -> dict[str, Any]:
    bids: Sequence[BookLevel] = quote.bids[:BOOK_LEVELS] if quote else ()
    asks: Sequence[BookLevel] = quote.asks[:BOOK_LEVELS] if quote else ()
    most = max((level.quantity for level in (*bids, *asks)), default=0)
    return {
        "quote": quote,
        "bids": [_level(level, most) for level in bids],
        "asks": [_level(level, most) for level in asks],
        "bid_total": sum(level.quantity for level in bids),
        "ask_total": sum(level.quantity for level in asks),
    }


def search_rows(q: str, *, user_id: UUID, limit: int = 12) -> list[dict[str, Any]]:
    watched = watched_symbols(user_id=user_id)
    return [
        {
            "symbol": row.key,
            "name": row.name,
            "kind": row.kind,
            "tradable": row.is_tradable and row.is_active,
            "watched": row.key in watched,
        }
        for row in selectors.instrument_search(q, limit=limit)
    ]


def quote_of(listing: Listing, *, user_id: UUID) -> Quote | None:
    """Return the newest known quote, however old: for display."""
    return quotes_for_pages(user_id, [listing.ref]).get(listing.ref.id)


def symbol_given(text: str) -> str:
    """Return what a person may call an instrument as its key: ``infy`` is ``NSE:INFY``."""
    name = text.strip().upper()
    return name if ":" in name else f"{Exchange.NSE}:{name}"


def _tradable(listing: Listing) -> bool:
    return (
        listing.is_tradable and listing.is_active and listing.ref.kind is not InstrumentKind.INDEX
    )


def _level(level: BookLevel, most: int) -> dict[str, Any]:
    share = 100 * level.quantity // most if most else 0
    return {
        "price": level.price,
        "quantity": level.quantity,
        "orders": level.orders,
        "share": share,
        "from": 100 - share,
    }
