"""What can be traded and when, and the users' watchlists."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models

from audit.ids import uuid7
from brokerages.types import Exchange, InstrumentKind, Segment
from marketdata.calendar import ALL_GROUPS, Phase, SessionGroup


def choices(*enums: Any) -> list[tuple[str, str]]:
    return [(str(member), str(member)) for enum in enums for member in enum]


class Instrument(models.Model):
    """A share, an index, or one derivative contract. Rows are never deleted: orders and fills point
    at them.

    ``reference_price`` (rupees) is the base of simulated prices and of nothing else. ``lot_size``
    and ``freeze_quantity`` are units. An expired or delisted instrument is not ``is_active``.
    """

    exchange = models.CharField(max_length=8, choices=choices(Exchange))
    segment = models.CharField(max_length=24, choices=choices(Segment))
    symbol = models.CharField(max_length=40)
    name = models.CharField(max_length=120)
    isin = models.CharField(max_length=12, blank=True)
    kind = models.CharField(max_length=8, choices=choices(InstrumentKind))
    underlying = models.CharField(max_length=40, blank=True)
    exchange_token = models.CharField(max_length=24, blank=True)
    tick_size = models.DecimalField(max_digits=8, decimal_places=4)
    lot_size = models.PositiveIntegerField(default=1)
    freeze_quantity = models.PositiveIntegerField(null=True, blank=True)
    expiry = models.DateField(null=True, blank=True)
    strike = models.DecimalField(max_digits=12, decimal_places=2, null=True, blank=True)
    is_tradable = models.BooleanField(default=True)
    has_derivatives = models.BooleanField(
        default=False, help_text="Leaves continuous trading for the closing auction."
    )
    industry = models.CharField(max_length=60, blank=True)
    reference_price = models.DecimalField(max_digits=14, decimal_places=4, null=True, blank=True)
    is_active = models.BooleanField(default=True)
    broker_listed = models.BooleanField(
        default=False,
        editable=False,
        help_text="Known from brokers' lists only: looked up when asked for, not kept in memory.",
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["exchange", "symbol"], name="instrument_once_per_exchange"
            ),
            models.CheckConstraint(
                condition=models.Q(tick_size__gt=0), name="instrument_tick_positive"
            ),
            models.CheckConstraint(
                condition=models.Q(lot_size__gte=1), name="instrument_lot_positive"
            ),
        ]
        indexes = [
            models.Index(fields=["exchange", "exchange_token"], name="instrument_token"),
            models.Index(fields=["underlying", "expiry", "strike"], name="instrument_chain"),
        ]

    def __str__(self) -> str:
        return self.key

    @property
    def key(self) -> str:
        """The public name, e.g. ``NSE:RELIANCE``."""
        return f"{self.exchange}:{self.symbol}"


class BrokerInstrument(models.Model):
    """What one broker calls an instrument, and where its terms differ from the instrument's own.

    ``lot_size``, ``tick_size`` (rupees) and ``freeze_quantity`` are empty where the broker says the
    same, or nothing. ``seen_at`` is when a list first had the row as it stands. One that the latest
    list no longer has is not ``is_active``; it stays for the orders that were placed by it.
    """

    broker = models.CharField(max_length=32)
    instrument = models.ForeignKey(Instrument, on_delete=models.PROTECT, related_name="+")
    broker_symbol = models.CharField(max_length=80)
    broker_token = models.CharField(max_length=64, blank=True)
    lot_size = models.PositiveIntegerField(null=True, blank=True)
    tick_size = models.DecimalField(max_digits=8, decimal_places=4, null=True, blank=True)
    freeze_quantity = models.PositiveIntegerField(null=True, blank=True)
    is_active = models.BooleanField(default=True)
    seen_at = models.DateTimeField()

    instrument_id: int

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["broker", "instrument"], name="broker_instrument_once_per_broker"
            ),
            models.CheckConstraint(
                condition=(models.Q(lot_size=None) | models.Q(lot_size__gte=1))
                & (models.Q(tick_size=None) | models.Q(tick_size__gt=0)),
                name="broker_instrument_terms_positive",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.broker} {self.broker_symbol}"


class InstrumentSync(models.Model):
    """One reading of a broker's instrument list, and what became of its rows.

    ``report`` counts what could not be used, by reason, with a few examples. At most one runs at a
    time for a broker; one that died is taken over when its lease is over.
    """

    class State(models.TextChoices):
        RUNNING = "RUNNING"
        DONE = "DONE"
        FAILED = "FAILED"

    broker = models.CharField(max_length=32)
    state = models.CharField(max_length=8, choices=State.choices)
    started_at = models.DateTimeField()
    lease_until = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)
    rows = models.PositiveIntegerField(default=0, help_text="In the broker's list.")
    matched = models.PositiveIntegerField(default=0, help_text="With an instrument known before.")
    created = models.PositiveIntegerField(default=0, help_text="Instruments new to the platform.")
    changed = models.PositiveIntegerField(default=0, help_text="Names or terms that are new.")
    retired = models.PositiveIntegerField(default=0, help_text="No longer in the list.")
    report = models.JSONField(default=dict, blank=True)
    error = models.TextField(blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(state__in=["RUNNING", "DONE", "FAILED"]),
                name="instrument_sync_state_known",
            ),
            models.UniqueConstraint(
                fields=["broker"],
                condition=models.Q(state="RUNNING"),
                name="instrument_sync_one_runs",
            ),
        ]
        indexes = [models.Index(fields=["broker", "-id"], name="instrument_sync_latest")]

    def __str__(self) -> str:
        return f"{self.broker} {self.state}"


class TradingSession(models.Model):
    """One dated row of the calendar, in Indian time: see `marketdata.calendar.SessionRow`."""

    group = models.CharField(
        max_length=24, choices=[*choices(SessionGroup), (ALL_GROUPS, ALL_GROUPS)]
    )
    phase = models.CharField(max_length=24, choices=choices(Phase))
    opens = models.TimeField(null=True, blank=True, help_text="Indian time, inclusive.")
    closes = models.TimeField(null=True, blank=True, help_text="Indian time, exclusive.")
    valid_from = models.DateField()
    valid_to = models.DateField()
    weekdays = models.CharField(max_length=7, default="12345", help_text="ISO numbers, Monday 1.")
    special = models.BooleanField(default=False, help_text="Replaces the weekday rows of its days.")
    note = models.CharField(max_length=200, blank=True)
    source = models.CharField(max_length=200, help_text="The circular or page that says so.")
    bundled = models.BooleanField(
        default=False, editable=False, help_text="Came with the platform."
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["valid_from", "group", "opens"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(phase="CLOSED", opens=None, closes=None)
                | (~models.Q(phase="CLOSED") & models.Q(opens__lt=models.F("closes"))),
                name="session_times_fit_phase",
            ),
            models.CheckConstraint(
                condition=models.Q(valid_from__lte=models.F("valid_to")),
                name="session_dates_in_order",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.group} {self.phase} {self.valid_from}"


class Watchlist(models.Model):
    """A user's named list of instruments."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="watchlists"
    )
    name = models.CharField(max_length=60)
    position = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["position", "created_at"]
        constraints = [
            models.UniqueConstraint(fields=["user", "name"], name="watchlist_name_once_per_user")
        ]

    def __str__(self) -> str:
        return self.name


class WatchlistItem(models.Model):
    watchlist = models.ForeignKey(Watchlist, on_delete=models.CASCADE, related_name="items")
    instrument = models.ForeignKey(Instrument, on_delete=models.PROTECT, related_name="+")
    position = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ["position", "id"]
        constraints = [
            models.UniqueConstraint(fields=["watchlist", "instrument"], name="watchlist_item_once")
        ]

    def __str__(self) -> str:
        return f"{self.watchlist_id}/{self.instrument_id}"
