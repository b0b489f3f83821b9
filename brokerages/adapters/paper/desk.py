"""Taking, changing and cancelling orders at the paper broker: each one transaction under the account's lock.

The answer of a call says what became of the order at once, so nothing is written to the outbox here. A refusal by the market's or
the account's state leaves a REJECTED order in the book, as brokers do; terms that can never be right leave nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID

from brokerages.adapters.paper import margins, matching, store
from brokerages.adapters.paper.ledger import Hold, Money, Position, Standing, affordable, after_fill
from brokerages.adapters.paper.margins import BROKER
from brokerages.adapters.paper.matching import Match, Slippage
from brokerages.adapters.paper.records import (
    AccountRecord,
    Book,
    FillRecord,
    OrderRecord,
    PositionRecord,
    order_number,
)
from brokerages.adapters.paper.store import Changes, Policy, StaleQuote
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
    OrderType,
    Quote,
    ReportedStatus,
    Side,
    Validity,
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


@dataclass(frozen=True, slots=True)
class Meeting:
    """The market that an order meets. Without ``may_match`` the quote serves for checks and prices only."""

    quote: Quote | None
    may_match: bool = True


# --- The three operations ------------------------------------------------------------------------


def place(context: AdapterContext, request: OrderRequest) -> OrderAck:
    """Take an order and match it at once. A tag that was used before returns its first order as it is now.

    Raises:
        InvalidOrder, NotSupported: the terms are wrong.
        MarketClosed, InsufficientFunds, InsufficientHoldings, Refused: the order stands in the book as REJECTED.
    """
    margins.check_terms(request)
    policy = store.policy()
    connection_id = UUID(context.connection_id)
    record, fills = _with_quote(
        context,
        request.instrument,
        lambda meeting: _place(context, connection_id, policy, request, meeting),
    )
    if record.status is ReportedStatus.REJECTED:
        raise _REFUSALS.get(record.code, InvalidOrder)(
            record.message, broker=BROKER, code=record.code
        )
    return _ack(record, fills)


def modify(context: AdapterContext, broker_order_id: str, change: OrderChange) -> OrderAck:
    """Give an open order new terms and match it at once if they allow.

    It keeps its place in the queue unless its price or type changes or its quantity grows.

    Raises:
        OrderNotFound: no such order, or it is at its end.
        InvalidOrder, MarketClosed, InsufficientFunds, InsufficientHoldings: the order stays as it was.
    """
    policy = store.policy()
    connection_id = UUID(context.connection_id)
    number = order_number(broker_order_id)
    seen = store.read_order(connection_id, number) if number else None
    if seen is None:
        raise _unknown_order()
    record, fills = _with_quote(
        context,
        seen.instrument,
        lambda meeting: _modify(context, connection_id, policy, seen.id, change, meeting),
    )
    return _ack(record, fills)


def cancel(context: AdapterContext, broker_order_id: str) -> OrderAck:
    """Cancel what is not filled and give back what it blocks.

    Raises:
        OrderNotFound: no such order, or it is at its end.
    """
    connection_id = UUID(context.connection_id)
    number = order_number(broker_order_id)
    if number is None:
        raise _unknown_order()
    starting_cash = store.policy().starting_cash

    def work() -> OrderRecord:
        money = store.lock_account(connection_id, starting_cash)
        record = _open_order(connection_id, number)
        money = money.with_cash(record.hold.block)
        record.end(ReportedStatus.CANCELLED, context.now())
        account = AccountRecord(connection_id, money)
        store.save(Changes(orders=[record], accounts=[account]))
        return record

    return _ack(store.in_transaction(work), [])


# --- Inside their transactions -------------------------------------------------------------------


def _place(
    context: AdapterContext,
    connection_id: UUID,
    policy: Policy,
    request: OrderRequest,
    meeting: Meeting,
) -> tuple[OrderRecord, list[FillRecord]]:
    instrument, product, side = request.instrument, request.product, request.side
    money = store.lock_account(connection_id, policy.starting_cash)
    desk = store.read_desk(connection_id, request.client_order_id, instrument.id, product, side)
    if desk.first_id is not None:
        return _first(connection_id, desk.first_id)
    now = context.now()
    record = _new_record(context, connection_id, policy, desk.order_id, request, now)
    position = (desk.position or Position(store.today(now))).on(store.today(now))
    try:
        quote = margins.check_market(
            side,
            request.order_type,
            request.price,
            request.trigger_price,
            meeting.quote,
            is_open=context.market_open(instrument, now),
        )
        margins.check_luck(request.client_order_id, policy.reject_rate)
        hold = _hold_for(record, position, desk.promised, quote)
        standing = Standing(_blocked(money, hold), position, hold)
        record.hold = hold
        market = replace(meeting, quote=quote)
        standing, fills, book = _match_now(record, standing, policy, market, now)
    except Refused as e:
        record = _new_record(context, connection_id, policy, desk.order_id, request, now)
        record.end(ReportedStatus.REJECTED, now, e.code, e.message)
        store.save(Changes(new_order=record))
        return record, []
    changes = Changes(new_order=record, fills=fills, book=book)
    _save(changes, record, standing, money)
    return record, fills


def _modify(
    context: AdapterContext,
    connection_id: UUID,
    policy: Policy,
    number: int,
    change: OrderChange,
    meeting: Meeting,
) -> tuple[OrderRecord, list[FillRecord]]:
    money = store.lock_account(connection_id, policy.starting_cash)
    record = _open_order(connection_id, number)
    instrument, product, side = record.instrument, record.product, record.side
    now = context.now()
    desk = store.read_desk(connection_id, "", instrument.id, product, side)
    _check_change(record, change)
    triggered = record.triggered_at is not None
    quote = margins.check_market(
        side,
        # a stop that was hit is an ordinary order now: its trigger is not judged again
        _untriggered(change.order_type) if triggered else change.order_type,
        change.price,
        None if triggered else change.trigger_price,
        meeting.quote,
        is_open=context.market_open(instrument, now),
    )
    money_before = money
    money = money.with_cash(record.hold.block)
    promised = desk.promised - record.closing_quantity
    moved = (
        change.quantity > record.quantity
        or change.price != record.price
        or change.order_type is not record.order_type
    )
    if moved:
        record.queued_at = now
    record.quantity, record.order_type, record.validity = (
        change.quantity,
        change.order_type,
        change.validity,
    )
    record.price = change.price if change.order_type.has_price else None
    record.trigger_price = change.trigger_price if change.order_type.has_trigger else None
    record.disclosed_quantity, record.updated_at = change.disclosed_quantity, now
    if not change.order_type.has_trigger:
        record.triggered_at = None
    position = (desk.position or Position(store.today(now))).on(store.today(now))
    hold = _hold_for(record, position, promised, quote)
    standing = Standing(_blocked(money, hold), position, hold)
    record.hold = hold
    market = replace(meeting, quote=quote)
    standing, fills, book = _match_now(record, standing, policy, market, now)
    _save(Changes(orders=[record], fills=fills, book=book), record, standing, money_before)
    return record, fills


def _untriggered(order_type: OrderType) -> OrderType:
    """Return the type that a stop order has become once it was hit."""
    return OrderType.LIMIT if order_type.has_price else OrderType.MARKET


def _check_change(record: OrderRecord, change: OrderChange) -> None:
    margins.check_amounts(
        record.instrument,
        change.quantity,
        change.order_type,
        record.side,
        change.price,
        change.trigger_price,
    )
    if change.quantity <= record.filled_quantity:
        raise InvalidOrder(
            f"{record.filled_quantity} units are filled already; the new quantity must be larger.",
            broker=BROKER,
            code="quantity",
        )
    if not 0 <= change.disclosed_quantity <= change.quantity:
        raise InvalidOrder(
            "The disclosed quantity must be between 0 and the quantity.",
            broker=BROKER,
            code="disclosed_quantity",
        )
    if (
        record.triggered_at is not None
        and change.order_type.has_trigger
        and change.trigger_price != record.trigger_price
    ):
        raise InvalidOrder(
            "The stop was hit already; its trigger price cannot change.",
            broker=BROKER,
            code="trigger_price",
        )


def _new_record(
    context: AdapterContext,
    connection_id: UUID,
    policy: Policy,
    number: int,
    request: OrderRequest,
    now: datetime,
) -> OrderRecord:
    order_type = request.order_type
    return OrderRecord(
        id=number,
        connection_id=connection_id,
        client_order_id=request.client_order_id,
        instrument=request.instrument,
        side=request.side,
        product=request.product,
        order_type=order_type,
        validity=request.validity,
        quantity=request.quantity,
        price=request.price if order_type.has_price else None,
        trigger_price=request.trigger_price if order_type.has_trigger else None,
        disclosed_quantity=request.disclosed_quantity,
        status=ReportedStatus.OPEN,
        placed_at=now,
        queued_at=now,
        eligible_at=now + timedelta(milliseconds=policy.latency_ms),
        expires_at=context.day_end(request.instrument, now),
        updated_at=now,
    )


def _hold_for(record: OrderRecord, position: Position, promised: int, quote: Quote) -> Hold:
    """Return what the order has to block; ``promised`` units of the position are other orders' to close.

    Raises:
        InsufficientHoldings: a delivery sale of more than is held and free.
    """
    free = max(0, position.closable(record.side) - promised)
    if record.product in margins.DELIVERY and record.side is Side.SELL:
        if record.remaining > free:
            what = "shares" if record.product is Product.CNC else "units bought with margin"
            raise InsufficientHoldings(
                f"Not enough {what}: {free} can be sold, {record.remaining} were asked for.",
                broker=BROKER,
                code="insufficient_holdings",
            )
        return Hold(record.remaining, record.remaining)
    reference = margins.reference_price(
        record.side, record.order_type, record.price, record.trigger_price, quote
    )
    unit = margins.unit_margin(record.instrument, record.product, record.side, reference)
    return Hold(record.remaining, min(record.remaining, free), unit)


def _blocked(money: Money, hold: Hold) -> Money:
    """Return the money with the hold's block taken out. Raises `InsufficientFunds`."""
    if hold.block > money.cash:
        raise InsufficientFunds(
            f"Insufficient funds: ₹{hold.block:.2f} needed, ₹{money.cash:.2f} available.",
            broker=BROKER,
            code="insufficient_funds",
        )
    return replace(money, cash=money.cash - hold.block)


