"""The paper broker's own rows as values, and their translation to the reports of the boundary.
Pure Python.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from brokerages.adapters.paper.ledger import Hold, Money, Position
from brokerages.adapters.paper.margins import FOUR, Terms, Trade
from brokerages.adapters.paper.matching import Contender
from brokerages.types import (
    ZERO,
    Exchange,
    FillReport,
    InstrumentKind,
    InstrumentRef,
    OrderReport,
    OrderType,
    Product,
    ReportedStatus,
    Segment,
    Side,
    Validity,
)

OPEN = frozenset(
    {ReportedStatus.OPEN, ReportedStatus.TRIGGER_PENDING, ReportedStatus.PARTIALLY_FILLED}
)


@dataclass(slots=True)
class OrderRecord:
    """One row of the order table. Mutable: an operation loads it, changes it and saves it under
    the account's lock.
    """

    id: int
    connection_id: UUID
    client_order_id: str
    instrument: InstrumentRef
    side: Side
    product: Product
    order_type: OrderType
    validity: Validity
    quantity: int
    price: Decimal | None
    trigger_price: Decimal | None
    disclosed_quantity: int
    status: ReportedStatus
    placed_at: datetime
    queued_at: datetime
    eligible_at: datetime
    expires_at: datetime
    updated_at: datetime
    filled_quantity: int = 0
    filled_value: Decimal = ZERO
    fill_count: int = 0
    closing_quantity: int = 0
    block_unit: Decimal = ZERO
    code: str = ""
    message: str = ""
    triggered_at: datetime | None = None

    @property
    def is_open(self) -> bool:
        return self.status in OPEN

    @property
    def remaining(self) -> int:
        return self.quantity - self.filled_quantity

    @property
    def hold(self) -> Hold:
        """What the order blocks: nothing once it has ended."""
        if not self.is_open:
            return Hold(0)
        return Hold(self.remaining, self.closing_quantity, self.block_unit)

    @hold.setter
    def hold(self, hold: Hold) -> None:
        self.closing_quantity, self.block_unit = hold.closing, hold.unit

    @property
    def trade(self) -> Trade:
        return Trade(self.instrument, self.product, self.side)

    @property
    def terms(self) -> Terms:
        return Terms(self.trade, self.order_type, self.quantity, self.price, self.trigger_price)

    @property
    def awaits_trigger(self) -> bool:
        return self.order_type.has_trigger and self.triggered_at is None

    @property
    def limit(self) -> Decimal | None:
        return self.price if self.order_type.has_price else None

    @property
    def contender(self) -> Contender:
        return Contender(self.id, self.limit, self.remaining, self.queued_at)

    @property
    def broker_order_id(self) -> str:
        return f"P{self.id}"

    def end(self, status: ReportedStatus, at: datetime, code: str = "", message: str = "") -> None:
        """Bring the order to its end. What it blocks has to be released by the caller first."""
        self.status, self.code, self.message, self.updated_at = status, code, message, at
        self.closing_quantity, self.block_unit = 0, ZERO

    def report(self) -> OrderReport:
        average = (
            (self.filled_value / self.filled_quantity).quantize(FOUR)
            if self.filled_quantity
            else None
        )
        return OrderReport(
            broker_order_id=self.broker_order_id,
            client_order_id=self.client_order_id,
            status=self.status,
            filled_quantity=self.filled_quantity,
            average_price=average,
            reported_at=self.updated_at,
            message=self.message,
            exchange_order_id=self.broker_order_id,
            quantity=self.quantity,
            price=self.price,
            trigger_price=self.trigger_price,
        )


@dataclass(frozen=True, slots=True)
class FillRecord:
    """One row of the fill table, with what its report needs from the order."""

    order_id: int
    number: int
    connection_id: UUID
    client_order_id: str
    exchange: Exchange
    side: Side
    quantity: int
    price: Decimal
    filled_at: datetime

    def report(self) -> FillReport:
        return FillReport(
            fill_id=f"P{self.order_id}-{self.number}",
            broker_order_id=f"P{self.order_id}",
            client_order_id=self.client_order_id,
            exchange=self.exchange,
            side=self.side,
            quantity=self.quantity,
            price=self.price,
            filled_at=self.filled_at,
        )


@dataclass(frozen=True, slots=True)
class PositionRecord:
    """One row of the position table."""

    connection_id: UUID
    instrument: InstrumentRef
    product: Product
    position: Position


@dataclass(slots=True)
class Book:
    """What our orders have taken from the book with this sequence, by the side that took."""

    instrument_id: int
    source: str
    sequence: int
    quoted_at: datetime
    matched_at: datetime
    taken: dict[str, dict[str, int]]


@dataclass(frozen=True, slots=True)
class EventRecord:
    """One row of the outbox."""

    connection_id: UUID
    order_id: int
    report: dict[str, Any]
    fills: list[dict[str, Any]]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class AccountRecord:
    connection_id: UUID
    money: Money


def order_number(broker_order_id: str) -> int | None:
    """Return the key of the row behind our order id, or None for an id that cannot be ours."""
    digits = broker_order_id[1:]
    if not broker_order_id.startswith("P") or not digits.isascii() or not digits.isdigit():
        return None
    number = int(digits) if len(digits) <= 18 else 0
    return number or None


def instrument_to_json(instrument: InstrumentRef) -> dict[str, Any]:
    """Return the reference as JSON values: the row keeps the contract as it was when the order
    came.
    """
    return {
        "id": instrument.id,
        "exchange": instrument.exchange.value,
        "segment": instrument.segment.value,
        "symbol": instrument.symbol,
        "kind": instrument.kind.value,
        "exchange_token": instrument.exchange_token,
        "isin": instrument.isin,
        "name": instrument.name,
        "tick_size": str(instrument.tick_size),
        "lot_size": instrument.lot_size,
        "freeze_quantity": instrument.freeze_quantity,
        "expiry": instrument.expiry.isoformat() if instrument.expiry else None,
        "strike": str(instrument.strike) if instrument.strike is not None else None,
        "underlying": instrument.underlying,
    }


def instrument_from_json(row: dict[str, Any]) -> InstrumentRef:
    """Read what `instrument_to_json` wrote."""
    return InstrumentRef(
        id=row["id"],
        exchange=Exchange(row["exchange"]),
        segment=Segment(row["segment"]),
        symbol=row["symbol"],
        kind=InstrumentKind(row["kind"]),
        exchange_token=row["exchange_token"],
        isin=row["isin"],
        name=row["name"],
        tick_size=Decimal(row["tick_size"]),
        lot_size=row["lot_size"],
        freeze_quantity=row["freeze_quantity"],
        expiry=date.fromisoformat(row["expiry"]) if row["expiry"] else None,
        strike=Decimal(row["strike"]) if row["strike"] is not None else None,
        underlying=row["underlying"],
    )


def event_of(record: OrderRecord, fills: list[FillRecord]) -> EventRecord:
    """Return the outbox row that tells what the order is now and which fills brought it there."""
    report = record.report()
    return EventRecord(
        connection_id=record.connection_id,
        order_id=record.id,
        report={
            "client_order_id": report.client_order_id,
            "status": report.status.value,
            "filled_quantity": report.filled_quantity,
            "average_price": _text(report.average_price),
            "reported_at": report.reported_at.isoformat(),
            "message": report.message,
            "quantity": report.quantity,
            "price": _text(report.price),
            "trigger_price": _text(report.trigger_price),
        },
        fills=[
            {
                "number": fill.number,
                "exchange": fill.exchange.value,
                "side": fill.side.value,
                "quantity": fill.quantity,
                "price": str(fill.price),
                "filled_at": fill.filled_at.isoformat(),
            }
            for fill in fills
        ],
        created_at=record.updated_at,
    )


def event_reports(
    connection_id: UUID, order_id: int, report: dict[str, Any], fills: list[dict[str, Any]]
) -> tuple[OrderReport, tuple[FillReport, ...]]:
    """Read what `event_of` wrote."""
    tag = report["client_order_id"]
    order = OrderReport(
        broker_order_id=f"P{order_id}",
        client_order_id=tag,
        status=ReportedStatus(report["status"]),
        filled_quantity=report["filled_quantity"],
        average_price=_decimal(report["average_price"]),
        reported_at=datetime.fromisoformat(report["reported_at"]),
        message=report["message"],
        exchange_order_id=f"P{order_id}",
        quantity=report["quantity"],
        price=_decimal(report["price"]),
        trigger_price=_decimal(report["trigger_price"]),
    )
    return order, tuple(
        FillRecord(
            order_id,
            fill["number"],
            connection_id,
            tag,
            Exchange(fill["exchange"]),
            Side(fill["side"]),
            fill["quantity"],
            Decimal(fill["price"]),
            datetime.fromisoformat(fill["filled_at"]),
        ).report()
        for fill in fills
    )


def _text(value: Decimal | None) -> str | None:
    return None if value is None else str(value)


def _decimal(value: str | None) -> Decimal | None:
    return None if value is None else Decimal(value)
