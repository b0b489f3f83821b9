"""Reads of instruments and the calendar. The hot ones are dictionary look-ups in a table that each
process keeps.

Instruments change once a day, so the table is checked against the database once a minute and loaded
again only when something changed. A process that changes rows itself sees them at once.

The table holds what comes with the platform. What only brokers list (100,000 contracts and more)
joins it when it is first asked for.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import DatabaseError
from django.db.models import Case, Count, IntegerField, Max, Q, QuerySet, Value, When

from brokerages.types import Exchange, InstrumentKind, InstrumentRef, Segment
from marketdata.calendar import Calendar, Phase, SessionGroup, SessionRow
from marketdata.errors import UnknownInstrument, UnknownWatchlist
from marketdata.models import Instrument, TradingSession, Watchlist, WatchlistItem
from marketdata.sources.base import Listing

logger = logging.getLogger(__name__)

TABLE_SECONDS = 60.0
MOST_UNKNOWN = 20_000  # names without an instrument that are remembered

_FIELDS = (
    "id", "exchange", "segment", "symbol", "kind", "exchange_token", "isin", "name", "tick_size",
    "lot_size", "freeze_quantity", "expiry", "strike", "underlying", "is_tradable",
    "has_derivatives", "reference_price", "is_active", "industry",
)  # fmt: skip
_SPOT = (InstrumentKind.EQ, InstrumentKind.INDEX)
_SPOT_EXCHANGES = {"NFO": "NSE", "BFO": "BSE"}  # where what a contract follows is listed
MAX_KEY = 60
_GROUPS = {
    Segment.INDEX: SessionGroup.INDEX,
    Segment.EQUITY_DERIVATIVES: SessionGroup.EQUITY_DERIVATIVES,
    Segment.CURRENCY: SessionGroup.CURRENCY,
    Segment.COMMODITY: SessionGroup.COMMODITY,
}


@dataclass(slots=True)
class _Table:
    """Every active listing that comes with the platform; others join when they are asked for."""

    stamp: Any
    checked_at: float
    calendar: Calendar
    generation: int
    has_more: bool  # whether brokers list what is not in here
    by_id: dict[int, Listing] = field(default_factory=dict)
    by_key: dict[str, Listing] = field(default_factory=dict)
    by_token: dict[tuple[str, str], Listing] = field(default_factory=dict)
    spots: dict[str, Listing] = field(default_factory=dict)
    unknown: set[object] = field(default_factory=set)  # was looked for, and is not there
    chains: set[str] = field(default_factory=set)  # underlyings whose listed contracts have joined

    def add(self, row: dict[str, Any]) -> Listing:
        listing = _listing(row, self.spots)
        self.by_id[listing.ref.id] = listing
        if listing.is_active:
            ref = listing.ref
            self.by_key[ref.key] = listing
            if ref.exchange_token:
                self.by_token[ref.exchange, ref.exchange_token] = listing
            if ref.kind in _SPOT:
                self.spots.setdefault(ref.underlying or ref.symbol, listing)
        return listing

    def find(self, name: object, **where: Any) -> Listing | None:
        """Look for an active listing that only brokers list; a miss is remembered."""
        if not self.has_more or name in self.unknown:
            return None
        row = (
            Instrument.objects.filter(is_active=True, broker_listed=True, **where)
            .order_by("id")
            .values(*_FIELDS)
            .first()
        )
        if row is None:
            if len(self.unknown) >= MOST_UNKNOWN:
                self.unknown.clear()
            self.unknown.add(name)
            return None
        return self.join(row)

    def join(self, row: dict[str, Any]) -> Listing:
        """Add a row that was read later; a contract brings the share or index that it follows."""
        if (kept := self.by_id.get(row["id"])) is not None:
            return kept
        name, exchange = row["underlying"], _SPOT_EXCHANGES.get(row["exchange"])
        if row["kind"] not in _SPOT and exchange is not None and name not in self.spots:
            self.find(("spot", exchange, name), exchange=exchange, symbol=name, kind__in=_SPOT)
        return self.add(row)


_table: _Table | None = None
_lock = threading.Lock()
_generations = itertools.count(1)


def clear_tables(**_: object) -> None:
    """Forget what this process keeps; the next look-up reads the database."""
    global _table  # noqa: PLW0603
    _table = None


def generation() -> int:
    """Return a number that is another one after every change of the instruments."""
    return _current().generation


def _current() -> _Table:
    table = _table
    if table is None:
        with _lock:
            return _table or _load()
    if time.monotonic() - table.checked_at > TABLE_SECONDS and _lock.acquire(blocking=False):
        try:  # one thread looks; the others go on with what there is
            table.checked_at = time.monotonic()
            return table if _stamp() == table.stamp else _load()
        except DatabaseError:
            logger.warning("instruments could not be read again; going on with the ones at hand")
            return table
        finally:
            _lock.release()
    return table


def _stamp() -> Any:
    instruments = Instrument.objects.aggregate(Count("id"), Max("updated_at"))
    sessions = TradingSession.objects.aggregate(Count("id"), Max("id"), Max("updated_at"))
    return instruments, sessions


def _load() -> _Table:
    global _table  # noqa: PLW0603
    stamp = _stamp()
    rows = Instrument.objects.filter(is_active=True, broker_listed=False).values(*_FIELDS)
    old = _table.calendar if _table is not None and _table.stamp[1] == stamp[1] else None
    calendar = old or Calendar(_session_rows())
    has_more = Instrument.objects.filter(is_active=True, broker_listed=True).exists()
    table = _Table(stamp, time.monotonic(), calendar, next(_generations), has_more)
    for row in sorted(
        rows, key=lambda row: row["kind"] not in _SPOT
    ):  # spots first: others follow one
        table.add(row)
    _table = table
    return table


def _session_rows() -> list[SessionRow]:
    return [
        SessionRow(
            group=row.group,
            phase=Phase(row.phase),
            opens=row.opens,
            closes=row.closes,
            valid_from=row.valid_from,
            valid_to=row.valid_to,
            weekdays=row.weekdays,
            special=row.special,
            note=row.note,
        )
        for row in TradingSession.objects.all()
    ]


def _listing(row: dict[str, Any], spots: dict[str, Listing]) -> Listing:
    kind, segment = InstrumentKind(row["kind"]), Segment(row["segment"])
    group = _GROUPS.get(segment)
    if group is None:
        group = SessionGroup.EQUITY_FNO if row["has_derivatives"] else SessionGroup.EQUITY
    ref = InstrumentRef(
        id=row["id"],
        exchange=Exchange(row["exchange"]),
        segment=segment,
        symbol=row["symbol"],
        kind=kind,
        exchange_token=row["exchange_token"],
        isin=row["isin"],
        name=row["name"],
        tick_size=short_tick(row["tick_size"]),
        lot_size=row["lot_size"],
        freeze_quantity=row["freeze_quantity"],
        expiry=row["expiry"],
        strike=row["strike"],
        underlying=row["underlying"],
    )
    return Listing(
        ref=ref,
        group=group,
        reference_price=row["reference_price"],
        spot=None if kind in _SPOT else spots.get(ref.underlying),
        is_tradable=row["is_tradable"],
        is_active=row["is_active"],
        industry=row["industry"],
    )


def short_tick(tick: Decimal) -> Decimal:
    """Return a tick with two decimals where two are enough: ``0.0500`` is 0.05."""
    paise = tick.quantize(Decimal("0.01"))
    return paise if paise == tick else tick


# listings and references


def listing_by_key(key: str) -> Listing | None:
    """Return the active listing of a key such as ``NSE:RELIANCE``."""
    table = _current()
    listing = table.by_key.get(key)
    if listing is None and len(key) <= MAX_KEY and "\0" not in key:
        exchange, _, symbol = key.partition(":")
        listing = table.find(key, exchange=exchange, symbol=symbol)
    return listing


def listing_by_token(exchange: str, token: str) -> Listing | None:
    """Return the active listing of an exchange's own number."""
    table, name = _current(), (exchange, token)
    listing = table.by_token.get(name)
    if listing is None and 0 < len(token) <= MAX_KEY and "\0" not in token:
        listing = table.find(name, exchange=exchange, exchange_token=token)
    return listing


