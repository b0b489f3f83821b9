"""How an order at the paper broker blocks money, meets the book and rests or ends: for newcomers
and for the engine.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from brokerages.adapters.paper import margins, matching, store
from brokerages.adapters.paper.ledger import Hold, Money, Position, Standing, affordable, after_fill
from brokerages.adapters.paper.margins import BROKER
from brokerages.adapters.paper.matching import Match, Slippage
from brokerages.adapters.paper.records import Book, FillRecord, OrderRecord
from brokerages.adapters.paper.store import Policy
from brokerages.adapters.paper.writes import Changes
from brokerages.errors import InsufficientFunds, InsufficientHoldings
from brokerages.types import ZERO, Product, Quote, ReportedStatus, Side, Validity


@dataclass(frozen=True, slots=True)
class Meeting:
    """The market that an order meets. Without ``may_match`` the quote serves for checks and
    prices only.
    """

    quote: Quote | None
    may_match: bool = True


def hold_for(record: OrderRecord, position: Position, promised: int, quote: Quote) -> Hold:
    """Return what the order has to block; ``promised`` units of the position are other orders' to
    close.

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
    unit = record.trade.unit_margin(record.terms.reference_price(quote))
    return Hold(record.remaining, min(record.remaining, free), unit)


def blocked(money: Money, hold: Hold) -> Money:
    """Return the money with the hold's block taken out. Raises `InsufficientFunds`."""
    if hold.block > money.cash:
        raise InsufficientFunds(
            f"Insufficient funds: ₹{hold.block:.2f} needed, ₹{money.cash:.2f} available.",
            broker=BROKER,
            code="insufficient_funds",
        )
    return replace(money, cash=money.cash - hold.block)


def match_now(
    record: OrderRecord, standing: Standing, policy: Policy, market: Meeting, now: datetime
) -> tuple[Standing, Changes]:
    """Match a newcomer: resting orders of everyone that stand before it keep their share of the
    book. The changes hold its fills and the book, if it took from it.
    """
    changes = Changes()
    if record.awaits_trigger:
        record.status = ReportedStatus.TRIGGER_PENDING
        return standing, changes
    if record.eligible_at > now:
        # a stop that was changed to another type awaits nothing any more
        is_part = record.filled_quantity > 0
        record.status = ReportedStatus.PARTIALLY_FILLED if is_part else ReportedStatus.OPEN
        return standing, changes
    side, instrument, quote = record.side, record.instrument, market.quote
    best = matching.best_price(quote, side) if quote and market.may_match else None
    if quote is not None and matching.crosses(side, record.limit, best):
        book = store.lock_book(instrument.id, quote, now)
        others = store.read_rivals(instrument.id, side, best, now)
        queue = [*(other for other in others if other.order_id != record.id), record.contender]
        levels = matching.open_levels(quote, side, book.taken.get(side.value, {}))
        slippage = Slippage(policy.slippage_bps, instrument.tick_size)
        shared = matching.allocate(quote, side, levels, queue, slippage)
        matches = [match for match in shared if match.order_id == record.id]
        standing, changes.fills, short = fill_order(record, standing, matches, now)
        if short:
            raise InsufficientFunds(
                "Insufficient funds for the prices in the book.",
                broker=BROKER,
                code="insufficient_funds",
            )
        if matches:
            use_up(book, side, matches)
            changes.book = book
    return close_or_rest(record, standing, now), changes


def fill_order(
    record: OrderRecord, standing: Standing, matches: list[Match], now: datetime
) -> tuple[Standing, list[FillRecord], bool]:
    """Apply matches to an order; return also whether the money ended before they did.

    ``matches`` is left with what was used: the last one is cut, the rest dropped.
    """
    fills: list[FillRecord] = []
    offered, matches[:] = list(matches), []
    for match in offered:
        quantity = match.quantity
        after = after_fill(standing, record.trade, quantity, match.price)
        if after is None:
            # The rest is cancelled, so what it blocks may pay for as much as possible now.
            standing = unblocked(standing)
            quantity = affordable(standing, record.trade, quantity, match.price)
            after = after_fill(standing, record.trade, quantity, match.price) if quantity else None
        if after is None:
            record.hold = standing.hold
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
    """Give the order the status that its fills and validity say; an ended one gives back what it
    blocks.
    """
    record.updated_at = now
    if not record.remaining:
        record.end(ReportedStatus.FILLED, now)
    elif record.validity is Validity.IOC:
        record.end(ReportedStatus.CANCELLED, now, "ioc", "Not filled at once (IOC).")
    else:
        filled = record.filled_quantity > 0
        record.status = ReportedStatus.PARTIALLY_FILLED if filled else ReportedStatus.OPEN
        return standing
    return unblocked(standing)


def unblocked(standing: Standing) -> Standing:
    """Give back what the order still blocks."""
    hold = standing.hold
    money = standing.money.with_cash(hold.block)
    return Standing(money, standing.position, replace(hold, unit=ZERO))
