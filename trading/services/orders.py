"""Accepting what the user wants: write and queue, send nothing."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from audit.ids import uuid7
from audit.services import ENTRY_INSERT, entry_params, record
from audit.sql import Statement
from brokerages.registry import adapter_class
from brokerages.selectors import ConnectionBrief
from brokerages.types import ZERO, OrderRequest, OrderType, Product, Side, Validity
from marketdata.broker_refs import ref_at_broker
from marketdata.errors import NotAtBroker
from marketdata.quotes import quote_for_order, takes_orders, trading_day
from marketdata.selectors import ref_by_id
from trading import push
from trading.errors import IdempotencyMismatch, NotFound, OrderDenied, OrderStateConflict
from trading.models import Order, OrderCommand
from trading.order_states import CANCELLABLE, CLOSED, MODIFIABLE, OrderStatus, OrderTrigger
from trading.outputs import ORDER_FIELDS, order_output
from trading.risk import Denial, OrderTerms, why_denied
from trading.services.edits import OrderEdit, order_lock, order_values
from trading.services.outbox import command_enqueue, lane_shared, wake

_TAG_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32: no broker refuses it


@dataclass(frozen=True, slots=True)
class Placed:
    """The order as it stands, and whether the request was a repetition of an earlier one."""

    order: dict[str, Any]
    replayed: bool


def new_tag() -> str:
    """Return 20 characters with 100 random bits: the longest tag that every broker can carry."""
    bits = secrets.randbits(100)
    return "".join(_TAG_ALPHABET[(bits >> shift) & 31] for shift in range(0, 100, 5))


def order_denial(connection: ConnectionBrief, terms: OrderTerms, *, now: datetime) -> Denial | None:
    """Return why the order cannot be taken: the broker's capabilities, then our own rules, by the
    lot, tick and freeze quantity that the instrument has at this broker.
    """
    broker, ref = connection.broker, terms.instrument
    request = order_request(terms, tag="")
    if reason := adapter_class(broker).capabilities.why_not(request):
        return Denial(*reason)
    try:
        theirs = terms_at_broker(broker, terms)
    except NotAtBroker as e:
        return Denial(e.code, e.message)
    return why_denied(
        theirs,
        today=trading_day(now),
        is_open=takes_orders(broker, ref, now),
        quote=quote_for_order(broker, ref),
    )


def terms_at_broker(broker: str, terms: OrderTerms) -> OrderTerms:
    """Return the terms with the instrument as this broker knows it.

    Raises:
        NotAtBroker: it does not list it.
    """
    theirs = ref_at_broker(broker, terms.instrument.id)
    return terms if theirs is terms.instrument else replace(terms, instrument=theirs)


def order_request(terms: OrderTerms, *, tag: str) -> OrderRequest:
    """Return what a broker is asked for."""
    return OrderRequest(
        client_order_id=tag,
        instrument=terms.instrument,
        side=terms.side,
        quantity=terms.quantity,
        order_type=terms.order_type,
        product=terms.product,
        validity=terms.validity,
        price=terms.price,
        trigger_price=terms.trigger_price,
        disclosed_quantity=terms.disclosed_quantity,
        after_market=terms.after_market,
        iceberg_legs=terms.iceberg_legs,
        market_protection=terms.market_protection,
    )


_PLACE_TEXT = """
WITH placed AS (
    INSERT INTO trading_order (
        id, user_id, connection_id, instrument_id, idempotency_key, client_order_id, fingerprint,
        tag, side, order_type,
        product, validity, quantity, price, trigger_price, disclosed_quantity, after_market,
        iceberg_legs, market_protection, status, status_message, status_code,
        filled_quantity, fill_value, broker_order_id, exchange_order_id, source, version,
        created_at, updated_at
    ) VALUES (
        %(id)s, %(user_id)s, %(connection_id)s, %(instrument_id)s, %(idempotency_key)s,
        %(client_order_id)s, %(fingerprint)s, %(tag)s, %(side)s, %(order_type)s, %(product)s,
        %(validity)s, %(quantity)s, %(price)s, %(trigger_price)s, %(disclosed_quantity)s,
        %(after_market)s, %(iceberg_legs)s, %(market_protection)s,
        'PENDING', '', '', 0, 0, '', '', %(source)s, 1, %(now)s, %(now)s
    ) ON CONFLICT DO NOTHING RETURNING id
), command AS (
    INSERT INTO trading_ordercommand (
        order_id, kind, state, lane, sends, attempts, not_before, created_at, checks, error_code,
        error_message
    ) SELECT id, 'PLACE', 'WAITING', %(lane)s, 0, 0, clock_timestamp(), clock_timestamp(), 0, '', ''
    FROM placed
), entry AS (
    <audit entry> FROM placed
)
INSERT INTO trading_orderevent (order_id, user_id, kind, status, message, data, at)
SELECT id, %(user_id)s, 'PLACED', 'PENDING', '', '{}', %(now)s FROM placed RETURNING id
""".replace("<audit entry>", ENTRY_INSERT)
_PLACE = Statement(_PLACE_TEXT)


def order_place(
    *,
    user_id: UUID,
    connection: ConnectionBrief,
    terms: OrderTerms,
    idempotency_key: str,
    client_order_id: str | None = None,
    source: str = Order.Source.API,
) -> Placed:
    """Accept an order and queue it for its broker. Nothing is sent before the commit.

    A repeated ``idempotency_key`` or ``client_order_id`` returns the first order and changes
    nothing. Order, outbox row, timeline and audit entry are one statement: the whole is there or
    nothing is, for one round trip.

    Raises:
        OrderDenied: our checks or the broker's stated capabilities rule the order out.
        IdempotencyMismatch: the key was used for a different order.
    """
    now = timezone.now()
    fingerprint = _fingerprint(connection.id, terms)
    if denial := order_denial(connection, terms, now=now):
        if first := _first_order(user_id, idempotency_key, client_order_id, fingerprint):
            # it was fine when it was placed; a retry after the close must not read as a denial
            return first
        raise OrderDenied(denial.message, code=denial.code, detail=denial.detail)
    lane = dispatch_lane(connection)
    order_id = uuid7()
    ref = terms.instrument
    values: dict[str, Any] = {
        "id": order_id,
        "user_id": user_id,
        "connection_id": connection.id,
        "instrument_id": ref.id,
        "idempotency_key": idempotency_key,
        "client_order_id": client_order_id,
        "fingerprint": fingerprint,
        "tag": new_tag(),
        "side": terms.side.value,
        "order_type": terms.order_type.value,
        "product": terms.product.value,
        "validity": terms.validity.value,
        "quantity": terms.quantity,
        "price": terms.price,
        "trigger_price": terms.trigger_price,
        "disclosed_quantity": terms.disclosed_quantity,
        "after_market": terms.after_market,
        "iceberg_legs": terms.iceberg_legs,
        "market_protection": terms.market_protection,
        "source": source,
        "now": now,
        "lane": lane,
    }
    entry = entry_params(
        "order.placed",
        object_type="order",
        object_id=order_id,
        user_id=user_id,
        changes=_audited(ref.key, connection.broker, terms),
    )
    placed = _PLACE.row(values | entry)
    if placed is None:
        first = _first_order(user_id, idempotency_key, client_order_id, fingerprint)
        if first is None:
            raise RuntimeError("an order was refused by a unique key that no order holds")
        return first
    order = _placed_output(values, connection)
    transaction.on_commit(lambda: wake(lane))
    event = {
        "sequence": placed[0],
        "kind": "PLACED",
        "status": order["status"],
        "message": "",
        "data": {},
        "at": now,
    }
    push.publish_on_commit([(user_id, "orders", placed[0], {"order": order, "event": event})])
    return Placed(order, replayed=False)


def order_modify(*, user_id: UUID, order_id: UUID, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Queue new terms for a resting order; ``changes`` holds only what differs. Returns the order
    as it stands.

    The order shows its old terms until the broker took the new ones.

    Raises:
        NotFound: no such order of this user.
        OrderStateConflict: the order does not rest at its broker, or an earlier modify is still on
            its way.
        OrderDenied: the new terms break a rule.
    """
    with transaction.atomic():
        order = order_lock(order_id, user_id=user_id)
        connection = _connection(order)
        if OrderStatus(order.status) not in MODIFIABLE:
            raise OrderStateConflict(f"An order that is {order.status} cannot be modified.")
        if order.commands.filter(kind=OrderCommand.Kind.MODIFY, state__in=_ON_THE_WAY).exists():
            raise OrderStateConflict("An earlier modify of this order is still on its way.")
        terms = _changed_terms(order, changes)
        if terms.quantity <= order.filled_quantity:
            raise OrderDenied(
                f"{order.filled_quantity} are filled already; the new quantity must be more.",
                code="quantity_filled",
            )
        if denial := order_denial(connection, terms, now=timezone.now()):
            raise OrderDenied(denial.message, code=denial.code, detail=denial.detail)
        stored = {
            "quantity": terms.quantity,
            "order_type": terms.order_type.value,
            "validity": terms.validity.value,
            "price": _text(terms.price),
            "trigger_price": _text(terms.trigger_price),
            "disclosed_quantity": terms.disclosed_quantity,
        }
        command_enqueue(
            order, OrderCommand.Kind.MODIFY, lane=dispatch_lane(connection), terms=stored
        )
        edit = OrderEdit(order, broker=connection.broker)
        edit.note("MODIFY_REQUESTED", data=stored)
        edit.save()
        record(
            "order.modify_requested",
            object_type="order",
            object_id=order.pk,
            user_id=user_id,
            changes=stored,
        )
    return order_output(order_values(order, connection.broker))


