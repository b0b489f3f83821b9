"""The exchange behind the emulated brokers: instruments, books, matching, and the life of orders.

Thread-safe: a test moves it from outside while servers answer from their own threads. Orders of
all accounts share the displayed book, at most five levels a side, in price-time order, and use it
up; they do not trade with each other. ``latency`` says how long each stage of an order lasts on the
exchange's clock; with none, an order runs through all its stages before `place` returns. Whoever
stops the clock calls `pass_time`.

    exchange = Exchange()
    account = Account("AB1234")
    exchange.show("NSE:RELIANCE", "100", bids=[("99.95", 50)], asks=[("100", 4)])
    order = exchange.place(account, Ticket(exchange.find("NSE:RELIANCE"), "BUY", 10), id="1")
    order.filled, order.stage          # 4, Stage.OPEN
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal

from tests.emulators.core.accounts import Account, order_margin
from tests.emulators.core.clock import Clock
from tests.emulators.core.instruments import Instrument, small_list
from tests.emulators.core.market import Book, Level, Walk, spread, to_levels
from tests.emulators.core.orders import (
    CHANGEABLE,
    FINAL,
    Fill,
    Order,
    Reason,
    Refusal,
    Row,
    Stage,
    Ticket,
)

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds that an order spends in each stage before the next."""

    received: float = 0
    validating: float = 0
    sending: float = 0
    modify: float = 0  # both stages of a modification together
    cancel: float = 0


@dataclass(frozen=True, slots=True)
class OrderEvent:
    """An order has a new row; ``fill`` is the execution that made it, if one did."""

    account: Account
    order: Order
    row: Row
    fill: Fill | None = None


@dataclass(frozen=True, slots=True)
class QuoteEvent:
    instrument: Instrument


Event = OrderEvent | QuoteEvent


