"""What the user wants and what came of it. Rows here change only through services.

Lock order, everywhere: OrderCommand, Order, Position, Trade; audit entries last.
"""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils import timezone

from audit.ids import uuid7
from brokerages.types import OrderType, Product, Side, Validity
from trading.order_states import CLOSED, OrderStatus

PRICE: dict[str, Any] = {"max_digits": 18, "decimal_places": 4}
MONEY: dict[str, Any] = {"max_digits": 20, "decimal_places": 4}


def _choices(enum: Any) -> list[tuple[str, str]]:
    return [(member.value, member.value) for member in enum]


class Order(models.Model):
    """One order at one broker connection. Quantities are units; prices are rupees per unit."""

    class Source(models.TextChoices):
        API = "API"
        WEB = "WEB"
        EXTERNAL = "EXTERNAL"  # placed elsewhere, found at the broker
        SYSTEM = "SYSTEM"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(
        "accounts.User", on_delete=models.PROTECT, related_name="+", db_index=False
    )
    connection = models.ForeignKey(
        "brokerages.BrokerConnection", on_delete=models.PROTECT, related_name="+", db_index=False
    )
    instrument = models.ForeignKey(
        "marketdata.Instrument", on_delete=models.PROTECT, related_name="+", db_index=False
    )
    idempotency_key = models.CharField(max_length=64)
    client_order_id = models.CharField(max_length=64, null=True, blank=True)
    fingerprint = models.BinaryField(max_length=32)
    tag = models.CharField(max_length=20)  # what the broker carries for us; finds the order again
    side = models.CharField(max_length=4, choices=_choices(Side))
    order_type = models.CharField(max_length=6, choices=_choices(OrderType))
    product = models.CharField(max_length=4, choices=_choices(Product))
    validity = models.CharField(max_length=4, choices=_choices(Validity))
    quantity = models.BigIntegerField()
    price = models.DecimalField(**PRICE, null=True, blank=True)
    trigger_price = models.DecimalField(**PRICE, null=True, blank=True)
    disclosed_quantity = models.BigIntegerField(default=0)
    after_market = models.BooleanField(default=False, db_default=False)
    iceberg_legs = models.SmallIntegerField(default=0, db_default=0)  # 0: shown as a whole
    market_protection = models.DecimalField(  # percent; empty: the broker's own figure
        max_digits=5, decimal_places=2, null=True, blank=True
    )
    status = models.CharField(
        max_length=16, choices=_choices(OrderStatus), default=OrderStatus.PENDING
    )
    status_message = models.TextField(default="", blank=True)
    status_code = models.CharField(max_length=64, default="", blank=True)
    # what the user can do about a refusal
    status_advice = models.CharField(max_length=200, default="", db_default="", blank=True)
    filled_quantity = models.BigIntegerField(default=0)
    fill_value = models.DecimalField(
        max_digits=24, decimal_places=4, default=0
    )  # sum of quantity x price
    broker_order_id = models.CharField(max_length=64, default="", blank=True)
    exchange_order_id = models.CharField(max_length=64, default="", blank=True)
    source = models.CharField(max_length=8, choices=Source.choices, default=Source.API)
    version = models.IntegerField(
        default=1
    )  # grows with every change, so that a client can drop an older copy
    created_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(default=timezone.now)
    closed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["user", "idempotency_key"], name="order_once_per_key"),
            models.UniqueConstraint(
                fields=["user", "client_order_id"],
                condition=Q(client_order_id__isnull=False),
                name="order_client_id_once",
            ),
            models.UniqueConstraint(fields=["connection", "tag"], name="order_tag_once"),
            models.UniqueConstraint(
                fields=["connection", "broker_order_id"],
                condition=~Q(broker_order_id=""),
                name="order_broker_id_once",
            ),
            models.CheckConstraint(condition=Q(quantity__gt=0), name="order_quantity_positive"),
            models.CheckConstraint(
                condition=Q(filled_quantity__gte=0), name="order_filled_not_negative"
            ),
            models.CheckConstraint(
                condition=Q(price__isnull=True) | Q(price__gt=0), name="order_price_positive"
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["user", "-id"], name="order_by_user"),
            models.Index(
                fields=["user", "-id"],
                condition=~Q(status__in=[s.value for s in sorted(CLOSED)]),
                name="order_open_by_user",
            ),
            models.Index(
                fields=["connection"],
                condition=~Q(status__in=[s.value for s in sorted(CLOSED)]),
                name="order_open_by_connection",
            ),
            models.Index(
                fields=["connection", "id"],
                condition=Q(status=OrderStatus.NOT_PLACED.value),
                name="order_given_up_by_connection",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.side} {self.quantity} {self.instrument_id} {self.status}"


