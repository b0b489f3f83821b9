"""Broker connections, their secrets and sessions; and the tables of the paper broker.

Rows change through `brokerages.services` (connections) and `adapters.paper.store` (paper) only.
Money is rupees with four decimals, quantities are units; the database checks what must never be.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from audit.ids import uuid7
from brokerages.types import OrderType, Product, ReportedStatus, Side, Validity


def _words(enum: Any) -> list[str]:
    return [member.value for member in enum]


class MoneyField(models.DecimalField):
    """Rupees to four decimals: a price times a quantity is exact."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"max_digits": 20, "decimal_places": 4, **kwargs})


class PriceField(models.DecimalField):
    """Rupees per unit."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"max_digits": 18, "decimal_places": 4, **kwargs})


class BrokerConnection(models.Model):
    """A user's account at one broker. A disabled one stays for its history and is used for
    nothing.
    """

    class DataSource(models.TextChoices):
        BROKER = "broker", "The broker"
        SIMULATED = "simulated", "Simulated"
        YFINANCE = "yfinance", "Yahoo Finance"
        REPLAY = "replay", "Replay"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey("accounts.User", on_delete=models.PROTECT, related_name="+")
    broker = models.CharField(max_length=32)
    label = models.CharField(max_length=80)
    is_default = models.BooleanField(default=False)
    data_source = models.CharField(max_length=16, choices=DataSource.choices)
    disabled_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    user_id: UUID

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["user"],
                condition=Q(is_default=True, disabled_at__isnull=True),
                name="connection_one_default",
            ),
            models.CheckConstraint(
                condition=Q(data_source__in=["broker", "simulated", "yfinance", "replay"]),
                name="connection_data_source_known",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.label} ({self.broker})"


class BrokerCredential(models.Model):
    """One encrypted thing that the user gave for a connection. Never shown again; see `crypto`."""

    connection = models.ForeignKey(
        BrokerConnection, on_delete=models.CASCADE, related_name="credentials"
    )
    field = models.CharField(max_length=32)
    ciphertext = models.TextField()
    key_id = models.CharField(max_length=8, db_index=True)
    last_four = models.CharField(max_length=4, blank=True)
    fingerprint = models.CharField(max_length=8)
    updated_at = models.DateTimeField(auto_now=True)

    connection_id: UUID

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["connection", "field"], name="credential_once"),
        ]

    def __str__(self) -> str:
        return f"{self.field} {self.masked}"

    @property
    def masked(self) -> str:
        """The secret as it may be shown: its last four characters, where it is long enough to
        show any.
        """
        return f"…{self.last_four}"


class BrokerSession(models.Model):
    """The broker login of a connection: the present one. What was before is in the audit log."""

    class State(models.TextChoices):
        ACTIVE = "ACTIVE"
        EXPIRED = "EXPIRED"
        LOGIN_NEEDED = "LOGIN_NEEDED"  # only the user can open the next one
        CLOSED = "CLOSED"

    connection = models.OneToOneField(
        BrokerConnection, on_delete=models.CASCADE, primary_key=True, related_name="session"
    )
    state = models.CharField(max_length=16, choices=State.choices)
    ciphertext = models.TextField(blank=True)  # the token, as JSON; empty when there is none
    key_id = models.CharField(max_length=8, blank=True, db_index=True)
    broker_user_id = models.CharField(max_length=64, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    opened_at = models.DateTimeField(null=True, blank=True)
    checked_at = models.DateTimeField(null=True, blank=True)
    closed_at = models.DateTimeField(null=True, blank=True)
    last_error = models.TextField(blank=True)

    connection_id: UUID

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(state__in=["ACTIVE", "EXPIRED", "LOGIN_NEEDED", "CLOSED"]),
                name="session_state_known",
            ),
        ]

    def __str__(self) -> str:
        return self.state


class BrokerLogin(models.Model):
    """A login at a broker that a user has started: what the ``state`` of its redirect stands for.

    Only a hash of the state is kept. It is good once, for a few minutes.
    """

    class StartedIn(models.TextChoices):
        BROWSER = "BROWSER"  # only the same user's browser may finish it
        API = "API"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    connection = models.ForeignKey(BrokerConnection, on_delete=models.CASCADE, related_name="+")
    state_hash = models.CharField(max_length=64, unique=True)
    started_in = models.CharField(max_length=8, choices=StartedIn.choices)
    login_session_id = models.UUIDField()  # of the user's own sign-in that started it
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(db_index=True)
    used_at = models.DateTimeField(null=True, blank=True)

    connection_id: UUID

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(started_in__in=["BROWSER", "API"]), name="login_started_in_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.started_in} {self.id}"


class SessionRenewal(models.Model):
    """The renewal of one connection's session on one trade date: once, whoever asks for it.

    A row that waits is due at ``not_before``; one that runs is somebody's until ``lease_until``.
    """

    class State(models.TextChoices):
        WAITING = "WAITING"
        RUNNING = "RUNNING"
        ASKED = "ASKED"  # the broker asks its user to approve
        DONE = "DONE"
        LOGIN_NEEDED = "LOGIN_NEEDED"  # refused: only the user can put it right
        FAILED = "FAILED"  # the broker could not be asked until the window was over

    connection = models.ForeignKey(
        BrokerConnection, on_delete=models.CASCADE, related_name="renewals"
    )
    trade_date = models.DateField()
    state = models.CharField(max_length=16, choices=State.choices, default=State.WAITING)
    attempts = models.PositiveSmallIntegerField(default=0)
    not_before = models.DateTimeField()
    lease_until = models.DateTimeField(null=True, blank=True)
    error_code = models.CharField(max_length=64, blank=True)
    last_error = models.TextField(blank=True)
    created_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)

    connection_id: UUID

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["connection", "trade_date"], name="renewal_once_a_day"),
            models.CheckConstraint(
                condition=Q(
                    state__in=["WAITING", "RUNNING", "ASKED", "DONE", "LOGIN_NEEDED", "FAILED"]
                ),
                name="renewal_state_known",
            ),
            models.CheckConstraint(
                condition=~Q(state="RUNNING") | Q(lease_until__isnull=False),
                name="renewal_running_has_lease",
            ),
        ]
        indexes = [
            models.Index(
                fields=["not_before"],
                condition=Q(state__in=["WAITING", "RUNNING"]),
                name="renewal_due",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.trade_date} {self.state}"


class PostbackAddress(models.Model):
    """Where a broker posts what happens to a connection's orders: an address that nobody can guess.

    Found by the hash of its token; the token itself is kept encrypted, so that its owner can be
    shown it again and a database dump shows it to nobody.
    """

    connection = models.OneToOneField(
        BrokerConnection, on_delete=models.CASCADE, primary_key=True, related_name="postback"
    )
    token_hash = models.CharField(max_length=64, unique=True)  # SHA-256, hexadecimal
    ciphertext = models.TextField()
    key_id = models.CharField(max_length=8, db_index=True)
    created_at = models.DateTimeField(default=timezone.now)

    connection_id: UUID

    def __str__(self) -> str:
        return f"postback address of {self.connection_id}"


class InboundEvent(models.Model):
    """The inbox: one delivery of a webhook, kept before anything is made of it. Rows stay for ever,
    so that a delivery that is repeated next month changes nothing either.
    """

    class Kind(models.TextChoices):
        EVENT = "EVENT"  # signed with one of our webhook secrets: believed
        POSTBACK = "POSTBACK"  # a broker's own: a hint to read the order
        APPROVAL = "APPROVAL"  # a broker hands over the session that the user has approved

    class State(models.TextChoices):
        NEW = "NEW"
        APPLIED = "APPLIED"
        IGNORED = "IGNORED"  # nothing to do; `error` says why
        PARKED = "PARKED"  # could not be applied yet; tried again at `next_at`
        DEAD = "DEAD"  # given up: a person has to look at it

    id = models.BigAutoField(primary_key=True)
    source = models.CharField(max_length=32)  # "events", or the broker of a postback
    kind = models.CharField(max_length=8, choices=Kind.choices)
    connection = models.ForeignKey(
        BrokerConnection,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="+",
        db_index=False,
    )
    subject = models.CharField(max_length=64, blank=True)  # the broker's id of the order
    dedupe_key = models.CharField(max_length=200)
    body = models.BinaryField()  # as it came; a ciphertext where `key_id` names a key
    key_id = models.CharField(max_length=8, blank=True)
    headers = models.JSONField(default=dict, blank=True)
    signed = models.BooleanField()
    event_at = models.DateTimeField(null=True, blank=True)  # when it happened, as the sender says
    received_at = models.DateTimeField(default=timezone.now)
    state = models.CharField(max_length=8, choices=State.choices, default=State.NEW)
    attempts = models.SmallIntegerField(default=0)
    next_at = models.DateTimeField(null=True, blank=True)
    settled_at = models.DateTimeField(null=True, blank=True)
    error = models.TextField(blank=True)

    connection_id: UUID | None

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["source", "dedupe_key"], name="inbound_event_once"),
            models.CheckConstraint(
                condition=Q(state__in=["NEW", "APPLIED", "IGNORED", "PARKED", "DEAD"]),
                name="inbound_event_state_known",
            ),
        ]
        indexes = [
            models.Index(
                fields=["next_at"],
                condition=Q(state__in=["NEW", "PARKED"]),
                name="inbound_event_waiting",
            ),
            models.Index(
                fields=["received_at"], condition=Q(state="DEAD"), name="inbound_event_dead"
            ),
            models.Index(fields=["connection", "subject"], name="inbound_event_by_order"),
            models.Index(fields=["key_id"], condition=~Q(key_id=""), name="inbound_event_by_key"),
        ]

    def __str__(self) -> str:
        return f"{self.source} {self.pk} {self.state}"


PAPER_OPEN = (ReportedStatus.OPEN, ReportedStatus.TRIGGER_PENDING, ReportedStatus.PARTIALLY_FILLED)
PAPER_ENDS = (
    ReportedStatus.FILLED,
    ReportedStatus.CANCELLED,
    ReportedStatus.REJECTED,
    ReportedStatus.EXPIRED,
)


class PaperAccount(models.Model):
    """The money of one paper connection. The model is explained in `adapters.paper.ledger`."""

    connection = models.OneToOneField(
        BrokerConnection, on_delete=models.PROTECT, primary_key=True, related_name="+"
    )
    starting_cash = MoneyField()
    cash = MoneyField()  # what can back a new order
    debt = MoneyField(default=0)  # losses beyond the cash; the next money in pays them first
    realised = MoneyField(default=0)  # since the account was opened
    opened_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(cash__gte=0), name="paper_cash_not_negative"),
            models.CheckConstraint(condition=Q(debt__gte=0), name="paper_debt_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.cash}"


class PaperOrder(models.Model):
    """An order at the paper broker. ``instrument`` is the `InstrumentRef` that it was placed
    with.
    """

    id = models.BigAutoField(primary_key=True)
    connection = models.ForeignKey(
        BrokerConnection, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    client_order_id = models.CharField(max_length=40)
    instrument_id = models.BigIntegerField()
    instrument = models.JSONField()
    side = models.CharField(max_length=4)
    product = models.CharField(max_length=4)
    order_type = models.CharField(max_length=8)
    validity = models.CharField(max_length=4)
    quantity = models.BigIntegerField()
    price = PriceField(null=True)
    trigger_price = PriceField(null=True)
    disclosed_quantity = models.BigIntegerField(default=0)
    status = models.CharField(max_length=20)
    filled_quantity = models.BigIntegerField(default=0)
    filled_value = models.DecimalField(max_digits=24, decimal_places=4, default=0)
    fill_count = models.IntegerField(default=0)
    closing_quantity = models.BigIntegerField(default=0)  # units that need no margin of their own
    block_unit = PriceField(default=0)  # rupees blocked for each other open unit
    block = MoneyField(default=0)  # blocked now
    code = models.CharField(max_length=64, blank=True)
    message = models.TextField(blank=True)
    placed_at = models.DateTimeField()
    queued_at = models.DateTimeField()  # its place in the queue at its price
    eligible_at = models.DateTimeField()  # when the venue has it: later than placed with a latency
    expires_at = models.DateTimeField()
    triggered_at = models.DateTimeField(null=True)
    updated_at = models.DateTimeField()

    connection_id: UUID

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["connection", "client_order_id"], name="paper_order_tag_once"
            ),
            models.CheckConstraint(condition=Q(quantity__gt=0), name="paper_order_quantity"),
            models.CheckConstraint(
                condition=Q(filled_quantity__gte=0, filled_quantity__lte=F("quantity")),
                name="paper_order_not_overfilled",
            ),
            models.CheckConstraint(
                condition=Q(
                    closing_quantity__gte=0,
                    closing_quantity__lte=F("quantity") - F("filled_quantity"),
                ),
                name="paper_order_closing_within_open",
            ),
            models.CheckConstraint(
                condition=Q(block__gte=0) & (Q(status__in=_words(PAPER_OPEN)) | Q(block=0)),
                name="paper_order_block_only_while_open",
            ),
            models.CheckConstraint(
                condition=Q(status__in=_words(PAPER_OPEN + PAPER_ENDS)), name="paper_order_status"
            ),
            models.CheckConstraint(
                condition=Q(
                    side__in=_words(Side),
                    product__in=_words(Product),
                    order_type__in=_words(OrderType),
                    validity__in=_words(Validity),
                ),
                name="paper_order_words",
            ),
            models.CheckConstraint(
                condition=(Q(price__isnull=True) | Q(price__gt=0))
                & (Q(trigger_price__isnull=True) | Q(trigger_price__gt=0)),
                name="paper_order_prices",
            ),
        ]
        indexes = [
            models.Index(
                fields=["instrument_id", "side", "price"],
                condition=Q(status__in=_words(PAPER_OPEN)),
                name="paper_order_resting",
            ),
            models.Index(
                fields=["connection", "instrument_id"],
                condition=Q(status__in=_words(PAPER_OPEN)),
                name="paper_order_open",
            ),
            models.Index(
                fields=["expires_at"],
                condition=Q(status__in=_words(PAPER_OPEN)),
                name="paper_order_expiry",
            ),
            models.Index(fields=["connection", "placed_at"], name="paper_order_by_day"),
        ]

    def __str__(self) -> str:
        return f"P{self.pk} {self.side} {self.quantity} {self.status}"


class PaperFill(models.Model):
    """One execution. ``number`` counts within the order, so that its id is known before it is
    stored.
    """

    order = models.ForeignKey(
        PaperOrder, on_delete=models.PROTECT, related_name="fills", db_index=False
    )
    number = models.IntegerField()
    connection = models.ForeignKey(  # the order's own, which is checked there
        BrokerConnection,
        on_delete=models.PROTECT,
        related_name="+",
        db_index=False,
        db_constraint=False,
    )
    quantity = models.BigIntegerField()
    price = PriceField()
    filled_at = models.DateTimeField()

    order_id: int

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["order", "number"], name="paper_fill_once"),
            models.CheckConstraint(
                condition=Q(quantity__gt=0, price__gt=0), name="paper_fill_amounts"
            ),
        ]
        indexes = [models.Index(fields=["connection", "filled_at"], name="paper_fill_by_day")]

    def __str__(self) -> str:
        return f"P{self.order_id}-{self.number} {self.quantity} @ {self.price}"


class PaperPosition(models.Model):
    """What one connection holds of one instrument in one product. A CNC row is a holding.

    ``cost`` is what the open units were bought (or sold short) for; ``margin`` is the cash they
    tie up: all of the cost for delivery and bought options.
    """

    id = models.BigAutoField(primary_key=True)
    connection = models.ForeignKey(
        BrokerConnection, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    instrument_id = models.BigIntegerField()
    instrument = models.JSONField()
    product = models.CharField(max_length=4)
    quantity = models.BigIntegerField()  # signed: short is negative
    cost = MoneyField()
    margin = MoneyField()
    day = models.DateField()  # the trading day, in India, of the two columns below
    realised = MoneyField()
    bought = models.BigIntegerField()

    connection_id: UUID

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["connection", "instrument_id", "product"], name="paper_position_once"
            ),
            models.CheckConstraint(
                condition=Q(cost__gte=0, margin__gte=0), name="paper_position_amounts"
            ),
            models.CheckConstraint(
                condition=~Q(quantity=0) | Q(cost=0, margin=0), name="paper_position_flat_is_free"
            ),
            models.CheckConstraint(
                condition=~Q(product__in=[Product.CNC.value, Product.MTF.value])
                | Q(quantity__gte=0),
                name="paper_position_delivery_not_short",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.quantity} {self.product}"


class PaperBook(models.Model):
    """What our orders have taken from one displayed book. Locked while orders are matched against
    it.
    """

    instrument_id = models.BigIntegerField()
    source = models.CharField(max_length=32)
    sequence = models.BigIntegerField()
    quoted_at = models.DateTimeField()
    matched_at = models.DateTimeField()
    taken = models.JSONField(
        default=dict
    )  # {"BUY": {"100.05": 40}, "SELL": {}}: by the side that took

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["instrument_id", "source"], name="paper_book_once"),
        ]

    def __str__(self) -> str:
        return f"{self.instrument_id} #{self.sequence}"


class PaperEvent(models.Model):
    """The outbox of the paper venue: what happened to an order later than its ack, until it is
    confirmed.
    """

    id = models.BigAutoField(primary_key=True)
    connection = models.ForeignKey(  # the order's own, which is checked there
        BrokerConnection,
        on_delete=models.CASCADE,
        related_name="+",
        db_index=False,
        db_constraint=False,
    )
    order = models.ForeignKey(PaperOrder, on_delete=models.CASCADE, related_name="+")
    report = models.JSONField()
    fills = models.JSONField(default=list)
    created_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.order_id} {self.report.get('status')}"
