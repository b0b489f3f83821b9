"""Sending what is owed to brokers, at most once, and recording what the answer proves.

The claim is committed before the network call. A worker that dies after it leaves SENDING, which
nobody resends: `reconciliation` settles it from what the broker's book says.
"""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

import audit.services
from audit.sql import Statement
from brokerages.base import BrokerAdapter
from brokerages.errors import BrokerError, NotSent, OutcomeUnknown, RateLimited, Refused
from brokerages.services import adapter_for
from brokerages.types import OrderAck, OrderChange, OrderRequest, OrderType, Product, Side, Validity
from marketdata.broker_refs import ref_of_order
from trading.models import Order, OrderCommand
from trading.order_states import CLOSED, OrderStatus, OrderTrigger
from trading.services import notifications
from trading.services.books import UNVERIFIED
from trading.services.edits import ORDER_COLUMNS, OrderEdit, order_from_row, order_lock
from trading.services.outbox import (
    Claim,
    LaneMark,
    command_claim,
    lane_hold,
    wake,
    wake_later,
)
from trading.services.reports import edit_apply

logger = logging.getLogger(__name__)

Kind, State = OrderCommand.Kind, OrderCommand.State

MAX_ATTEMPTS = 20  # of one command that provably never left us
LINGER_SECONDS = (0.002, 0.004, 0.008)  # between looks at a shared lane before a drain ends
# the place is still on its way, or its outcome is unknown: keep waiting for it
NO_BROKER_ID = "no_broker_order_id"
UNVERIFIED_MESSAGE = (
    "What became of the order is not known, so it cannot be changed or cancelled here."
    " Look at the broker's statement of that day."
)
STALE_MESSAGE = (
    "The order waited too long before it could be sent, so it was not sent."
    " Place it again if you still want it."
)
STALE_CHANGE_MESSAGE = "The change waited too long before it could be sent, so it was not sent."


def lane_drain(lane: str, *, at_most: int = 500) -> int:
    """Send what waits in ``lane``, oldest first; return how many commands were sent."""
    mark, sent, waits = LaneMark(lane), 0, iter(LINGER_SECONDS)
    try:
        while sent < at_most:
            if (claim := command_claim(lane=lane)) is not None:
                mark.keep()
                if (pause := command_send(claim)) and is_own_lane(lane):
                    # what was denied now is denied to all of the lane; cancels have a reserve
                    lane_hold(lane, pause, cancels=claim.kind == Kind.CANCEL)
                    wake_later(lane, pause)
                sent, waits = sent + 1, iter(LINGER_SECONDS)
            elif not mark.stands:
                return sent
            elif (seconds := next(waits, None)) is not None and settings.WAKE_WORKERS:
                time.sleep(seconds)  # a message for the next order would cost more
            else:
                mark.remove()
    finally:
        mark.remove()
    wake(lane)  # others have a turn before the rest
    return sent


def command_dispatch(command_id: int) -> bool:
    """Send one command if it still waits. Safe to call twice: the claim lets only one call send."""
    if (claim := command_claim(command_id=command_id)) is None:
        return False
    command_send(claim)
    return True


def is_own_lane(lane: str) -> bool:
    """Whether the lane is one connection's own."""
    return ":" not in lane


def command_send(claim: Claim) -> float:
    """Send a claimed command once and record the outcome. Return 0, or the seconds that the pace
    toward the broker asks to wait: then it was not sent, and waits.
    """
    order = claim.order
    if claim.kind == Kind.PLACE and OrderStatus(order.status) in CLOSED:
        _settle_dropped(claim, f"The order is already {order.status}.")
        return 0
    if claim.stale and claim.kind == Kind.PLACE:
        _settle_denied(claim, "stale", STALE_MESSAGE)
        return 0
    if claim.stale:
        _settle_refused(claim, Refused(STALE_CHANGE_MESSAGE, broker=claim.broker, code="stale"))
        return 0
    if claim.kind != Kind.PLACE and OrderStatus(order.status) in CLOSED:
        _settle_refused(
            claim,
            Refused(
                f"The order is already {order.status}.", broker=claim.broker, code="order_closed"
            ),
        )
        return 0
    try:
        adapter = adapter_for(order.connection_id)
        request = stored_request(order, claim.broker)
    except Refused as e:
        _settle_refused(claim, e)
        return 0
    except BrokerError as e:
        _settle_not_sent(claim, e)
        return 0
    except Exception:
        # nothing was sent yet, whatever went wrong
        _settle_not_sent(
            claim,
            NotSent("The broker session could not be used.", broker=claim.broker, code="internal"),
        )
        raise
    try:
        ack = _send(adapter, claim, request)
    except RateLimited as e:
        _settle_not_sent(claim, e)
        return e.retry_after
    except NotSent as e:
        _settle_not_sent(claim, e)
    except Refused as e:
        _settle_refused(claim, e)
    except OutcomeUnknown as e:
        _settle_unknown(claim, e.message, e.code)
    except Exception:
        _settle_unknown(claim, "An internal error hid the broker's answer.", "internal")
        raise
    else:
        _settle_done(claim, ack)
    return 0


