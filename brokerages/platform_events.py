"""The events that are signed with our own webhook secrets, read strictly. ``docs/webhooks.md`` is
what their senders read.
"""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated
from uuid import UUID

import msgspec

from brokerages.types import Exchange, FillReport, OrderReport, ReportedStatus, Side

FILL, ORDER = "fill", "order"
STALE_AFTER = timedelta(hours=24)
MOST_UNITS = 1_000_000_000
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)

_NULL = msgspec.Raw(b"null")
_AMOUNT = re.compile(r"[0-9]{1,10}(\.[0-9]{1,4})?", re.ASCII)
_TYPE = re.compile(r"[a-z][a-z0-9_.]{0,31}", re.ASCII)
_PRINTABLE = re.compile(r"[\x21-\x7e]*", re.ASCII)
_AT = re.compile(r" - at `\$\.?(?P<field>[^`\[.]*)[^`]*`$")
_NAMED = re.compile(r"field `(?P<field>[^`]*)`")

Moment = Annotated[datetime, msgspec.Meta(tz=True)]
Name = Annotated[str, msgspec.Meta(max_length=64)]


class InvalidEvent(Exception):
    """The body is no event. ``fields`` names what is wrong, empty where it is not JSON at all."""

    def __init__(self, message: str, fields: dict[str, list[str]] | None = None) -> None:
        super().__init__(message)
        self.message, self.fields = message, fields or {}


class PlatformEvent(msgspec.Struct, frozen=True):
    """Something that happened to an order. Prices are rupees per unit, quantities units.

    The order is named by our own ``order_id``, or by ``connection_id`` with the broker's id of it
    or with the tag that the broker carries for us. Unknown fields are left alone.
    """

    type: str
    event_id: Annotated[str, msgspec.Meta(max_length=128)] | None = None
    occurred_at: Moment | None = None
    order_id: UUID | None = None
    connection_id: UUID | None = None
    broker_order_id: Name = ""
    tag: Name = ""
    # fill
    fill_id: Name = ""
    exchange: Exchange | None = None
    side: Side | None = None
    quantity: int | None = None
    price: msgspec.Raw = _NULL
    filled_at: Moment | None = None
    # order
    status: Annotated[str, msgspec.Meta(max_length=32)] = ""
    filled_quantity: int | None = None
    message: Annotated[str, msgspec.Meta(max_length=500)] = ""

    @property
    def dedupe_key(self) -> str:
        """What makes a second delivery of it known, for ever; empty if only its bytes do."""
        if self.event_id:
            return f"id:{self.event_id}"
        if self.type != FILL or not self.fill_id:
            return ""
        parts = (
            self.order_id, self.connection_id, self.broker_order_id, self.tag, self.fill_id,
            self.exchange, self.side, self.filled_at and self.filled_at.date(),
        )  # fmt: skip
        return f"fill:{hashlib.sha256(repr(parts).encode()).hexdigest()}"

    @property
    def happened_at(self) -> datetime | None:
        return self.occurred_at or self.filled_at

    def is_stale(self, received_at: datetime) -> bool:
        """Whether it tells of something so long ago that the broker has to confirm it."""
        return self.happened_at is not None and received_at - self.happened_at > STALE_AFTER

    def fill(
        self, *, broker_order_id: str, tag: str, exchange: Exchange, side: Side
    ) -> FillReport | None:
        """Return the execution, or None where too much is missing to count it once and only once.

        The arguments are the order's own, for what the event leaves out.
        """
        price = amount("price", self.price)
        if not (self.fill_id and self.quantity and price and self.filled_at):
            return None
        return FillReport(
            fill_id=self.fill_id,
            broker_order_id=self.broker_order_id or broker_order_id,
            client_order_id=tag,
            exchange=self.exchange or exchange,
            side=self.side or side,
            quantity=self.quantity,
            price=price,
            filled_at=self.filled_at.astimezone(UTC),
        )

    def report(
        self, *, broker_order_id: str, tag: str, received_at: datetime
    ) -> OrderReport | None:
        """Return the state of the order, or None where its word is missing or not ours."""
        if self.status not in _STATUSES:
            return None
        return OrderReport(
            broker_order_id=self.broker_order_id or broker_order_id,
            client_order_id=tag,
            status=ReportedStatus(self.status),
            filled_quantity=self.filled_quantity or 0,
            average_price=None,
            reported_at=(self.happened_at or received_at).astimezone(UTC),
            message=self.message,
        )


_STATUSES = frozenset(status.value for status in ReportedStatus) - {ReportedStatus.UNKNOWN.value}
_decoder = msgspec.json.Decoder(PlatformEvent)


def parse_event(body: bytes, now: datetime) -> PlatformEvent:
    """Read an event whose signature was checked.

    Raises:
        InvalidEvent: not JSON in UTF-8, or a field is missing or cannot be right.
    """
    try:
        event = _decoder.decode(body)
    except msgspec.ValidationError as e:
        raise _refused(*_named(str(e))) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidEvent("The body is not valid JSON in UTF-8.") from None
    if b"\\u0000" in body:
        raise InvalidEvent("The character \\u0000 is not allowed.")
    _check(event, now)
    return event


def amount(name: str, raw: msgspec.Raw) -> Decimal | None:
    """Read a JSON number or string as an exact amount; null is None.

    Raises:
        InvalidEvent: it has a sign, an exponent, more than four decimals, is zero or no number.
    """
    text = bytes(raw).decode("utf-8", "replace")
    if text == "null":
        return None
    if text[:1] == text[-1:] == '"' and len(text) > 1:
        text = text[1:-1]
    if not _AMOUNT.fullmatch(text) or not Decimal(text):
        raise _refused(
            name, "Must be a plain number above 0 with at most four decimals, such as 1450.05."
        )
    return Decimal(text)


def _check(event: PlatformEvent, now: datetime) -> None:
    if not _TYPE.fullmatch(event.type):
        raise _refused("type", "Must be a word such as fill or order.")
    for name in ("event_id", "broker_order_id", "tag", "fill_id"):
        if not _PRINTABLE.fullmatch(getattr(event, name) or ""):
            raise _refused(name, "Must be printable ASCII without spaces.")
    if event.event_id == "":
        raise _refused("event_id", "Must not be empty.")
    for name, low in (("quantity", 1), ("filled_quantity", 0)):
        value = getattr(event, name)
        if value is not None and not low <= value <= MOST_UNITS:
            raise _refused(name, f"Must be a whole number from {low} to {MOST_UNITS}.")
    for name in ("occurred_at", "filled_at"):
        at = getattr(event, name)
        if at is not None and not EARLIEST <= at <= now + timedelta(days=1):
            raise _refused(name, "Must not be in the future.")
    amount("price", event.price)
    if event.type in (FILL, ORDER) and event.order_id is None:
        if event.connection_id is None:
            raise _refused("connection_id", "Name the order: `order_id`, or `connection_id`.")
        if not (event.broker_order_id or event.tag):
            raise _refused("broker_order_id", "Name the order: `broker_order_id` or `tag`.")


def _refused(field: str, reason: str) -> InvalidEvent:
    return InvalidEvent("Some fields are missing or wrong.", {field: [reason]})


def _named(message: str) -> tuple[str, str]:
    """Return the field that msgspec complains of, and its words."""
    if "missing required field" in message and (named := _NAMED.search(message)):
        return named["field"], "This field is required."
    found = _AT.search(message)
    field = (found["field"] if found else "") or "non_field_errors"
    return field, _AT.sub("", message) + "."