def _match_now(
    record: OrderRecord, standing: Standing, policy: Policy, meeting: Meeting, now: datetime
) -> tuple[Standing, list[FillRecord], Book | None]:
    """Match a newcomer: resting orders of everyone that stand before it keep their share of the book."""
    if record.awaits_trigger:
        record.status = ReportedStatus.TRIGGER_PENDING
        return standing, [], None
    if record.eligible_at > now:
        return standing, [], None
    side, instrument, quote = record.side, record.instrument, meeting.quote
    assert quote is not None  # noqa: S101 - `check_market` refuses an order without one
    best = matching.best_price(quote, side)
    fills: list[FillRecord] = []
    book = None
    if meeting.may_match and matching.crosses(side, record.limit, best):
        book = store.lock_book(instrument.id, quote)
        rivals = [
            r for r in store.read_rivals(instrument.id, side, best, now) if r.order_id != record.id
        ]
        slippage = Slippage(policy.slippage_bps, instrument.tick_size)
        levels = matching.open_levels(quote, side, book.taken.get(side.value, {}))
        matches = [
            match
            for match in matching.allocate(
                quote, side, levels, [*rivals, record.contender], slippage
            )
            if match.order_id == record.id
        ]
        standing, fills, short = fill_order(record, standing, matches, now)
        if short:
            raise InsufficientFunds(
                "Insufficient funds for the prices in the book.",
                broker=BROKER,
                code="insufficient_funds",
            )
        use_up(book, side, matches)
    standing = close_or_rest(record, standing, now)
    return standing, fills, book if fills else None