def _send(adapter: BrokerAdapter, claim: Claim, request: OrderRequest) -> OrderAck | None:
    order = claim.order
    if claim.kind == Kind.PLACE:
        return adapter.place_order(request)
    if not order.broker_order_id:
        raise NotSent(
            "The broker's order id is not known yet.", broker=claim.broker, code=NO_BROKER_ID
        )
    if claim.kind == Kind.CANCEL:
        return adapter.cancel_order(order.broker_order_id, request)
    change = stored_change(claim.terms or {})
    return adapter.modify_order(order.broker_order_id, change, request)


def stored_request(order: Order, broker: str | None = None) -> OrderRequest:
    """Return the broker request of a stored order: strings become the closed vocabulary again, and
    the instrument is in the words of its broker (which is looked up unless ``broker`` says it).
    """
    return OrderRequest(
        client_order_id=order.tag,
        instrument=ref_of_order(broker or order.connection.broker, order.instrument_id),
        side=Side(order.side),
        quantity=order.quantity,
        order_type=OrderType(order.order_type),
        product=Product(order.product),
        validity=Validity(order.validity),
        price=order.price,
        trigger_price=order.trigger_price,
        disclosed_quantity=order.disclosed_quantity,
        after_market=order.after_market,
        iceberg_legs=order.iceberg_legs,
        market_protection=order.market_protection,
    )


def stored_change(terms: dict[str, Any]) -> OrderChange:
    """Return the new terms of a MODIFY command from its JSON."""
    return OrderChange(
        quantity=terms["quantity"],
        order_type=OrderType(terms["order_type"]),
        validity=Validity(terms["validity"]),
        price=Decimal(terms["price"]) if terms["price"] is not None else None,
        trigger_price=Decimal(terms["trigger_price"])
        if terms["trigger_price"] is not None
        else None,
        disclosed_quantity=terms["disclosed_quantity"],
    )


def _settle_done(claim: Claim, ack: OrderAck | None) -> None:
    with transaction.atomic():
        if (edit := _command_settle(claim, State.DONE)) is None:
            return
        order, learnt = edit.order, False
        if ack is not None and ack.broker_order_id and not order.broker_order_id:
            order.broker_order_id, learnt = ack.broker_order_id, True
        if claim.kind == Kind.PLACE and (ack is None or ack.report is None):
            edit.trigger(OrderTrigger.ACCEPT, "ACCEPTED")
        if claim.kind == Kind.MODIFY and claim.terms is not None:
            modified_take(edit, claim.terms)
        edit_apply(edit, ack.report if ack else None, ack.fills if ack else (), settles=learnt)


def modified_take(edit: OrderEdit, terms: dict[str, Any]) -> None:
    """Take the terms of a MODIFY command that the broker has carried out."""
    order, change = edit.order, stored_change(terms)
    order.quantity, order.price, order.trigger_price = (
        change.quantity,
        change.price,
        change.trigger_price,
    )
    order.order_type, order.validity = change.order_type.value, change.validity.value
    order.disclosed_quantity = change.disclosed_quantity
    edit.note("MODIFIED", data=terms)
    if order.filled_quantity >= order.quantity:
        edit.trigger(OrderTrigger.FILL_ALL, "FILLED_BY_MODIFY")


def _settle_refused(claim: Claim, error: Refused) -> None:
    with transaction.atomic():
        if (edit := _command_settle(claim, State.DONE, error)) is None:
            return
        code = error.code or type(error).__name__
        if claim.kind == Kind.PLACE:
            edit.trigger(
                OrderTrigger.REJECT,
                "REJECTED",
                message=error.message,
                code=code,
                advice=error.advice,
                data={"advice": error.advice} if error.advice else None,
            )
            _audit(edit, "order.rejected", error.message)
            notifications.order_notify(edit, "order_rejected", advised(error))
        elif claim.kind == Kind.CANCEL:
            edit.trigger(
                OrderTrigger.CANCEL_REFUSED,
                "CANCEL_REFUSED",
                message=error.message,
                code=code,
                advice=error.advice,
            )
        else:
            edit.note(
                "MODIFY_REFUSED",
                message=error.message,
                data={"advice": error.advice} if error.advice else None,
            )
        edit.save()


def advised(error: BrokerError) -> str:
    """Return the broker's words, and what the user can do."""
    message = error.message.rstrip()
    if not error.advice or not message:
        return message or error.advice
    return f"{message} {error.advice}" if message[-1] in ".!?" else f"{message}. {error.advice}"


