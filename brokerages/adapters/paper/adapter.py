"""The paper broker: the interface of every broker, with orders kept in our own tables and filled
against real quotes.

Nothing leaves the platform. What differs from a market is written in `matching` (the book),
`margins` (rates) and `ledger` (money). Orders whose state changes later than their ack (resting,
stops, the end of the day) are moved on by `engine.PaperEngine`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import ROUND_DOWN, ROUND_UP, Decimal
from uuid import UUID

from brokerages.adapters.paper import margins, store
from brokerages.adapters.paper.desk import Desk
from brokerages.adapters.paper.ledger import Money
from brokerages.adapters.paper.margins import BROKER, FOUR
from brokerages.base import BrokerAdapter, Capabilities, SessionRenewal
from brokerages.errors import MarketClosed
from brokerages.types import (
    PAISA,
    ZERO,
    Exchange,
    FillReport,
    Funds,
    HoldingReport,
    InstrumentRef,
    Margin,
    OrderAck,
    OrderChange,
    OrderReport,
    OrderRequest,
    OrderType,
    PositionReport,
    Product,
    Profile,
    Quote,
    QuoteDepth,
    SessionToken,
    Validity,
)


class PaperAdapter(BrokerAdapter):
    """One user's paper account."""

    name = BROKER
    label = "Paper trading"
    capabilities = Capabilities(
        order_types=frozenset(OrderType),
        products=frozenset(Product),
        validities=frozenset(Validity),
        exchanges=frozenset(Exchange),
        session_renewal=SessionRenewal.NONE,
        client_order_id_max_length=40,
        find_by_client_order_id=True,
        quotes=frozenset(QuoteDepth),
        estimates_margin=True,
        dispatch_lane="paper",  # nothing waits on a network: one worker sends them in one go
    )
    credential_fields = ()

    # session

    def open_session(self, grant: str | None) -> SessionToken:
        """Open the account with its starting cash, if it is not open yet. Sessions do not end."""
        starting_cash = store.policy().starting_cash
        store.in_transaction(lambda: store.lock_account(self._connection_id, starting_cash))
        return SessionToken(secrets={}, broker_user_id=self._client_code)

    def check_session(self) -> None:
        """Always good: there is nothing to log in to."""

    def close_session(self) -> None:
        """Nothing to end: open orders stay open, as at a broker."""

    # orders

    def place_order(self, request: OrderRequest) -> OrderAck:
        return Desk(self.context).place(request)

    def modify_order(
        self, broker_order_id: str, change: OrderChange, request: OrderRequest
    ) -> OrderAck:
        return Desk(self.context).modify(broker_order_id, change)

    def cancel_order(self, broker_order_id: str, request: OrderRequest) -> OrderAck:
        return Desk(self.context).cancel(broker_order_id)

    # reports

    def find_order(self, request: OrderRequest) -> OrderReport | None:
        record = store.read_order_by_tag(self._connection_id, request.client_order_id)
        return None if record is None else record.report()

    def fetch_orders(self) -> list[OrderReport]:
        """Return today's orders and older ones that are still open, oldest first."""
        since = store.day_start(self.context.now())
        return [record.report() for record in store.read_orders_since(self._connection_id, since)]

    def fetch_fills(self) -> list[FillReport]:
        """Return today's fills, oldest first."""
        since = store.day_start(self.context.now())
        return [fill.report() for fill in store.read_fills(self._connection_id, since=since)]

    def fetch_positions(self) -> list[PositionReport]:
        """Return open positions, and flat ones that made or lost something today. Delivery shares
        are holdings.
        """
        today = store.today(self.context.now())
        reports = []
        for record in store.read_positions(self._connection_id):
            position = record.position.on(today)
            if record.product is Product.CNC or not (position.quantity or position.realised):
                continue
            last = self._last_price(record.instrument)
            unrealised = None
            if last is not None:
                sign = 1 if position.quantity > 0 else -1
                unrealised = last * position.quantity - position.cost * sign
            reports.append(
                PositionReport(
                    exchange=record.instrument.exchange,
                    symbol=record.instrument.symbol,
                    product=record.product,
                    quantity=position.quantity,
                    average_price=_average(position.cost, abs(position.quantity)),
                    last_price=last,
                    realised=position.realised,
                    unrealised=unrealised,
                )
            )
        return reports

    def fetch_holdings(self) -> list[HoldingReport]:
        """Return delivery shares. Those bought today can be sold already; ``t1_quantity`` says
        how many they are.
        """
        today = store.today(self.context.now())
        return [
            HoldingReport(
                exchange=record.instrument.exchange,
                symbol=record.instrument.symbol,
                isin=record.instrument.isin,
                quantity=record.position.quantity,
                average_price=_average(record.position.cost, record.position.quantity),
                t1_quantity=min(record.position.on(today).bought, record.position.quantity),
                last_price=self._last_price(record.instrument),
            )
            for record in store.read_positions(self._connection_id)
            if record.product is Product.CNC and record.position.quantity
        ]

    def fetch_funds(self) -> Funds:
        """Return free cash (less what is owed) and what open orders and positions block. Delivery
        shares are spent money.
        """
        found = store.read_money(self._connection_id)
        money, used = found or (Money(store.policy().starting_cash), ZERO)
        available = (money.cash - money.debt).quantize(PAISA, ROUND_DOWN)
        used = used.quantize(PAISA, ROUND_UP)
        return Funds(available=available, used=used, total=available + used)

    def fetch_profile(self) -> Profile:
        return Profile(
            broker_user_id=self._client_code,
            name="Paper account",
            exchanges=self.capabilities.exchanges,
        )

    # market data

    def fetch_quotes(self, instruments: Sequence[InstrumentRef], depth: QuoteDepth) -> list[Quote]:
        """Return the platform's own latest quotes; instruments without one are left out."""
        found = [quote for ref in instruments if (quote := self.context.quote(ref)) is not None]
        if depth is QuoteDepth.FULL:
            return found
        return [replace(quote, bids=(), asks=()) for quote in found]

    def estimate_margin(self, requests: Sequence[OrderRequest]) -> Margin:
        """Return what the orders would block, each as if it opened all of its units.

        Raises:
            InvalidOrder: terms that can never be right.
            MarketClosed: no market data for a price.
        """
        total = ZERO
        for request in requests:
            margins.check_request(request)
            quote = self.context.quote(request.instrument)
            if quote is None:
                raise MarketClosed(
                    "There is no market data for this instrument.",
                    broker=BROKER,
                    code="no_market_data",
                )
            if request.product in margins.DELIVERY and request.side.sign < 0:
                continue  # only what is held can be sold: nothing is blocked
            terms = margins.Terms.of(request)
            unit = terms.trade.unit_margin(terms.reference_price(quote))
            total += unit * request.quantity
        return Margin(required=total.quantize(PAISA, ROUND_UP))

    @property
    def _connection_id(self) -> UUID:
        return UUID(self.context.connection_id)

    @property
    def _client_code(self) -> str:
        return f"PAPER-{self._connection_id.hex[-8:].upper()}"

    def _last_price(self, instrument: InstrumentRef) -> Decimal | None:
        quote = self.context.quote(instrument)
        return None if quote is None else quote.last_price


def _average(cost: Decimal, quantity: int) -> Decimal:
    return (cost / quantity).quantize(FOUR) if quantity else ZERO
