"""The paper venue's own movement: stops that are hit, resting orders that meet a new book, days
that end.

What it does to an order is written to the outbox in the same transaction. Accounts are locked
before the book, in the order of their ids, as everywhere in this broker; so a batch never waits
in a circle with a user's own order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import TypeVar
from uuid import UUID

from brokerages import ports
from brokerages.adapters.paper import execution, matching, rounds, store
from brokerages.adapters.paper.ledger import Position, Standing
from brokerages.adapters.paper.margins import BROKER
from brokerages.adapters.paper.matching import Slippage
from brokerages.adapters.paper.records import (
    AccountRecord,
    Book,
    OrderRecord,
    PositionRecord,
    event_of,
    event_reports,
)
from brokerages.adapters.paper.rounds import Moved
from brokerages.adapters.paper.store import StaleQuote
from brokerages.adapters.paper.writes import Changes, save
from brokerages.base import VenueEngine, VenueEvent
from brokerages.types import InstrumentRef, Quote, ReportedStatus, Side, Validity

T = TypeVar("T")

SHORT = "Insufficient funds for the rest of the order."

BATCH = 200
"""Orders a transaction: their accounts are locked while it runs, some milliseconds."""


class PaperEngine(VenueEngine):
    """Moves every open paper order on. Several may run at once: locks keep them apart."""

    broker = BROKER

    def advance(
        self,
        quote: Callable[[InstrumentRef], Quote | None],
        now: datetime,
        instrument_ids: Sequence[int] | None = None,
    ) -> int:
        changed = self._expire(now)
        instruments = {ref.id: ref for ref in rounds.open_instruments(instrument_ids)}
        quotes = {
            ref.id: latest
            for ref in instruments.values()
            if ports.market_open(ref, now) and (latest := quote(ref)) and latest.last_price > 0
        }
        if not quotes:
            return changed
        books = rounds.read_books(quotes)
        reachable = {number: _reachable(quotes[number], books.get(number)) for number in quotes}
        queues: dict[tuple[int, Side], list[Moved]] = {}
        for moved in rounds.moved_orders(quotes, reachable, now):
            queues.setdefault((moved.instrument_id, moved.side), []).append(moved)
        for (number, side), queue in queues.items():
            rank = {
                contender.order_id: place
                for place, contender in enumerate(
                    matching.by_priority(side, [moved.contender for moved in queue])
                )
            }
            queue.sort(key=lambda moved: rank[moved.contender.order_id])
            for batch in _batches(queue):
                changed += _match_batch(instruments[number], side, quotes[number], batch, now)
        return changed

    def pending_events(self, limit: int = 500) -> list[VenueEvent]:
        return [
            VenueEvent(
                number, connection_id, *event_reports(connection_id, order_id, report, fills)
            )
            for number, connection_id, order_id, report, fills in rounds.read_events(limit)
        ]

    def confirm_events(self, event_ids: Sequence[int]) -> None:
        rounds.delete_events(event_ids)

    def _expire(self, now: datetime) -> int:
        changed = 0
        while rows := rounds.expired_orders(now, BATCH):
            changed += store.in_transaction(lambda: _expire_batch(rows, now))
        return changed


def _expire_batch(rows: Sequence[tuple[UUID, int]], now: datetime) -> int:
    accounts = store.lock_accounts({connection_id for connection_id, _ in rows})
    changes = Changes()
    for record in store.lock_orders([number for _, number in rows]):
        money = accounts[record.connection_id]
        accounts[record.connection_id] = money.with_cash(record.hold.block)
        record.end(ReportedStatus.EXPIRED, now, "expired", "The day of the order is over.")
        changes.orders.append(record)
        changes.events.append(event_of(record, []))
    changes.accounts = [AccountRecord(number, money) for number, money in accounts.items()]
    save(changes)
    return len(changes.orders)


def _match_batch(
    instrument: InstrumentRef, side: Side, quote: Quote, batch: Sequence[Moved], now: datetime
) -> int:
    try:
        return store.in_transaction(lambda: _match(instrument, side, quote, batch, now))
    except StaleQuote:
        return 0  # somebody matched a newer book already; the next pass has a newer quote too


def _match(
    instrument: InstrumentRef, side: Side, quote: Quote, batch: Sequence[Moved], now: datetime
) -> int:
    """Match one batch of orders, in priority order, in one transaction; return how many changed."""
    connections = list({moved.connection_id for moved in batch})
    accounts = store.lock_accounts(connections)
    book = store.lock_book(instrument.id, quote, now)
    records = store.lock_orders([moved.contender.order_id for moved in batch])
    positions = store.read_positions_of(connections, instrument.id)
    changes, held = Changes(book=book), set()
    ready: dict[int, OrderRecord] = {}
    hit: set[int] = set()
    for record in records:
        if record.awaits_trigger:
            if not _is_hit(record, quote):
                continue  # its terms changed since it was read
            record.triggered_at = record.queued_at = now
            hit.add(record.id)
        ready[record.id] = record
    slippage = Slippage(store.policy().slippage_bps, instrument.tick_size)
    today = store.today(now)
    # One after the other: an account whose money ends leaves its share to the next in the queue.
    for contender in matching.by_priority(side, [record.contender for record in ready.values()]):
        record = ready[contender.order_id]
        key = (record.connection_id, record.product)
        position = positions.get(key, Position(today)).on(today)
        standing = Standing(accounts[record.connection_id], position, record.hold)
        levels = matching.open_levels(quote, side, book.taken.get(side.value, {}))
        matches = matching.allocate(quote, side, levels, [contender], slippage)
        standing, fills, short = execution.fill_order(record, standing, matches, now)
        execution.use_up(book, side, matches)
        if short and record.remaining:
            standing = execution.unblocked(standing)
            record.end(ReportedStatus.CANCELLED, now, "insufficient_funds", SHORT)
        elif fills or record.id in hit or record.validity is Validity.IOC:
            standing = execution.close_or_rest(record, standing, now)
        else:
            continue
        accounts[record.connection_id] = standing.money
        if fills:
            positions[key] = standing.position
            held.add(key)
        changes.fills += fills
        changes.orders.append(record)
        changes.events.append(event_of(record, fills))
    if not changes.orders:
        return 0
    changes.accounts = [AccountRecord(number, money) for number, money in accounts.items()]
    changes.positions = [
        PositionRecord(connection_id, instrument, product, positions[connection_id, product])
        for connection_id, product in sorted(held)
    ]
    save(changes)
    return len(changes.orders)


def _is_hit(record: OrderRecord, quote: Quote) -> bool:
    return record.trigger_price is not None and matching.is_triggered(
        record.side, record.trigger_price, quote.last_price
    )


def _reachable(quote: Quote, book: Book | None) -> tuple[Decimal | None, Decimal | None]:
    """Return the best price that is left for buyers and for sellers."""
    left = []
    for side in (Side.BUY, Side.SELL):
        taken = book.taken.get(side.value, {}) if book else {}
        levels = matching.open_levels(quote, side, taken)
        left.append(levels[0].price if levels else None)
    return left[0], left[1]


def _batches(queue: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(queue), BATCH):
        yield queue[start : start + BATCH]
