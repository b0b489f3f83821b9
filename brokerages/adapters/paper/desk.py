"""Taking, changing and cancelling orders at the paper broker: each one transaction under the
account's lock.

The answer of a call says what became of the order at once, so nothing is written to the outbox
here. A refusal by the market's or the account's state leaves a REJECTED order in the book, as
brokers do; terms that can never be right leave nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID

from brokerages.adapters.paper import execution, margins, store
from brokerages.adapters.paper.execution import Meeting
from brokerages.adapters.paper.ledger import Money, Position, Standing
from brokerages.adapters.paper.margins import BROKER, Terms
from brokerages.adapters.paper.records import (
    AccountRecord,
    FillRecord,
    OrderRecord,
    PositionRecord,
    order_number,
)
from brokerages.adapters.paper.store import StaleQuote
from brokerages.adapters.paper.writes import Changes, save
from brokerages.base import AdapterContext
from brokerages.errors import (
    InsufficientFunds,
    InsufficientHoldings,
    InvalidOrder,
    MarketClosed,
    OrderNotFound,
    Refused,
)
from brokerages.types import (
    InstrumentRef,
    OrderAck,
    OrderChange,
    OrderRequest,
    Quote,
    ReportedStatus,
)

T = TypeVar("T")

QUOTE_TRIES = 3

_REFUSALS: dict[str, type[Refused]] = {
    "insufficient_funds": InsufficientFunds,
    "insufficient_holdings": InsufficientHoldings,
    "market_closed": MarketClosed,
    "no_market_data": MarketClosed,
    "simulated_rejection": Refused,
}
"""What a stored refusal is raised as when its tag comes again; all others are `InvalidOrder`."""


class Desk:
    """Where one account brings its orders."""

    def __init__(self, context: AdapterContext) -> None:
        self.context = context
        self.connection_id = UUID(context.connection_id)
        self.policy = store.policy()

    def place(self, request: OrderRequest) -> OrderAck:
        """Take an order and match it at once.

        A tag that was used before returns its first order as it is now.

        Raises:
            InvalidOrder, NotSupported: the terms are wrong.
            MarketClosed, InsufficientFunds, InsufficientHoldings, Refused: the order stands in the
                book as REJECTED.
        """
        margins.check_request(request)
        record, fills = self._meet(request.instrument, lambda market: self._place(request, market))
        if record.status is ReportedStatus.REJECTED:
            refusal = _REFUSALS.get(record.code, InvalidOrder)
            raise refusal(record.message, broker=BROKER, code=record.code)
        return _ack(record, fills)

    def modify(self, broker_order_id: str, change: OrderChange) -> OrderAck:
        """Give an open order new terms and match it at once if they allow.

        It keeps its place in the queue unless its price or type changes or its quantity grows.

        Raises:
            OrderNotFound: no such order, or it is at its end.
            InvalidOrder, MarketClosed, InsufficientFunds, InsufficientHoldings: the order stays as
                it was.
        """
        number = _number(broker_order_id)
        seen = store.read_order(self.connection_id, number)
        if seen is None:
            raise _unknown_order()
        record, fills = self._meet(
            seen.instrument, lambda market: self._modify(number, change, market)
        )
        return _ack(record, fills)

    def cancel(self, broker_order_id: str) -> OrderAck:
        """Cancel what is not filled and give back what it blocks.

        Raises:
            OrderNotFound: no such order, or it is at its end.
        """
        number = _number(broker_order_id)
        return _ack(store.in_transaction(lambda: self._cancel(number)), [])

    # Inside their transactions

    def _place(
        self, request: OrderRequest, market: Meeting
    ) -> tuple[OrderRecord, list[FillRecord]]:
        instrument, tag = request.instrument, request.client_order_id
        money = self._lock()
        view = store.read_view(
            self.connection_id, tag, instrument.id, request.product, request.side
        )
        if view.first_id is not None:
            return self._first(view.first_id)
        now = self.context.now()
        record = self._new_record(view.order_id, request, now)
        try:
            market = replace(market, quote=self._checked(record.terms, market, now))
            margins.check_luck(tag, self.policy.reject_rate)
            position = _today(view.position, now)
            standing, changes = self._enter(record, money, position, view.promised, market)
        except Refused as e:
            record = self._new_record(view.order_id, request, now)
            record.end(ReportedStatus.REJECTED, now, e.code, e.message)
            save(Changes(new_order=record))
            return record, []
        changes.new_order = record
        return self._saved(changes, record, money, standing)

    def _modify(
        self, number: int, change: OrderChange, market: Meeting
    ) -> tuple[OrderRecord, list[FillRecord]]:
        money = self._lock()
        record = self._open_order(number)
        now = self.context.now()
        view = store.read_view(
            self.connection_id, "", record.instrument.id, record.product, record.side
        )
        terms = record.terms.changed(change)
        _check_change(record, change, terms)
        # A stop that was hit is an ordinary order now: its trigger is not judged again.
        judged = terms if record.triggered_at is None else terms.without_trigger()
        market = replace(market, quote=self._checked(judged, market, now))
        freed = money.with_cash(record.hold.block)
        promised = view.promised - record.closing_quantity
        _take_terms(record, change, terms, now)
        position = _today(view.position, now)
        standing, changes = self._enter(record, freed, position, promised, market)
        changes.orders.append(record)
        return self._saved(changes, record, money, standing)

    def _cancel(self, number: int) -> OrderRecord:
        money = self._lock()
        record = self._open_order(number)
        money = money.with_cash(record.hold.block)
        record.end(ReportedStatus.CANCELLED, self.context.now())
        save(Changes(orders=[record], accounts=[AccountRecord(self.connection_id, money)]))
        return record

    def _enter(
        self,
        record: OrderRecord,
        money: Money,
        position: Position,
        promised: int,
        market: Meeting,
    ) -> tuple[Standing, Changes]:
        """Block what the order needs and match it. Raises `Refused`; nothing is written yet."""
        assert market.quote is not None  # noqa: S101 - `_checked` refuses an order without one
        record.hold = execution.hold_for(record, position, promised, market.quote)
        standing = Standing(execution.blocked(money, record.hold), position, record.hold)
        return execution.match_now(record, standing, self.policy, market, record.updated_at)

    # Helpers

    def _meet(self, instrument: InstrumentRef, work: Callable[[Meeting], T]) -> T:
        """Run ``work`` in a transaction with the latest quote, again with a newer one if the book
        moved on meanwhile. The quote is read before anything is locked.
        """
        for _ in range(QUOTE_TRIES):
            market = Meeting(self.context.quote(instrument))
            try:
                return store.in_transaction(lambda: work(market))  # noqa: B023 - called at once
            except StaleQuote:
                continue
        # Our reader lags behind the book that others have seen: the order rests for the next one.
        market = Meeting(self.context.quote(instrument), may_match=False)
        return store.in_transaction(lambda: work(market))

    def _lock(self) -> Money:
        return store.lock_account(self.connection_id, self.policy.starting_cash)

    def _checked(self, terms: Terms, market: Meeting, now: datetime) -> Quote:
        is_open = self.context.market_open(terms.trade.instrument, now)
        return margins.check_market(terms, market.quote, is_open=is_open)

    def _new_record(self, number: int, request: OrderRequest, now: datetime) -> OrderRecord:
        terms = Terms.of(request)
        return OrderRecord(
            id=number,
            connection_id=self.connection_id,
            client_order_id=request.client_order_id,
            instrument=request.instrument,
            side=request.side,
            product=request.product,
            order_type=request.order_type,
            validity=request.validity,
            quantity=request.quantity,
            price=terms.price,
            trigger_price=terms.trigger_price,
            disclosed_quantity=request.disclosed_quantity,
            status=ReportedStatus.OPEN,
            placed_at=now,
            queued_at=now,
            eligible_at=now + timedelta(milliseconds=self.policy.latency_ms),
            expires_at=self.context.day_end(request.instrument, now),
            updated_at=now,
        )

    def _first(self, order_id: int) -> tuple[OrderRecord, list[FillRecord]]:
        record = store.read_order(self.connection_id, order_id)
        assert record is not None  # noqa: S101 - just found by its tag; orders are never deleted
        return record, store.read_fills(self.connection_id, order_id=order_id)

    def _open_order(self, number: int) -> OrderRecord:
        record = store.read_order(self.connection_id, number)
        if record is None:
            raise _unknown_order()
        if not record.is_open:
            raise OrderNotFound(
                f"The order is complete: {record.status}.", broker=BROKER, code="order_complete"
            )
        return record

    def _saved(
        self, changes: Changes, record: OrderRecord, before: Money, standing: Standing
    ) -> tuple[OrderRecord, list[FillRecord]]:
        if standing.money != before:
            changes.accounts.append(AccountRecord(self.connection_id, standing.money))
        if changes.fills:
            changes.positions.append(
                PositionRecord(
                    self.connection_id, record.instrument, record.product, standing.position
                )
            )
        save(changes)
        return record, changes.fills


def _check_change(record: OrderRecord, change: OrderChange, terms: Terms) -> None:
    margins.check_terms(terms, change.disclosed_quantity)
    if change.quantity <= record.filled_quantity:
        raise InvalidOrder(
            f"{record.filled_quantity} units are filled already; the new quantity must be larger.",
            broker=BROKER,
            code="quantity",
        )
    hit = record.triggered_at is not None
    if hit and change.order_type.has_trigger and terms.trigger_price != record.trigger_price:
        raise InvalidOrder(
            "The stop was hit already; its trigger price cannot change.",
            broker=BROKER,
            code="trigger_price",
        )


def _take_terms(record: OrderRecord, change: OrderChange, terms: Terms, now: datetime) -> None:
    if (
        terms.quantity > record.quantity
        or terms.price != record.price
        or terms.order_type is not record.order_type
    ):
        record.queued_at = now
    if not terms.order_type.has_trigger:
        record.triggered_at = None
    record.order_type, record.quantity = terms.order_type, terms.quantity
    record.price, record.trigger_price = terms.price, terms.trigger_price
    record.validity, record.disclosed_quantity = change.validity, change.disclosed_quantity
    record.updated_at = now


def _today(position: Position | None, now: datetime) -> Position:
    today = store.today(now)
    return Position(today) if position is None else position.on(today)


def _number(broker_order_id: str) -> int:
    if (number := order_number(broker_order_id)) is None:
        raise _unknown_order()
    return number


def _ack(record: OrderRecord, fills: list[FillRecord]) -> OrderAck:
    return OrderAck(record.broker_order_id, record.report(), tuple(f.report() for f in fills))


def _unknown_order() -> OrderNotFound:
    return OrderNotFound(
        "The paper broker has no such order.", broker=BROKER, code="order_not_found"
    )