def order_cancel(*, user_id: UUID, order_id: UUID) -> dict[str, Any]:
    """Ask for a cancel: at once where the order never left us, else through its broker. Returns the
    order as it stands.

    Asking again while a cancel is on its way changes nothing.

    Raises:
        NotFound: no such order of this user.
        OrderStateConflict: the order is at its end already.
    """
    with transaction.atomic():
        if not Order.objects.filter(pk=order_id, user_id=user_id).exists():
            raise NotFound("no such order")
        # the command first, whatever its state: who claims it or puts it back locks it before the
        # order, so that what is decided here holds until the commit
        place = (
            OrderCommand.objects.select_for_update(no_key=True)
            .filter(order_id=order_id, kind=OrderCommand.Kind.PLACE)
            .first()
        )
        order = order_lock(order_id, user_id=user_id)
        connection = _connection(order)
        status = OrderStatus(order.status)
        if status is OrderStatus.PENDING_CANCEL:
            return order_output(order_values(order, connection.broker))
        if status not in CANCELLABLE:
            raise OrderStateConflict(
                f"The order is already {order.status}.", detail={"status": order.status}
            )
        edit = OrderEdit(order, broker=connection.broker)
        if place is not None and place.state == OrderCommand.State.WAITING:
            place.state, place.error_code = OrderCommand.State.DROPPED, "cancelled"
            place.settled_at = timezone.now()
            place.save(update_fields=["state", "error_code", "settled_at"])
            edit.trigger(
                OrderTrigger.REQUEST_CANCEL, "CANCELLED", message="Cancelled before it was sent."
            )
        else:
            edit.trigger(OrderTrigger.REQUEST_CANCEL, "CANCEL_REQUESTED")
            command_enqueue(order, OrderCommand.Kind.CANCEL, lane=dispatch_lane(connection))
        edit.save()
        record(
            "order.cancel_requested",
            object_type="order",
            object_id=order.pk,
            user_id=user_id,
            changes={"status": order.status},
        )
    return order_output(order_values(order, connection.broker))