# --- Shared with the engine ----------------------------------------------------------------------


def fill_order(
    record: OrderRecord, standing: Standing, matches: list[Match], now: datetime
) -> tuple[Standing, list[FillRecord], bool]:
    """Apply matches to an order; return also whether the money ended before they did.

    ``matches`` is left with what was used: the last one is cut, the rest dropped.
    """
    fills: list[FillRecord] = []
    offered, matches[:] = list(matches), []
    terms = (record.instrument, record.product, record.side)
    for match in offered:
        quantity = match.quantity
        after = after_fill(standing, *terms, quantity, match.price)
        if after is None:
            quantity = affordable(standing, *terms, quantity, match.price)
            after = after_fill(standing, *terms, quantity, match.price) if quantity else None
        if after is None:
            return standing, fills, True
        standing = after
        record.filled_quantity += quantity
        record.filled_value += match.price * quantity
        record.fill_count += 1
        record.hold = standing.hold
        matches.append(replace(match, quantity=quantity))
        fills.append(
            FillRecord(
                record.id,
                record.fill_count,
                record.connection_id,
                record.client_order_id,
                record.instrument.exchange,
                record.side,
                quantity,
                match.price,
                now,
            )
        )
        if quantity < match.quantity:
            return standing, fills, True
    return standing, fills, False


