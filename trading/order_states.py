"""The life of an order as one table. Pure Python.

A pair that is not in the table changes nothing: `next_status` returns None and the caller records
the event as ignored.
"""

from __future__ import annotations

from enum import StrEnum

from brokerages.types import ReportedStatus


class OrderStatus(StrEnum):
    PENDING = "PENDING"  # ours, not sent yet
    SUBMITTED = "SUBMITTED"  # claimed for sending; the broker's answer is not known
    OPEN = "OPEN"
    TRIGGER_PENDING = "TRIGGER_PENDING"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    PENDING_CANCEL = (
        "PENDING_CANCEL"  # may still fill, or fall back when the broker refuses the cancel
    )
    FILLED = "FILLED"
    CANCELLED = "CANCELLED"
    REJECTED = "REJECTED"  # by the broker or the exchange
    DENIED = "DENIED"  # by our own checks, after it was accepted for sending
    EXPIRED = "EXPIRED"  # its day is over
    NOT_PLACED = "NOT_PLACED"  # proved absent at the broker


class OrderTrigger(StrEnum):
    """What can happen to an order."""

    SUBMIT = "SUBMIT"
    NOT_SENT = "NOT_SENT"
    ACCEPT = "ACCEPT"
    AWAIT_TRIGGER = "AWAIT_TRIGGER"
    FILL_PART = "FILL_PART"
    FILL_ALL = "FILL_ALL"
    REQUEST_CANCEL = "REQUEST_CANCEL"
    CANCEL_REFUSED = "CANCEL_REFUSED"
    CANCEL = "CANCEL"
    REJECT = "REJECT"
    DENY = "DENY"
    EXPIRE = "EXPIRE"
    NOT_FOUND = "NOT_FOUND"


S, T = OrderStatus, OrderTrigger

CLOSED = frozenset({S.FILLED, S.CANCELLED, S.REJECTED, S.DENIED, S.EXPIRED, S.NOT_PLACED})
"""Ends. Only a fill moves an order out of one."""

LIVE = frozenset(set(S) - CLOSED)

MODIFIABLE = frozenset({S.OPEN, S.TRIGGER_PENDING, S.PARTIALLY_FILLED})

CANCELLABLE = frozenset({S.PENDING, S.SUBMITTED, S.OPEN, S.TRIGGER_PENDING, S.PARTIALLY_FILLED})

REVIVED = frozenset({S.PENDING, S.REJECTED, S.DENIED, S.NOT_PLACED})
"""A fill in one of these contradicts what we believed: it counts, and it raises an alert."""

AT_BROKER = (S.OPEN, S.TRIGGER_PENDING, S.PARTIALLY_FILLED, S.PENDING_CANCEL)

TRANSITIONS: dict[tuple[OrderStatus, OrderTrigger], OrderStatus] = {
    (S.PENDING, T.SUBMIT): S.SUBMITTED,
    (S.PENDING, T.DENY): S.DENIED,
    (S.PENDING, T.REQUEST_CANCEL): S.CANCELLED,  # it never left us
    (S.SUBMITTED, T.NOT_SENT): S.PENDING,
    (S.SUBMITTED, T.ACCEPT): S.OPEN,
    (S.SUBMITTED, T.AWAIT_TRIGGER): S.TRIGGER_PENDING,
    (S.SUBMITTED, T.REJECT): S.REJECTED,
    (S.SUBMITTED, T.CANCEL): S.CANCELLED,  # IOC with nothing filled
    (S.SUBMITTED, T.EXPIRE): S.EXPIRED,
    (S.SUBMITTED, T.NOT_FOUND): S.NOT_PLACED,
    (S.SUBMITTED, T.REQUEST_CANCEL): S.PENDING_CANCEL,
    (S.OPEN, T.AWAIT_TRIGGER): S.TRIGGER_PENDING,  # the ack came before the report
    (S.TRIGGER_PENDING, T.ACCEPT): S.OPEN,  # triggered
    (S.PENDING_CANCEL, T.CANCEL_REFUSED): S.OPEN,
    (S.PENDING_CANCEL, T.NOT_SENT): S.CANCELLED,  # it never left us, and nobody wants it any more
    (S.PENDING_CANCEL, T.NOT_FOUND): S.NOT_PLACED,
    (S.NOT_PLACED, T.ACCEPT): S.OPEN,  # it appeared after all
    (S.NOT_PLACED, T.AWAIT_TRIGGER): S.TRIGGER_PENDING,
    **{
        (s, T.REQUEST_CANCEL): S.PENDING_CANCEL
        for s in (S.OPEN, S.TRIGGER_PENDING, S.PARTIALLY_FILLED)
    },
    **{(s, T.CANCEL): S.CANCELLED for s in AT_BROKER},
    **{(s, T.EXPIRE): S.EXPIRED for s in AT_BROKER},
    # the exchange may refuse what the broker took, also while a cancel is on its way
    **{(s, T.REJECT): S.REJECTED for s in (S.OPEN, S.TRIGGER_PENDING, S.PENDING_CANCEL)},
    (S.PARTIALLY_FILLED, T.REJECT): S.CANCELLED,  # the exchange refused the rest
    # an end learnt of an order that we had given up
    **{
        (S.NOT_PLACED, t): end
        for t, end in ((T.CANCEL, S.CANCELLED), (T.REJECT, S.REJECTED), (T.EXPIRE, S.EXPIRED))
    },
    **{
        (s, T.FILL_PART): S.PARTIALLY_FILLED
        for s in (S.SUBMITTED, S.OPEN, S.TRIGGER_PENDING, S.PARTIALLY_FILLED)
    },
    **{(s, T.FILL_PART): S.PARTIALLY_FILLED for s in REVIVED},
    **{
        (s, T.FILL_PART): s for s in (S.PENDING_CANCEL, S.CANCELLED, S.EXPIRED)
    },  # a late fill is still a fill
    **{(s, T.FILL_ALL): S.FILLED for s in S},
    # an overfill is recorded by its quantity; the order stays filled
    (S.FILLED, T.FILL_PART): S.FILLED,
}

REPORTED: dict[ReportedStatus, OrderTrigger | None] = {
    ReportedStatus.RECEIVED: T.ACCEPT,
    ReportedStatus.OPEN: T.ACCEPT,
    ReportedStatus.TRIGGER_PENDING: T.AWAIT_TRIGGER,
    ReportedStatus.PARTIALLY_FILLED: T.ACCEPT,  # quantities come from fills alone
    ReportedStatus.PENDING_CANCEL: None,
    ReportedStatus.FILLED: T.ACCEPT,
    ReportedStatus.CANCELLED: T.CANCEL,
    ReportedStatus.REJECTED: T.REJECT,
    ReportedStatus.EXPIRED: T.EXPIRE,
    ReportedStatus.UNKNOWN: None,
}
"""What a broker's word means for our table. FILLED is only an acceptance: the fills themselves fill
the order.
"""


def next_status(status: OrderStatus, trigger: OrderTrigger) -> OrderStatus | None:
    """Return the status after ``trigger``, or None if it changes nothing here."""
    return TRANSITIONS.get((status, trigger))


def resting_status(*, filled: int, waits_for_trigger: bool) -> OrderStatus:
    """Return the status of an order that rests at its broker, from facts instead of history."""
    if filled:
        return S.PARTIALLY_FILLED
    return S.TRIGGER_PENDING if waits_for_trigger else S.OPEN