def listing_by_id(instrument_id: int) -> Listing:
    """Return the listing, also one that has expired.

    Raises:
        UnknownInstrument: there is no such row.
    """
    table = _current()
    listing = table.by_id.get(instrument_id)
    if listing is None:
        row = Instrument.objects.filter(pk=instrument_id).values(*_FIELDS).first()
        if row is None:
            raise UnknownInstrument(str(instrument_id))
        listing = table.join(row)
    return listing


def listings_active() -> list[Listing]:
    """Return what comes with the platform, and what else this process was asked for."""
    return list(_current().by_key.values())


def ref_by_key(key: str) -> InstrumentRef | None:
    """Return the reference of an active instrument by its key, e.g. ``NSE:RELIANCE``.

    No query, but for the first time that one is asked for which only brokers list.
    """
    listing = listing_by_key(key)
    return None if listing is None else listing.ref


def ref_by_id(instrument_id: int) -> InstrumentRef:
    """Return the reference, also of an expired instrument.

    Raises:
        UnknownInstrument: there is no such row.
    """
    return listing_by_id(instrument_id).ref


def refs_by_ids(instrument_ids: Iterable[int]) -> dict[int, InstrumentRef]:
    """Return the references by id; ids without a row are left out. One query at most."""
    table = _current()
    wanted = set(instrument_ids)
    missing = wanted - table.by_id.keys()
    if missing:
        for row in Instrument.objects.filter(pk__in=missing).values(*_FIELDS):
            table.join(row)
    return {pk: table.by_id[pk].ref for pk in wanted if pk in table.by_id}