def orders_cancel_all(*, user_id: UUID, connection_id: UUID | None = None) -> dict[str, Any]:
    """Ask for a cancel of every live order; return the ids asked for, and what could not be, each
    with its reason.
    """
    live = Order.objects.filter(user_id=user_id).exclude(status__in=[s.value for s in CLOSED])
    if connection_id is not None:
        live = live.filter(connection_id=connection_id)
    cancelled, failed = [], []
    for order_id in live.order_by("id").values_list("pk", flat=True):
        try:
            order_cancel(user_id=user_id, order_id=order_id)
        except OrderStateConflict as e:  # it ended meanwhile
            failed.append({"id": order_id, "code": e.code, "message": e.message})
        else:
            cancelled.append(order_id)
    return {"cancelled": cancelled, "failed": failed}


_ON_THE_WAY = [OrderCommand.State.WAITING, OrderCommand.State.SENDING, OrderCommand.State.UNKNOWN]


def dispatch_lane(connection: ConnectionBrief) -> str:
    """Return the lane whose worker sends for this connection."""
    shared = adapter_class(connection.broker).capabilities.dispatch_lane
    return lane_shared(shared, connection.id) if shared else connection.id.hex


def _connection(order: Order) -> ConnectionBrief:
    return ConnectionBrief(order.connection_id, order.connection.broker, order.connection.label)