class Exchange:
    """``market_open`` False parks after-market orders and refuses others. ``reject_late`` names
    reasons that are told by a REJECTED order instead of a refused call. ``lost_cancels`` and
    ``lost_changes`` count how many of the next cancels and modifications the exchange refuses.
    """

    def __init__(
        self,
        instruments: Iterable[Instrument] | None = None,
        *,
        clock: Clock | None = None,
        latency: Latency | None = None,
        seed: int = 1,
    ) -> None:
        self.lock = threading.RLock()
        self.clock = clock or Clock()
        self.latency = latency or Latency()
        self.seed = seed
        self.instruments: dict[str, Instrument] = {}
        self.books: dict[str, Book] = {}
        self.orders: list[Order] = []  # alive
        self.listeners: list[Callable[[Event], None]] = []
        self.market_open = True
        self.reject_late: set[Reason] = set()
        self.lost_cancels = self.lost_changes = 0
        self._walk = Walk(seed)
        self._orders = self._fills = 0
        for instrument in instruments or small_list(self.clock.local().date()):
            self.list(instrument)

    # --- Market -----------------------------------------------------------------------------------

    def list(self, instrument: Instrument) -> None:
        """Add an instrument, with a book around its previous close."""
        last = instrument.reference
        book = Book(instrument, last, self.clock.now(), last, last, last)
        if not instrument.is_index:
            book.bids, book.asks = spread(instrument, last)
        if instrument.is_derivative:
            book.open_interest = 100_000 * instrument.lot
        self.instruments[instrument.key], self.books[instrument.key] = instrument, book

    def find(self, key: str) -> Instrument:
        """Return an instrument by its key, e.g. ``NSE:RELIANCE``."""
        try:
            return self.instruments[key]
        except KeyError:
            raise Refusal(Reason.INSTRUMENT, f"{key} is not listed", key=key) from None

    def book(self, instrument: Instrument) -> Book:
        return self.books[instrument.key]

    def show(
        self,
        key: str,
        last: object,
        bids: Sequence[tuple[object, int]] | None = None,
        asks: Sequence[tuple[object, int]] | None = None,
        *,
        volume: int = 1,
    ) -> Book:
        """Print a trade of ``volume`` units at ``last`` and display a new book: by default deep,
        five levels to each side. Triggers and matches resting orders.
        """
        with self.lock:
            instrument = self.find(key)
            book, price = self.books[key], Decimal(str(last))
            both = ([], []) if instrument.is_index else spread(instrument, price)
            book.bids = both[0] if bids is None else to_levels(bids)
            book.asks = both[1] if asks is None else to_levels(asks)
            book.trade(0 if instrument.is_index else volume, price, self.clock.now())
            self._match(instrument)
            self._tell(QuoteEvent(instrument))
            return book

    def walk(self) -> None:
        """Move prices a step, so that a running emulator is alive: all shares and indices, and some
        of the contracts.
        """
        with self.lock:
            for key, book in self.books.items():
                if self._walk.spares(book):
                    continue
                price, volume = self._walk.step(book)
                bids, asks = spread(book.instrument, price, 50 * book.instrument.lot)
                self.show(
                    key,
                    price,
                    [(level.price, level.quantity) for level in bids],
                    [(level.price, level.quantity) for level in asks],
                    volume=volume,
                )

    # --- Orders -----------------------------------------------------------------------------------

    def place(self, account: Account, ticket: Ticket, id: str) -> Order:
        """Take an order under the broker's number ``id``.

        Raises:
            Refusal: nothing was done. (For a reason in ``reject_late`` the order is taken and ends
                REJECTED.)
        """
        with self.lock:
            order = Order(id, account, ticket, self._next("_orders"), self.clock.now())
            self._set_limit(order)
            refusal = self.check(account, ticket, order.limit)
            if refusal and refusal.reason not in self.reject_late:
                raise refusal
            order.opening = account.opening_quantity(
                ticket.instrument, ticket.side, ticket.product, ticket.quantity
            )
            account.orders[id] = order
            self.orders.append(order)
            if ticket.after_market and not refusal:
                self._note(order, Stage.PARKED)
                return order
            self._note(order, Stage.RECEIVED)
            self._plan_arrival(order, account.say(refusal) if refusal else "")
            self._run_due(order)
            return order

    def modify(self, account: Account, id: str, ticket: Ticket, *, max_changes: int = 25) -> Order:
        """Ask for new terms: quantity (the new total), type, price, trigger, validity, disclosed.

        Returning means that the request was taken. It may still come to nothing: the order may
        fill first, or the exchange may refuse (a NOT_MODIFIED row).
        """
        with self.lock:
            order = self._changeable(account, id)
            if order.changes >= max_changes:
                raise Refusal(Reason.TOO_MANY_CHANGES, limit=max_changes)
            if ticket.quantity <= order.filled:
                raise Refusal(Reason.TERMS, "The quantity is not above what is filled.")
            limit = self._protected(ticket) if ticket.protection is not None else ticket.price
            refusal = self.check(account, ticket, limit, instead_of=order)
            if refusal:
                raise refusal
            back = order.stage
            if back is Stage.PARKED:
                self._apply(order, ticket)
                self._note(order, Stage.PARKED)
                return order
            half = self.latency.modify / 2
            self._note(order, Stage.MODIFY_VALIDATING)
            self._plan(order, half, lambda: self._note(order, Stage.MODIFYING))
            self._plan(order, half, lambda: self._land_change(order, ticket, back))
            self._run_due(order)
            return order

    def cancel(self, account: Account, id: str, *, message: str = "") -> Order:
        """Ask for a cancel. Returning means that the request was taken: a fill may come first."""
        with self.lock:
            order = self._changeable(account, id)
            back = order.stage
            if back is Stage.PARKED:
                self._end(order, Stage.CANCELLED, message)
                return order
            self._note(order, Stage.CANCELLING)
            self._plan(order, self.latency.cancel, lambda: self._land_cancel(order, back, message))
            self._run_due(order)
            return order

    def order(self, account: Account, id: str) -> Order:
        try:
            return account.orders[id]
        except KeyError:
            raise Refusal(Reason.UNKNOWN_ORDER, id=id) from None

    def reject(self, account: Account, id: str, message: str) -> Order:
        """Let the exchange reject an order that it has taken."""
        with self.lock:
            order = self.order(account, id)
            self._end(order, Stage.REJECTED, message)
            return order

    def fill(self, account: Account, id: str, quantity: int, price: object) -> Fill:
        """Execute a part of an order whatever the book shows, e.g. more than was ordered."""
        with self.lock:
            return self._fill(self.order(account, id), quantity, Decimal(str(price)))

    def convert(
        self,
        account: Account,
        instrument: Instrument,
        side: str,
        quantity: int,
        *,
        old: str,
        new: str,
    ) -> None:
        """Move open units from one product to another. ``side`` BUY for a long position."""
        with self.lock:
            source = account.position(instrument, old)
            sign = 1 if side == "BUY" else -1
            if old == new or quantity <= 0 or source.quantity * sign < quantity:
                raise Refusal(Reason.POSITION, held=abs(source.quantity))
            price = source.average
            self._check_product(instrument, new)
            needed = order_margin(instrument, side, new, quantity, price)
            freed = order_margin(instrument, side, old, quantity, price)
            if needed - freed > account.available:
                raise Refusal(Reason.FUNDS, required=needed, available=account.available + freed)
            away = "SELL" if side == "BUY" else "BUY"
            # The two transfers are at cost: they leave no profit, and cash as if it had been bought
            # under the new product in the first place.
            for product, leg in ((old, away), (new, side)):
                position = account.position(instrument, product)
                position.take(leg, quantity, price)
                if product == "CNC" or instrument.is_option:
                    account.cash += quantity * price * (-1 if leg == "BUY" else 1)

    # --- Time -------------------------------------------------------------------------------------

    def pass_time(self, seconds: float) -> None:
        """Move the clock on and let everything happen that is due by then."""
        self.clock.advance(seconds)
        self.advance()

    def advance(self) -> None:
        """Do what is due on the clock."""
        with self.lock:
            for order in list(self.orders):
                self._run_due(order)
                if order.ticket.ends_at and order.ticket.ends_at <= self.clock.now():
                    self._end(order, Stage.CANCELLED, "")

    def open_market(self) -> None:
        """Open, and send parked after-market orders on their way."""
        with self.lock:
            self.market_open = True
            for order in [o for o in self.orders if o.stage is Stage.PARKED]:
                self._plan_arrival(order, "")
                self._run_due(order)

    def close_market(self) -> None:
        self.market_open = False

    def end_day(self, message: str = "") -> None:
        """Close, and cancel what still waits. After-market orders stay, and the day's book stays
        readable until `new_day`.
        """
        with self.lock:
            self.market_open = False
            for order in [o for o in self.orders if o.stage is not Stage.PARKED]:
                self._end(order, Stage.CANCELLED, message)

    def new_day(self, accounts: Iterable[Account]) -> None:
        """Square intraday positions off at the last price, settle the accounts' day, empty their
        books and open. Prices keep.
        """
        with self.lock:
            self.end_day()
            for account in accounts:
                for (key, product), position in account.positions.items():
                    if product == "MIS" and position.quantity:
                        price, units = self.books[key].last, position.quantity
                        side = "SELL" if units > 0 else "BUY"
                        account.cash += position.take(side, abs(units), price)
                account.end_day()
                account.orders = {k: o for k, o in account.orders.items() if o.alive}
            self.open_market()

    # --- Checks -----------------------------------------------------------------------------------

    def check(
        self,
        account: Account,
        ticket: Ticket,
        limit: Decimal | None,
        *,
        instead_of: Order | None = None,
    ) -> Refusal | None:
        """Return why the risk system does not take a ticket, or None. ``instead_of`` is the order
        that it replaces.
        """
        try:
            self._check_terms(ticket)
            self._check_market(account, ticket, limit, instead_of)
        except Refusal as refusal:
            return refusal
        return None

    def required(self, ticket: Ticket, account: Account | None = None) -> Decimal:
        """Return the margin of a ticket in rupees; with an account, less what its positions
        cover.
        """
        price = self._protected(ticket) or ticket.price or self.book(ticket.instrument).last
        units = ticket.quantity
        if account:
            units = account.opening_quantity(
                ticket.instrument, ticket.side, ticket.product, ticket.quantity
            )
        return order_margin(ticket.instrument, ticket.side, ticket.product, units, price)

    def _check_terms(self, ticket: Ticket) -> None:
        instrument = ticket.instrument
        if instrument.is_index:
            raise Refusal(Reason.INSTRUMENT, f"{instrument.key} cannot be traded")
        self._check_product(instrument, ticket.product)
        if ticket.quantity <= 0:
            raise Refusal(Reason.TERMS, "The quantity is not above zero.", field="quantity")
        for value, wanted, name in (
            (ticket.price, ticket.has_price, "price"),
            (ticket.trigger, ticket.has_trigger, "trigger_price"),
        ):
            if wanted and (value is None or value <= 0):
                raise Refusal(Reason.TERMS, f"{name} is missing.", field=name)
            if wanted and value % instrument.tick:
                raise Refusal(Reason.TICK, tick=instrument.tick, field=name, price=value)
            if wanted and not instrument.lower_circuit <= value <= instrument.upper_circuit:
                raise Refusal(
                    Reason.BAND, low=instrument.lower_circuit, high=instrument.upper_circuit
                )
        if ticket.type == "SL":
            gap = ticket.price - ticket.trigger  # a stop that could never trade after its trigger
            if gap * (1 if ticket.side == "BUY" else -1) < 0:
                raise Refusal(Reason.TERMS, "The price is beyond the trigger.", field="trigger")
        if ticket.quantity % instrument.lot:
            raise Refusal(Reason.LOT, lot=instrument.lot)
        if instrument.freeze and ticket.quantity > instrument.freeze:
            raise Refusal(Reason.FREEZE, freeze=instrument.freeze, quantity=ticket.quantity)

    def _check_product(self, instrument: Instrument, product: str) -> None:
        allowed = ("NRML", "MIS") if instrument.is_derivative else ("CNC", "MIS", "MTF")
        if product not in allowed:
            raise Refusal(Reason.PRODUCT, product=product)

    def _check_market(
        self, account: Account, ticket: Ticket, limit: Decimal | None, old: Order | None
    ) -> None:
        instrument = ticket.instrument
        if not self.market_open and not ticket.after_market:
            raise Refusal(Reason.CLOSED)
        held = old.blocked if old else ZERO
        mine = old.remaining if old else 0
        if ticket.product == "CNC" and ticket.side == "SELL":
            holding = account.holdings.get(instrument.key)
            free = account.sellable(instrument) + mine
            if holding and not holding.authorised:
                raise Refusal(Reason.AUTHORISATION)
            if ticket.quantity - (old.filled if old else 0) > free:
                raise Refusal(Reason.HOLDINGS, wanted=ticket.quantity, held=max(free, 0))
        units = account.opening_quantity(instrument, ticket.side, ticket.product, ticket.quantity)
        price = limit or ticket.price or self.book(instrument).last
        needed = order_margin(instrument, ticket.side, ticket.product, units, price)
        if needed > account.available + held:
            raise Refusal(Reason.FUNDS, required=needed, available=account.available + held)

    # --- The life of an order ---------------------------------------------------------------------

    def _plan(self, order: Order, delay: float, step: Callable[[], None]) -> None:
        """Do ``step`` ``delay`` seconds after what is planned already."""
        last = order.due[-1][0] if order.due else self.clock.now()
        order.due.append((last + timedelta(seconds=delay), step))

    def _run_due(self, order: Order) -> None:
        while order.due and order.due[0][0] <= self.clock.now():
            order.due.pop(0)[1]()

    def _plan_arrival(self, order: Order, refusal: str) -> None:
        latency = self.latency
        self._plan(order, latency.received, lambda: self._note(order, Stage.VALIDATING))
        if refusal:
            self._plan(order, latency.validating, lambda: self._end(order, Stage.REJECTED, refusal))
            return
        self._plan(order, latency.validating, lambda: self._note(order, Stage.SENDING))
        self._plan(order, latency.sending, lambda: self._arrive(order))

    def _arrive(self, order: Order) -> None:
        order.exchange_id = f"{1_100_000_000_000_000 + order.number}"
        order.reached_at, order.resting = self.clock.now(), True
        order.triggered = not order.ticket.has_trigger
        self._note(order, Stage.OPEN if order.triggered else Stage.TRIGGER_PENDING)
        self._match(order.instrument)
        if order.validity == "IOC" and order.alive:
            self._end(order, Stage.CANCELLED, "")

    def _land_change(self, order: Order, ticket: Ticket, back: Stage) -> None:
        if not order.alive:
            return  # it filled first
        if self.lost_changes or ticket.quantity <= order.filled:
            self.lost_changes = max(self.lost_changes - 1, 0)
            order.message = "The exchange did not take the modification."
            self._note(order, Stage.NOT_MODIFIED)
        else:
            self._apply(order, ticket)
            self._note(order, Stage.MODIFIED)
        # A change of type may make a plain order of a waiting stop, or the other way round.
        if not order.type.startswith("SL"):
            order.triggered, back = True, Stage.OPEN
        self._note(order, Stage.OPEN if order.triggered else back)
        order.message = ""
        self._match(order.instrument)
        if order.validity == "IOC" and order.alive:
            self._end(order, Stage.CANCELLED, "")

    def _apply(self, order: Order, ticket: Ticket) -> None:
        worse_place = ticket.price != order.price or ticket.quantity > order.quantity
        order.ticket = replace(ticket, extra=order.ticket.extra | ticket.extra)
        order.quantity, order.type, order.validity = ticket.quantity, ticket.type, ticket.validity
        order.price, order.trigger, order.disclosed = ticket.price, ticket.trigger, ticket.disclosed
        order.changes += 1
        self._set_limit(order)
        order.opening = 0
        order.opening = order.account.opening_quantity(
            order.instrument, order.side, order.product, order.quantity - order.filled
        )
        if worse_place:
            order.number = self._next("_orders")

    def _land_cancel(self, order: Order, back: Stage, message: str) -> None:
        if not order.alive:
            return  # the fill won
        if self.lost_cancels:
            self.lost_cancels -= 1
            order.message = "The exchange did not take the cancellation."
            self._note(order, Stage.NOT_CANCELLED)
            order.message = ""
            self._note(order, Stage.OPEN if order.triggered else back)
            return
        self._end(order, Stage.CANCELLED, message)

    def _set_limit(self, order: Order) -> None:
        ticket = order.ticket
        order.reference = self.book(ticket.instrument).last
        protective = self._protected(ticket)
        order.protected = protective is not None
        order.limit = protective or (ticket.price if ticket.has_price else None)

    def _protected(self, ticket: Ticket) -> Decimal | None:
        """Return the limit that market protection puts on a market order, rounded to the tick."""
        if ticket.protection is None or ticket.has_price:
            return None
        instrument = ticket.instrument
        base = ticket.trigger if ticket.has_trigger else self.book(instrument).last
        sign = 1 if ticket.side == "BUY" else -1
        price = instrument.to_tick(base * (100 + sign * ticket.protection) / 100)
        return min(max(price, instrument.lower_circuit), instrument.upper_circuit)

    def _changeable(self, account: Account, id: str) -> Order:
        order = self.order(account, id)
        if order.stage in FINAL:
            raise Refusal(Reason.FINAL, stage=order.stage)
        if order.stage not in CHANGEABLE:
            raise Refusal(Reason.BUSY, stage=order.stage)
        return order

    def _end(self, order: Order, stage: Stage, message: str) -> None:
        if not order.alive:
            return
        order.message, order.resting = message, False
        order.due.clear()
        self._note(order, stage)

    def _note(self, order: Order, stage: Stage, fill: Fill | None = None) -> None:
        order.stage = stage
        row = order.row(self.clock.now())
        order.rows.append(row)
        if not order.alive and order in self.orders:
            self.orders.remove(order)
        self._tell(OrderEvent(order.account, order, row, fill))

    # --- Matching ---------------------------------------------------------------------------------

    def _match(self, instrument: Instrument) -> None:
        book = self.book(instrument)
        if not self.market_open:
            return
        resting = [o for o in self.orders if o.resting and o.instrument.key == instrument.key]
        for order in resting:
            if not order.triggered and self._is_triggered(order, book.last):
                order.triggered = True
                self._note(order, Stage.OPEN)
        for side, levels in (("BUY", book.asks), ("SELL", book.bids)):
            sign = 1 if side == "BUY" else -1
            queue = sorted(
                (o for o in resting if o.side == side and o.triggered and o.alive),
                key=lambda o: (o.limit is not None, -sign * (o.limit or ZERO), o.number),
            )
            for order in queue:
                self._take(order, levels, sign)
            levels[:] = [level for level in levels if level.quantity]

    def _take(self, order: Order, levels: list[Level], sign: int) -> None:
        for level in levels:
            if not order.remaining or (
                order.limit is not None and sign * (level.price - order.limit) > 0
            ):
                break
            if part := min(order.remaining, level.quantity):
                level.quantity -= part
                self._fill(order, part, level.price)

    def _is_triggered(self, order: Order, last: Decimal) -> bool:
        if order.trigger is None:
            return True
        return last >= order.trigger if order.side == "BUY" else last <= order.trigger

    def _fill(self, order: Order, quantity: int, price: Decimal) -> Fill:
        at = self.clock.now()
        fill = Fill(str(self._next("_fills")), order, quantity, price, at)
        order.account.settle(order, quantity, price)
        order.filled += quantity
        order.value += quantity * price
        order.fills.append(fill)
        book = self.book(order.instrument)
        book.volume += quantity
        book.turnover += quantity * price
        book.last_quantity, book.at = quantity, at
        if order.filled >= order.quantity:
            order.resting = False
            order.due.clear()
            self._note(order, Stage.COMPLETE, fill)
        else:
            self._note(order, order.stage, fill)
        return fill

    # --- Odds and ends ----------------------------------------------------------------------------

    def _next(self, counter: str) -> int:
        value = getattr(self, counter) + 1
        setattr(self, counter, value)
        return value

    def _tell(self, event: Event) -> None:
        for listener in list(self.listeners):
            listener(event)


def stages(order: Order) -> list[str]:
    """Return the stages that an order went through, repeats left out."""
    found: list[str] = []
    for row in order.rows:
        if not found or found[-1] != row.stage:
            found.append(str(row.stage))
    return found