class OrderCommand(models.Model):
    """A request owed to a broker: the outbox. A PLACE is sent at most once, which the schema itself
    holds.
    """

    class Kind(models.TextChoices):
        PLACE = "PLACE"
        MODIFY = "MODIFY"
        CANCEL = "CANCEL"

    class State(models.TextChoices):
        WAITING = "WAITING"
        SENDING = "SENDING"
        DONE = "DONE"
        UNKNOWN = "UNKNOWN"  # sent, outcome not known: only a report settles it
        DROPPED = "DROPPED"  # never sent, and will not be

    id = models.BigAutoField(primary_key=True)
    order = models.ForeignKey(Order, on_delete=models.PROTECT, related_name="commands")
    kind = models.CharField(max_length=6, choices=Kind.choices)
    state = models.CharField(max_length=8, choices=State.choices, default=State.WAITING)
    lane = models.CharField(max_length=40)  # commands of one lane are sent by one worker in one go
    terms = models.JSONField(null=True, blank=True)  # MODIFY: the new terms
    sends = models.SmallIntegerField(default=0)
    attempts = models.IntegerField(default=0)
    # the database's clock, since claims compare with it
    not_before = models.DateTimeField(db_default=Now())
    created_at = models.DateTimeField(db_default=Now())
    claimed_at = models.DateTimeField(null=True, blank=True)
    settled_at = models.DateTimeField(null=True, blank=True)
    checks = models.SmallIntegerField(
        default=0
    )  # complete reads of the broker's book that did not have the order
    checked_at = models.DateTimeField(null=True, blank=True)
    error_code = models.CharField(max_length=64, default="", blank=True)
    error_message = models.TextField(default="", blank=True)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=~Q(kind="PLACE") | Q(sends__lte=1), name="command_place_sent_once"
            ),
            models.UniqueConstraint(
                fields=["order"], condition=Q(kind="PLACE"), name="command_one_place"
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["lane", "id"], condition=Q(state="WAITING"), name="command_waiting"
            ),
            models.Index(
                fields=["claimed_at"],
                condition=Q(state__in=["SENDING", "UNKNOWN"]),
                name="command_unsettled",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.order_id} {self.state}"


class OrderEvent(models.Model):
    """One line of an order's timeline. ``id`` is the sequence number of the order channel."""

    id = models.BigAutoField(primary_key=True)
    order = models.ForeignKey(Order, on_delete=models.PROTECT, related_name="events")
    user_id = models.UUIDField()
    kind = models.CharField(max_length=24)
    status = models.CharField(max_length=16)
    message = models.TextField(default="", blank=True)
    data = models.JSONField(default=dict, blank=True)
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        indexes: ClassVar = [models.Index(fields=["user_id", "id"], name="order_event_by_user")]

    def __str__(self) -> str:
        return f"{self.kind} {self.order_id}"


class Fill(models.Model):
    """One execution. Immutable, and the truth: quantities, averages, positions and P&L all follow
    from fills.
    """

    id = models.BigAutoField(primary_key=True)
    order = models.ForeignKey(Order, on_delete=models.PROTECT, related_name="fills")
    user_id = models.UUIDField()
    connection = models.ForeignKey(
        "brokerages.BrokerConnection", on_delete=models.PROTECT, related_name="+", db_index=False
    )
    instrument = models.ForeignKey(
        "marketdata.Instrument", on_delete=models.PROTECT, related_name="+", db_index=False
    )
    exchange = models.CharField(max_length=3)
    trade_date = models.DateField()  # in IST: brokers' fill ids are unique per exchange and day
    fill_id = models.CharField(max_length=64)
    side = models.CharField(max_length=4, choices=_choices(Side))
    product = models.CharField(max_length=4, choices=_choices(Product))
    quantity = models.BigIntegerField()
    price = models.DecimalField(**PRICE)
    filled_at = models.DateTimeField()
    received_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["connection", "exchange", "trade_date", "fill_id", "side"], name="fill_once"
            ),
            models.CheckConstraint(condition=Q(quantity__gt=0), name="fill_quantity_positive"),
            models.CheckConstraint(condition=Q(price__gt=0), name="fill_price_positive"),
        ]
        indexes: ClassVar = [models.Index(fields=["user_id", "-id"], name="fill_by_user")]

    def __str__(self) -> str:
        return f"{self.side} {self.quantity} @ {self.price}"