def _settle_not_sent(claim: Claim, error: BrokerError) -> None:
    """Put the command back: it provably never left us. It is tried again until it is stale, or
    dropped if a cancel was asked for meanwhile.
    """
    if error.code == NO_BROKER_ID and _is_unverified(claim.order):
        _settle_refused(claim, Refused(UNVERIFIED_MESSAGE, broker=claim.broker, code=UNVERIFIED))
        return
    waits_its_turn = isinstance(error, RateLimited) or error.code == NO_BROKER_ID
    if claim.attempts >= MAX_ATTEMPTS and claim.kind != Kind.PLACE and not waits_its_turn:
        _settle_refused(claim, Refused(error.message, broker=claim.broker, code="not_sent"))
        return
    wait = error.retry_after if isinstance(error, RateLimited) else 0.5
    with transaction.atomic():
        returned = OrderCommand.objects.filter(
            pk=claim.id, state=State.SENDING
        ).update(
            state=State.WAITING,
            sends=0,
            checks=0,  # what a book said before the next send says nothing of that one
            checked_at=None,
            not_before=Now() + timedelta(seconds=wait),
            error_code=error.code[:64],
            error_message=error.message,
        )
        if not returned or claim.kind != Kind.PLACE:
            return
        edit = OrderEdit(order_lock(claim.order.pk), broker=claim.broker)
        if edit.order.status == OrderStatus.PENDING_CANCEL:
            # a cancel was asked for meanwhile: sending it again could fill what nobody wants
            OrderCommand.objects.filter(pk=claim.id).update(
                state=State.DROPPED, settled_at=timezone.now(), error_code="cancelled"
            )
            edit.trigger(
                OrderTrigger.NOT_SENT, "CANCELLED", message="Cancelled before it was sent."
            )
            edit.save()
        elif edit.trigger(
            OrderTrigger.NOT_SENT, "NOT_SENT", message=error.message, code=error.code
        ):
            edit.save()


def _is_unverified(order: Order) -> bool:
    """Whether no broker can tell any more what became of the order: its id will never be known."""
    if order.status_code == UNVERIFIED:
        return True
    place = OrderCommand.objects.filter(order_id=order.pk, kind=Kind.PLACE, error_code=UNVERIFIED)
    return place.exists()


def _settle_unknown(claim: Claim, message: str, code: str) -> None:
    with transaction.atomic():
        if (edit := _command_settle(claim, State.UNKNOWN, code=code, message=message)) is None:
            return
        edit.note("OUTCOME_UNKNOWN", message=message, data={"command": claim.kind})
        _audit(edit, "order.outcome_unknown", message)
        if claim.kind == Kind.PLACE:
            notifications.order_notify(
                edit,
                "order_unknown",
                "The broker did not answer clearly. The order is looked up; it is not sent again.",
            )
        edit.save()


def _settle_dropped(claim: Claim, message: str) -> None:
    """End a PLACE whose order was at its end before it was claimed; the order stays as it is."""
    OrderCommand.objects.filter(pk=claim.id, state=State.SENDING).update(
        state=State.DROPPED,
        sends=0,
        settled_at=timezone.now(),
        error_code="order_closed",
        error_message=message,
    )


def _settle_denied(claim: Claim, code: str, message: str) -> None:
    """End a PLACE that was claimed but will not be sent."""
    with transaction.atomic():
        settled = OrderCommand.objects.filter(pk=claim.id, state=State.SENDING).update(
            state=State.DROPPED,
            sends=0,
            settled_at=timezone.now(),
            error_code=code,
            error_message=message,
        )
        if not settled:
            return
        edit = OrderEdit(order_lock(claim.order.pk), broker=claim.broker)
        edit.order.status = OrderStatus.PENDING  # the claim moved it; nothing was sent
        edit.trigger(OrderTrigger.DENY, "DENIED", message=message, code=code)
        _audit(edit, "order.denied", message)
        notifications.order_notify(edit, "order_denied", message)
        edit.save()


_SETTLE = Statement(f"""
WITH settled AS (
    UPDATE trading_ordercommand
    SET state = %s, settled_at = %s, error_code = %s, error_message = %s
    WHERE id = %s AND state IN ('SENDING', 'UNKNOWN') RETURNING order_id
)
SELECT {ORDER_COLUMNS} FROM settled s JOIN trading_order o ON o.id = s.order_id
FOR NO KEY UPDATE OF o
""")  # noqa: S608


def _command_settle(
    claim: Claim, state: str, error: BrokerError | None = None, *, code: str = "", message: str = ""
) -> OrderEdit | None:
    """Settle our own claim and return its order, locked; None if reconciliation was faster, which
    then holds.
    """
    if error is not None:
        code, message = error.code or type(error).__name__, error.message
    settled_at = timezone.now() if state == State.DONE else None
    row = _SETTLE.row([state, settled_at, code[:64], message, claim.id])
    return None if row is None else OrderEdit(order_from_row(row), broker=claim.broker)


def _audit(edit: OrderEdit, action: str, message: str) -> None:
    order = edit.order
    audit.services.record(
        action,
        object_type="order",
        object_id=order.pk,
        user_id=order.user_id,
        changes={"status": order.status, "message": message},
    )