def _changed_terms(order: Order, changes: Mapping[str, Any]) -> OrderTerms:
    order_type = OrderType(changes.get("order_type", order.order_type))
    price = changes.get("price", order.price if order_type.has_price else None)
    trigger_price = changes.get(
        "trigger_price", order.trigger_price if order_type.has_trigger else None
    )
    return OrderTerms(
        instrument=ref_by_id(order.instrument_id),
        side=Side(order.side),
        quantity=changes.get("quantity", order.quantity),
        order_type=order_type,
        product=Product(order.product),
        validity=Validity(changes.get("validity", order.validity)),
        price=price,
        trigger_price=trigger_price,
        disclosed_quantity=changes.get("disclosed_quantity", order.disclosed_quantity),
        after_market=order.after_market,
        iceberg_legs=order.iceberg_legs,
        market_protection=None if order_type.has_price else order.market_protection,
    )


def _first_order(
    user_id: UUID, idempotency_key: str, client_order_id: str | None, fingerprint: bytes
) -> Placed | None:
    """Return the order that holds the key, as it is now: what a client that lost the answer wants
    to know.
    """
    names = Q(idempotency_key=idempotency_key)
    if client_order_id is not None:
        names |= Q(client_order_id=client_order_id)
    row = Order.objects.filter(names, user_id=user_id).values("fingerprint", *ORDER_FIELDS).first()
    if row is None:
        return None
    if bytes(row["fingerprint"]) != fingerprint:
        raise IdempotencyMismatch(
            "This idempotency key was used for a different order. Use a new key for a new order.",
            detail={"order_id": str(row["id"])},
        )
    return Placed(order_output(row), replayed=True)


def _fingerprint(connection_id: UUID, terms: OrderTerms) -> bytes:
    parts = (
        connection_id.hex, terms.instrument.key, terms.side, terms.quantity, terms.order_type,
        terms.product,
        terms.validity, _canonical(terms.price), _canonical(terms.trigger_price),
        terms.disclosed_quantity, *_variant(terms),
    )  # fmt: skip
    return hashlib.sha256("|".join(str(part) for part in parts).encode()).digest()


def _variant(terms: OrderTerms) -> tuple[Any, ...]:
    """Return what makes it another order than the plain one; nothing for a plain one."""
    found = (terms.after_market, terms.iceberg_legs, _canonical(terms.market_protection))
    return found if any(found) else ()


def _canonical(amount: Decimal | None) -> str:
    return "" if amount is None else f"{amount:.4f}"


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else f"{amount:.4f}"


def _audited(symbol: str, broker: str, terms: OrderTerms) -> dict[str, Any]:
    return {
        "symbol": symbol,
        "broker": broker,
        "side": terms.side.value,
        "quantity": terms.quantity,
        "order_type": terms.order_type.value,
        "product": terms.product.value,
        "validity": terms.validity.value,
        "price": _text(terms.price),
        "trigger_price": _text(terms.trigger_price),
        **_audited_variant(terms),
    }


def _audited_variant(terms: OrderTerms) -> dict[str, Any]:
    found = {
        "after_market": terms.after_market,
        "iceberg_legs": terms.iceberg_legs,
        "market_protection": _text(terms.market_protection),
    }
    return {name: value for name, value in found.items() if value}


def _placed_output(values: Mapping[str, Any], connection: ConnectionBrief) -> dict[str, Any]:
    """Return the shape of an order that was inserted a moment ago, without reading it back."""
    return order_output(
        {
            **values,
            "connection__broker": connection.broker,
            "filled_quantity": 0,
            "fill_value": ZERO,
            "status": OrderStatus.PENDING.value,
            "status_message": "",
            "status_code": "",
            "status_advice": "",
            "broker_order_id": "",
            "exchange_order_id": "",
            "version": 1,
            "created_at": values["now"],
            "updated_at": values["now"],
        }
    )