def is_tradable(ref: InstrumentRef) -> bool:
    """Whether orders can be placed: listed now, and not an index."""
    listing = listing_by_id(ref.id)
    return listing.is_tradable and listing.is_active


def calendar_current() -> Calendar:
    """Return the calendar of all groups."""
    return _current().calendar


# instruments


def instrument_get(key: str) -> Instrument:
    """Return the instrument of a key such as ``NSE:RELIANCE``, also an expired one.

    Raises:
        UnknownInstrument: no such instrument.
    """
    exchange, _, symbol = key.partition(":")
    if "\0" in key:  # PostgreSQL has no such text
        raise UnknownInstrument(key)
    found = Instrument.objects.filter(exchange=exchange, symbol=symbol).first()
    if found is None:
        raise UnknownInstrument(key)
    return found


def instrument_by_token(exchange: str, token: str) -> Instrument | None:
    """Return the active instrument of an exchange's own number."""
    return Instrument.objects.filter(
        exchange=exchange, exchange_token=token, is_active=True
    ).first()


def instrument_search(
    q: str = "",
    *,
    exchange: str = "",
    kind: str = "",
    underlying: str = "",
    limit: int = 20,
    offset: int = 0,
) -> list[Instrument]:
    """Return active instruments that hold every word of ``q`` in symbol, name or ISIN, the
    likeliest first.

    An exact symbol comes first, then symbols that start with ``q``, then the rest; shares and
    indices before derivatives, near expiries before far ones.
    """
    found: QuerySet[Instrument] = Instrument.objects.filter(is_active=True)
    filters = {"exchange": exchange, "kind": kind, "underlying": underlying}
    found = found.filter(**{name: value for name, value in filters.items() if value})
    words = q.split()
    for word in words:
        found = found.filter(
            Q(symbol__icontains=word) | Q(name__icontains=word) | Q(isin__iexact=word)
        )
    likeliest = [When(symbol__iexact=q, then=Value(0)), When(symbol__istartswith=q, then=Value(1))]
    kinds = [
        When(kind=kind, then=Value(place))
        for place, kind in enumerate((InstrumentKind.EQ, InstrumentKind.INDEX, InstrumentKind.FUT))
    ]
    found = found.annotate(
        likely=Case(*(likeliest if words else []), default=Value(2), output_field=IntegerField()),
        sort_kind=Case(*kinds, default=Value(3), output_field=IntegerField()),
    )
    ordered = found.order_by("likely", "sort_kind", "expiry", "symbol", "exchange")
    return list(ordered[offset : offset + limit])


def expiries_of(listing: Listing) -> list[date]:
    """Return the expiries that are listed on a share or an index, or on a derivative's spot."""
    spot = listing.spot or listing
    return sorted({x.ref.expiry for x in _derivatives(spot) if x.ref.expiry is not None})


def options_of(listing: Listing, expiry: date) -> list[Listing]:
    """Return the options on a share or an index of one expiry, by strike, calls before puts."""
    spot = listing.spot or listing
    found = [x for x in _derivatives(spot) if x.is_option and x.ref.expiry == expiry]
    return sorted(found, key=lambda x: (x.ref.strike or Decimal(0), x.ref.kind))


def _derivatives(spot: Listing) -> Iterator[Listing]:
    table, name = _current(), spot.ref.underlying or spot.ref.symbol
    if table.has_more and name not in table.chains:
        listed = Instrument.objects.filter(
            is_active=True, broker_listed=True, underlying=name, expiry__isnull=False
        )
        for row in listed.values(*_FIELDS):
            table.join(row)
        table.chains.add(name)
    return (x for x in list(table.by_key.values()) if x.spot is spot)


# watchlists


def watchlist_list(*, user_id: UUID) -> QuerySet[Watchlist]:
    return Watchlist.objects.filter(user_id=user_id)


def watchlist_get(*, user_id: UUID, watchlist_id: UUID) -> Watchlist:
    """Return the user's watchlist.

    Raises:
        UnknownWatchlist: no such list, or another user's; the two look the same from outside.
    """
    found = watchlist_list(user_id=user_id).filter(pk=watchlist_id).first()
    if found is None:
        raise UnknownWatchlist(str(watchlist_id))
    return found


def watchlist_symbols(watchlist_ids: Iterable[UUID]) -> dict[UUID, list[str]]:
    """Return the keys of the instruments on each list, in the order of the list."""
    rows = (
        WatchlistItem.objects.filter(watchlist_id__in=list(watchlist_ids))
        .order_by("position", "id")
        .values_list("watchlist_id", "instrument__exchange", "instrument__symbol")
    )
    found: dict[UUID, list[str]] = {}
    for watchlist_id, exchange, symbol in rows:
        found.setdefault(watchlist_id, []).append(f"{exchange}:{symbol}")
    return found
