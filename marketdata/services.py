"""Writes: the instruments and sessions that come with the platform, and the users' watchlists."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import IntegrityError, connection, transaction
from django.db.models import Max
from django.utils import timezone

from brokerages.types import InstrumentKind, Segment
from marketdata import bundled, selectors
from marketdata.calendar import Calendar, SessionGroup, trading_date
from marketdata.contracts import contracts, tick_size
from marketdata.errors import LimitReached, UnknownInstrument, WatchlistConflict
from marketdata.models import Instrument, TradingSession, Watchlist, WatchlistItem

MAX_WATCHLISTS = 50
MAX_WATCHLIST_ITEMS = 250
# Advisory lock: two processes that start together load once, and no broker's list meanwhile.
LOAD_LOCK = 7_301_001

_COMPARED = (
    "segment", "name", "isin", "kind", "underlying", "exchange_token", "tick_size", "lot_size",
    "freeze_quantity", "expiry", "strike", "is_tradable", "has_derivatives", "industry",
    "reference_price", "is_active", "broker_listed",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class LoadResult:
    """How many rows a load wrote. All zero: nothing had changed."""

    created: int = 0
    changed: int = 0
    expired: int = 0
    sessions: int = 0


# instruments


def instruments_load(now: datetime | None = None) -> LoadResult:
    """Bring instruments and sessions to what the bundled data and the contract rules say for today
    (in India).

    Safe to repeat, also by several processes at once. Rows that an administrator added are left
    alone; contracts past their expiry become inactive.
    """
    today = trading_date(now or datetime.now(UTC))
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOAD_LOCK])
        sessions = _sessions_load()
        created, changed = _instruments_upsert(bundled_instruments(today))
        expired = Instrument.objects.filter(is_active=True, expiry__lt=today).update(
            is_active=False, updated_at=timezone.now()
        )
    selectors.clear_tables()
    return LoadResult(created, changed, expired, sessions)


def bundled_instruments(today: date) -> list[dict[str, Any]]:
    """Return the fields of every bundled share and index, and of every contract listed on
    ``today``.
    """
    bands = bundled.tick_bands()
    found: list[dict[str, Any]] = []
    references: dict[str, Decimal] = {}
    for row in bundled.rows("indices"):
        references[row["underlying"]] = Decimal(row["reference_price"])
        found.append(
            _fields(
                exchange=row["exchange"],
                symbol=row["symbol"],
                name=row["name"],
                segment=Segment.INDEX,
                kind=InstrumentKind.INDEX,
                underlying=row["underlying"],
                exchange_token=row["exchange_token"],
                tick_size=Decimal(row["tick_size"]),
                is_tradable=False,
                reference_price=Decimal(row["reference_price"]),
            )
        )
    for row in bundled.rows("equities"):
        price = Decimal(row["reference_price"])
        found.append(
            _fields(
                exchange=row["exchange"],
                symbol=row["symbol"],
                name=row["name"],
                segment=Segment.EQUITY,
                kind=InstrumentKind.EQ,
                isin=row["isin"],
                industry=row["industry"],
                exchange_token=row["exchange_token"],
                tick_size=tick_size(bands, InstrumentKind.EQ, price, today),
                has_derivatives=row["has_derivatives"] == "yes",
                reference_price=price,
            )
        )
    calendar = Calendar(row for row, _ in bundled.session_rows())
    listed = contracts(
        bundled.contract_terms(),
        bands,
        references,
        today,
        lambda day: calendar.is_expiry_day_closed(SessionGroup.EQUITY_DERIVATIVES, day),
    )
    for contract in listed:
        found.append(
            _fields(
                exchange=contract.exchange,
                symbol=contract.symbol,
                name=contract.name,
                segment=Segment.EQUITY_DERIVATIVES,
                kind=contract.kind,
                underlying=contract.underlying,
                exchange_token=contract.exchange_token,
                tick_size=contract.tick_size,
                lot_size=contract.lot_size,
                freeze_quantity=contract.freeze_quantity,
                expiry=contract.expiry,
                strike=contract.strike,
            )
        )
    return found


def _fields(**values: Any) -> dict[str, Any]:
    return {
        "isin": "", "underlying": "", "exchange_token": "", "lot_size": 1,
        "freeze_quantity": None, "expiry": None, "strike": None, "is_tradable": True,
        "has_derivatives": False, "industry": "", "reference_price": None, "is_active": True,
        "broker_listed": False, **values,
    }  # fmt: skip


def _instruments_upsert(wanted: Iterable[dict[str, Any]]) -> tuple[int, int]:
    """Create what is missing and change what differs; return how many of each."""
    wanted = list(wanted)
    kept = _kept(broker_listed=False)
    names = {(values["exchange"], values["symbol"]) for values in wanted}
    if missing := names - kept.keys():  # brokers may have listed a contract before its rule did
        kept |= _kept(broker_listed=True, symbol__in={symbol for _, symbol in missing})
    new: list[Instrument] = []
    changed: list[Instrument] = []
    now = timezone.now()
    for values in wanted:
        row = kept.get((values["exchange"], values["symbol"]))
        if row is not None and values["expiry"] is not None and row["exchange_token"]:
            values["exchange_token"] = row["exchange_token"]  # the real one, from a broker's list
        if row is None:
            new.append(Instrument(**values))
        elif any(row[name] != values[name] for name in _COMPARED):
            changed.append(Instrument(id=row["id"], updated_at=now, **values))
    Instrument.objects.bulk_create(new, batch_size=1000)
    if changed:
        Instrument.objects.bulk_update(changed, [*_COMPARED, "updated_at"], batch_size=500)
    return len(new), len(changed)


def _kept(**filters: Any) -> dict[tuple[str, str], dict[str, Any]]:
    rows = Instrument.objects.filter(**filters).values("id", "exchange", "symbol", *_COMPARED)
    return {(row["exchange"], row["symbol"]): row for row in rows}


def _sessions_load() -> int:
    """Replace the bundled rows of the calendar when they differ; return how many were written."""
    wanted = [bundled.session_values(row, source) for row, source in bundled.session_rows()]
    names = tuple(wanted[0])
    kept = set(TradingSession.objects.filter(bundled=True).values_list(*names))
    if kept == {tuple(row[name] for name in names) for row in wanted}:
        return 0
    TradingSession.objects.filter(bundled=True).delete()
    TradingSession.objects.bulk_create(TradingSession(bundled=True, **row) for row in wanted)
    return len(wanted)


# watchlists


def watchlist_create(*, user_id: UUID, name: str, symbols: Iterable[str] = ()) -> Watchlist:
    """Make a list, last among the user's.

    Raises:
        WatchlistConflict: the user has one of that name.
        LimitReached: 50 lists, or 250 instruments on one.
        UnknownInstrument: one of the symbols.
    """
    refs = [_ref(symbol) for symbol in dict.fromkeys(symbols)]
    if len(refs) > MAX_WATCHLIST_ITEMS:
        raise LimitReached(f"A watchlist holds {MAX_WATCHLIST_ITEMS} instruments at most.")
    mine = Watchlist.objects.filter(user_id=user_id)
    if mine.count() >= MAX_WATCHLISTS:
        raise LimitReached(f"There can be {MAX_WATCHLISTS} watchlists at most.")
    position = (mine.aggregate(last=Max("position"))["last"] or 0) + 1
    try:
        with transaction.atomic():
            watchlist = Watchlist.objects.create(user_id=user_id, name=name, position=position)
            WatchlistItem.objects.bulk_create(
                WatchlistItem(watchlist=watchlist, instrument_id=ref.id, position=number)
                for number, ref in enumerate(refs, 1)
            )
    except IntegrityError as e:
        raise WatchlistConflict(name) from e
    return watchlist


def watchlist_update(
    *, watchlist: Watchlist, name: str | None = None, position: int | None = None
) -> Watchlist:
    """Rename or move a list.

    Raises:
        WatchlistConflict: the user has another one of that name.
    """
    if name is not None:
        watchlist.name = name
    if position is not None:
        watchlist.position = position
    try:
        with transaction.atomic():
            watchlist.save(update_fields=["name", "position"])
    except IntegrityError as e:
        raise WatchlistConflict(name) from e
    return watchlist


def watchlist_delete(*, watchlist: Watchlist) -> None:
    watchlist.delete()


def watchlist_item_add(*, watchlist: Watchlist, symbol: str, position: int | None = None) -> None:
    """Put an instrument on the list, last unless ``position`` is given; one that is there only
    moves.

    Raises:
        UnknownInstrument: no active instrument of that key.
        LimitReached: the list is full.
    """
    ref = _ref(symbol)
    with transaction.atomic():
        Watchlist.objects.select_for_update(of=("self",), no_key=True).get(pk=watchlist.pk)
        items = WatchlistItem.objects.filter(watchlist=watchlist)
        item = items.filter(instrument_id=ref.id).first()
        if item is not None:
            if position is not None:
                item.position = position
                item.save(update_fields=["position"])
            return
        if items.count() >= MAX_WATCHLIST_ITEMS:
            raise LimitReached(f"A watchlist holds {MAX_WATCHLIST_ITEMS} instruments at most.")
        if position is None:
            position = (items.aggregate(last=Max("position"))["last"] or 0) + 1
        WatchlistItem.objects.create(watchlist=watchlist, instrument_id=ref.id, position=position)


def watchlist_item_remove(*, watchlist: Watchlist, symbol: str) -> None:
    """Take an instrument off the list; one that is not there is no error."""
    try:
        instrument = selectors.instrument_get(symbol)  # an expired one can be taken off too
    except UnknownInstrument:
        return
    WatchlistItem.objects.filter(watchlist=watchlist, instrument=instrument).delete()


def _ref(symbol: str) -> Any:
    ref = selectors.ref_by_key(symbol)
    if ref is None:
        raise UnknownInstrument(symbol)
    return ref