def use_up(book: Book, side: Side, matches: Iterable[Match]) -> None:
    """Remember in the book what was taken from it."""
    book.taken[side.value] = matching.add_taken(book.taken.get(side.value, {}), matches)


def close_or_rest(record: OrderRecord, standing: Standing, now: datetime) -> Standing:
    """Give the order the status that its fills and validity say; an ended one gives back what it blocks."""
    record.updated_at = now
    if not record.remaining:
        record.end(ReportedStatus.FILLED, now)
    elif record.validity is Validity.IOC:
        record.end(ReportedStatus.CANCELLED, now, "ioc", "Not filled at once (IOC).")
    else:
        filled = record.filled_quantity > 0
        record.status = ReportedStatus.PARTIALLY_FILLED if filled else ReportedStatus.OPEN
        return standing
    return release(standing)


def release(standing: Standing) -> Standing:
    """Give back what the order still blocks."""
    return Standing(standing.money.with_cash(standing.hold.block), standing.position, Hold(0))


# --- Helpers -------------------------------------------------------------------------------------


def _with_quote(
    context: AdapterContext, instrument: InstrumentRef, work: Callable[[Meeting], T]
) -> T:
    """Run ``work`` in a transaction with the latest quote, again with a newer one if the book moved on meanwhile."""
    for _ in range(QUOTE_TRIES):
        meeting = Meeting(context.quote(instrument))
        try:
            return store.in_transaction(lambda: work(meeting))  # noqa: B023 - called at once
        except StaleQuote:
            continue
    # Our reader lags behind the book that others have seen: the order rests and meets the next one.
    meeting = Meeting(context.quote(instrument), may_match=False)
    return store.in_transaction(lambda: work(meeting))


def _save(changes: Changes, record: OrderRecord, standing: Standing, before: Money) -> None:
    if standing.money != before:
        changes.accounts.append(AccountRecord(record.connection_id, standing.money))
    if changes.fills:
        changes.positions.append(
            PositionRecord(
                record.connection_id, record.instrument, record.product, standing.position
            )
        )
    store.save(changes)


def _first(connection_id: UUID, order_id: int) -> tuple[OrderRecord, list[FillRecord]]:
    record = store.read_order(connection_id, order_id)
    assert record is not None  # noqa: S101 - just found by its tag, and orders are not deleted
    return record, store.read_fills(connection_id, order_id=order_id)


def _open_order(connection_id: UUID, number: int) -> OrderRecord:
    record = store.read_order(connection_id, number)
    if record is None:
        raise _unknown_order()
    if not record.is_open:
        raise OrderNotFound(
            f"The order is complete: {record.status}.", broker=BROKER, code="order_complete"
        )
    return record


def _ack(record: OrderRecord, fills: list[FillRecord]) -> OrderAck:
    return OrderAck(record.broker_order_id, record.report(), tuple(f.report() for f in fills))


def _unknown_order() -> OrderNotFound:
    return OrderNotFound(
        "The paper broker has no such order.", broker=BROKER, code="order_not_found"
    )