class Position(models.Model):
    """The net of all fills of one instrument and product at one connection, at average cost.

    ``open_cost`` is the signed cost of the open quantity in rupees (negative for a short), kept as
    a sum and never as a rounded average. ``realised_pnl`` is gross of charges.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(
        "accounts.User", on_delete=models.PROTECT, related_name="+", db_index=False
    )
    connection = models.ForeignKey(
        "brokerages.BrokerConnection", on_delete=models.PROTECT, related_name="+", db_index=False
    )
    instrument = models.ForeignKey(
        "marketdata.Instrument", on_delete=models.PROTECT, related_name="+", db_index=False
    )
    product = models.CharField(max_length=4, choices=_choices(Product))
    quantity = models.BigIntegerField(default=0)
    open_cost = models.DecimalField(max_digits=24, decimal_places=4, default=0)
    realised_pnl = models.DecimalField(**MONEY, default=0)
    buy_quantity = models.BigIntegerField(default=0)
    buy_value = models.DecimalField(max_digits=24, decimal_places=4, default=0)
    sell_quantity = models.BigIntegerField(default=0)
    sell_value = models.DecimalField(max_digits=24, decimal_places=4, default=0)
    last_fill_at = models.DateTimeField()
    created_at = models.DateTimeField(default=timezone.now)
    version = models.IntegerField(default=1)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["connection", "instrument", "product"], name="position_once"
            ),
            models.CheckConstraint(
                condition=Q(quantity=F("buy_quantity") - F("sell_quantity")),
                name="position_quantity_adds_up",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["user", "-last_fill_at"], name="position_by_user")
        ]

    def __str__(self) -> str:
        return f"{self.instrument_id} {self.product} {self.quantity}"


class Trade(models.Model):
    """A round trip: opened, perhaps grown, closed, with its P&L. Journal trades are the user's own
    notes.

    BROKER trades follow fills and cannot be edited; JOURNAL trades never move a position.
    """

    class Origin(models.TextChoices):
        BROKER = "BROKER"
        JOURNAL = "JOURNAL"

    class Status(models.TextChoices):
        OPEN = "open"
        CLOSED = "closed"

    class Type(models.TextChoices):
        EQ = "eq"
        MTF = "mtf"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(
        "accounts.User", on_delete=models.PROTECT, related_name="+", db_index=False
    )
    origin = models.CharField(max_length=7, choices=Origin.choices)
    status = models.CharField(max_length=6, choices=Status.choices, default=Status.OPEN)
    type = models.CharField(max_length=3, choices=Type.choices, default=Type.EQ)
    stock_ticker = models.CharField(max_length=64)
    position = models.ForeignKey(
        Position, null=True, blank=True, on_delete=models.PROTECT, related_name="trades"
    )
    order_ref = models.CharField(
        max_length=64, default="", blank=True
    )  # journal: the user's own order reference
    side = models.CharField(
        max_length=4, choices=_choices(Side), default=Side.BUY
    )  # of the opening
    entry_quantity = models.BigIntegerField(default=0)
    entry_value = models.DecimalField(max_digits=24, decimal_places=4, default=0)
    exit_quantity = models.BigIntegerField(default=0)
    exit_value = models.DecimalField(max_digits=24, decimal_places=4, default=0)
    brokerage_charge = models.DecimalField(**MONEY, default=0)
    mtf_charge = models.DecimalField(**MONEY, default=0)
    opened_at = models.DateTimeField(default=timezone.now)
    closed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["position"], condition=Q(status="open"), name="trade_one_open_per_position"
            ),
            models.CheckConstraint(
                condition=Q(exit_quantity__lte=F("entry_quantity")), name="trade_exit_within_entry"
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["user", "-id"], name="trade_by_user")]

    def __str__(self) -> str:
        return f"{self.stock_ticker} {self.entry_quantity} {self.status}"


class Notification(models.Model):
    """Something the user should know. ``data`` names the object it is about."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user_id = models.UUIDField()
    kind = models.CharField(
        max_length=32
    )  # order_filled, order_rejected, order_unknown, alert, ...
    title = models.CharField(max_length=200)
    body = models.TextField(default="", blank=True)
    data = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    read_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes: ClassVar = [models.Index(fields=["user_id", "-id"], name="notification_by_user")]

    def __str__(self) -> str:
        return f"{self.kind} {self.user_id}"
