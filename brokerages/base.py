"""The one interface to every broker. Pure Python; Django is above it, the wire below.

One method is one request (chunking aside). Every method is synchronous, raises `BrokerError` and
nothing else, and takes and returns only the values of `brokerages.types`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta, timezone
from enum import StrEnum
from typing import ClassVar
from uuid import UUID

from brokerages.errors import NotSupported
from brokerages.types import (
    Candle,
    CandleInterval,
    Exchange,
    FillReport,
    Funds,
    HoldingReport,
    InstrumentRecord,
    InstrumentRef,
    Margin,
    OrderAck,
    OrderChange,
    OrderHint,
    OrderReport,
    OrderRequest,
    OrderType,
    PositionConversion,
    PositionReport,
    Product,
    Profile,
    Quote,
    QuoteDepth,
    SessionToken,
    StreamEvent,
    Validity,
)


class SessionRenewal(StrEnum):
    """How a broker session is renewed each day."""

    NONE = "NONE"  # sessions do not end
    UNATTENDED = "UNATTENDED"  # a job can renew it
    INTERACTIVE = "INTERACTIVE"  # the user has to log in at the broker


class Pace(StrEnum):
    """What a request counts as toward a broker's rate limits."""

    ORDER = "ORDER"  # place, modify
    CANCEL = "CANCEL"  # counts with orders, and has a reserve of its own
    QUOTE = "QUOTE"
    HISTORY = "HISTORY"
    OTHER = "OTHER"


@dataclass(frozen=True, slots=True)
class PaceRule:
    """At most ``limit`` requests of ``kinds`` in any rolling window of ``seconds``: the cap that
    the broker publishes. The limiter keeps below it by itself.

    ``reserve`` of them are kept for cancels, where ``kinds`` has them. ``scope`` says who shares
    the window: a CONNECTION (the account at the broker), an APP (the API key), or an IP address.
    """

    kinds: frozenset[Pace]
    limit: int
    seconds: int
    reserve: int = 0
    scope: str = "CONNECTION"


@dataclass(frozen=True, slots=True)
class CredentialField:
    """One thing to ask the user for. ``secret`` values are write-only, encrypted and never shown
    again.
    """

    name: str
    label: str
    secret: bool = True
    required: bool = True
    help_text: str = ""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a broker can do. Declared once; used by the risk check, the API, the order form and the
    docs.

    ``dispatch_lane`` groups commands that one worker sends in one go; empty means each connection
    is a lane of its own, which is right wherever sending waits on a network.
    """

    order_types: frozenset[OrderType]
    products: frozenset[Product]
    validities: frozenset[Validity]
    exchanges: frozenset[Exchange]
    session_renewal: SessionRenewal
    client_order_id_max_length: int = 20
    find_by_client_order_id: bool = False
    can_modify: bool = True
    pushes_order_updates: bool = False
    streams_ticks: bool = False
    max_stream_instruments: int = 0
    max_streams: int = 1
    can_convert_position: bool = False
    quotes: frozenset[QuoteDepth] = frozenset()
    candle_intervals: frozenset[CandleInterval] = frozenset()
    lists_instruments: bool = False
    estimates_margin: bool = False
    after_market_orders: bool = False
    iceberg_orders: bool = False
    market_protection: bool = False  # takes how far a MARKET order may move
    signs_postbacks: bool = False
    sends_postbacks: bool = False
    opens_by_approval: bool = False
    pace: tuple[PaceRule, ...] = ()
    dispatch_lane: str = ""

    @property
    def orders_per_second(self) -> int | None:
        """The most orders that may be sent in a second; None where nothing limits them."""
        limits = [r.limit for r in self.pace if Pace.ORDER in r.kinds and r.seconds == 1]
        return min(limits, default=None)

    def why_not(self, request: OrderRequest) -> tuple[str, str] | None:
        """Return (stable code, sentence) when this broker cannot take ``request``, else None."""
        instrument = request.instrument
        if instrument.exchange not in self.exchanges:
            return "exchange_not_supported", f"This broker does not trade on {instrument.exchange}."
        if request.order_type not in self.order_types:
            return (
                "order_type_not_supported",
                f"This broker does not take {request.order_type} orders.",
            )
        if request.product not in self.products:
            return (
                "product_not_supported",
                f"This broker does not offer the product {request.product}.",
            )
        if request.validity not in self.validities:
            return "validity_not_supported", f"This broker does not take {request.validity} orders."
        if request.after_market and not self.after_market_orders:
            return "after_market_not_supported", "This broker takes no after-market orders."
        if request.iceberg_legs and not self.iceberg_orders:
            return "iceberg_not_supported", "This broker takes no iceberg orders."
        if request.market_protection is not None and not self.market_protection:
            return "market_protection_not_supported", "This broker takes no market protection."
        return None


IST = timezone(timedelta(hours=5, minutes=30))


def always_open(instrument: InstrumentRef, at: datetime) -> bool:
    """Return True: hours for an exchange that never closes."""
    return True


def next_midnight(instrument: InstrumentRef, at: datetime) -> datetime:
    """Return the next midnight in India: the end of a day at an exchange that never closes."""
    tomorrow = at.astimezone(IST).date() + timedelta(days=1)
    return datetime.combine(tomorrow, time(), IST).astimezone(UTC)


def unpaced(kind: Pace) -> None:
    """Let every request go at once."""


@dataclass(frozen=True, slots=True)
class AdapterContext:
    """What an adapter is handed beside its session: who it acts for, and the ports that come from
    above.

    ``connection_id`` names the user's account at the broker. ``quote`` reads the latest market (the
    paper broker fills against it); ``now`` is the clock; ``market_open`` and ``day_end`` are the
    hours of an instrument's exchange segment.

    ``endpoints`` replaces the broker's own addresses (an emulator's): keys are ``api``, ``login``,
    ``stream`` and ``assets``, values are origins such as ``http://127.0.0.1:9001``; a missing key
    means the broker's own. ``redirect_url`` is where the broker sends the user back after a login.
    ``pace`` is asked for a permit before each request and raises `RateLimited` when an order may
    not go now; for reads it waits a little first.
    """

    connection_id: str
    quote: Callable[[InstrumentRef], Quote | None]
    now: Callable[[], datetime]
    market_open: Callable[[InstrumentRef, datetime], bool] = always_open
    day_end: Callable[[InstrumentRef, datetime], datetime] = next_midnight
    endpoints: Mapping[str, str] = field(default_factory=dict)
    redirect_url: str = ""
    pace: Callable[[Pace], None] = unpaced


class BrokerAdapter(ABC):
    """A user's session at one broker. Built by `brokerages.services.adapter_for`; never kept
    between tasks.
    """

    name: ClassVar[str]
    label: ClassVar[str]
    capabilities: ClassVar[Capabilities]
    credential_fields: ClassVar[tuple[CredentialField, ...]]
    api_hosts: ClassVar[frozenset[str]] = (
        frozenset()
    )  # what `api_url` may name when a user activates the broker

    def __init__(
        self,
        context: AdapterContext,
        credentials: Mapping[str, str],
        token: SessionToken | None = None,
    ) -> None:
        self.context, self.credentials, self.token = context, credentials, token

    # session

    def login_url(self, state: str) -> str:
        """Return where the user logs in at the broker; ``state`` comes back in the redirect.
        INTERACTIVE brokers.
        """
        raise self._unsupported("an interactive login")

    @abstractmethod
    def open_session(self, grant: str | None) -> SessionToken:
        """Open a session with the credentials and, where the broker gives one, the ``grant`` of its
        redirect.
        """

    def renew_session(self, token: SessionToken) -> SessionToken:
        """Renew without the user. UNATTENDED brokers."""
        raise self._unsupported("renewal without the user")

    def request_session(self) -> datetime | None:
        """Let the broker ask its user to approve a session, and return until when they may; None
        if it does not say. The token comes later, to `parse_session_notice`. By capability.
        """
        raise self._unsupported("sessions by approval")

    @classmethod
    def parse_session_notice(cls, body: bytes, credentials: Mapping[str, str]) -> SessionToken:
        """Return the token that the broker delivers after its user approved a session. Nobody
        signed it: whoever calls this proves it with `check_session` before it is believed.

        Raises:
            ValueError: not such a notice, or one for another app than that of ``credentials``.
        """
        raise ValueError(f"{cls.label} delivers no sessions")

    @abstractmethod
    def check_session(self) -> None:
        """Make one cheap call. Raises `SessionExpired` when the session is over."""

    @abstractmethod
    def close_session(self) -> None: ...

    # orders

    @abstractmethod
    def place_order(self, request: OrderRequest) -> OrderAck:
        """Send the order once. Never retries."""

    @abstractmethod
    def modify_order(
        self, broker_order_id: str, change: OrderChange, request: OrderRequest
    ) -> OrderAck:
        """Send new terms once. ``request`` is the order with its present terms: some brokers want
        its segment or variety.
        """

    @abstractmethod
    def cancel_order(self, broker_order_id: str, request: OrderRequest) -> OrderAck | None:
        """Ask for a cancel. An ack may carry the final report where the broker has one at once."""

    def convert_position(self, conversion: PositionConversion) -> None:
        """Move open units from one product to another, e.g. intraday to delivery."""
        raise self._unsupported("position conversion")

    # reports: the truth, for reconciliation

    @abstractmethod
    def find_order(self, request: OrderRequest) -> OrderReport | None:
        """Return the order that carries the request's tag, or None when a complete read of the book
        does not have it.
        """

    def fetch_order(self, broker_order_id: str, request: OrderRequest) -> OrderReport | None:
        """Return one order by the broker's id, or None when a complete read does not have it."""
        return next((r for r in self.fetch_orders() if r.broker_order_id == broker_order_id), None)

    @abstractmethod
    def fetch_orders(self) -> list[OrderReport]: ...

    @abstractmethod
    def fetch_fills(self) -> list[FillReport]: ...

    def fetch_order_fills(self, report: OrderReport) -> list[FillReport]:
        """Return the fills of the order of ``report``, which the broker has just given: from the
        day's book, or with fewer requests where the broker has a way.
        """
        return [f for f in self.fetch_fills() if f.broker_order_id == report.broker_order_id]

    @abstractmethod
    def fetch_positions(self) -> list[PositionReport]: ...

    @abstractmethod
    def fetch_holdings(self) -> list[HoldingReport]: ...

    @abstractmethod
    def fetch_funds(self) -> Funds: ...

    @abstractmethod
    def fetch_profile(self) -> Profile: ...

    # market data, by capability

    def fetch_quotes(self, instruments: Sequence[InstrumentRef], depth: QuoteDepth) -> list[Quote]:
        raise self._unsupported("quotes")

    def fetch_candles(
        self,
        instrument: InstrumentRef,
        interval: CandleInterval,
        start: datetime,
        end: datetime,
    ) -> list[Candle]:
        """Return candles that start at or after ``start`` and before ``end``, oldest first, each
        once. Splits long spans into as many requests as the broker's limits ask for.
        """
        raise self._unsupported("candles")

    def fetch_instruments(self) -> Iterator[InstrumentRecord]:
        raise self._unsupported("an instrument list")

    def estimate_margin(self, requests: Sequence[OrderRequest]) -> Margin:
        raise self._unsupported("margin estimates")

    def open_stream(self) -> BrokerStream:
        """Return a stream that is not connected yet."""
        raise self._unsupported("a stream")

    # native postbacks: hints to fetch, never facts. They need no session.

    @classmethod
    def verify_postback(cls, headers: Mapping[str, str], body: bytes, secret: str) -> bool:
        """Return whether the broker signed ``body`` with the app's ``secret``. A broker that signs
        nothing cannot be verified: False.
        """
        return False

    @classmethod
    def parse_postback(cls, body: bytes) -> list[OrderHint]:
        """Return which orders changed.

        Raises:
            ValueError: not a postback of this broker.
        """
        raise ValueError(f"{cls.label} sends no postbacks")

    def _unsupported(self, what: str) -> NotSupported:
        return NotSupported(
            f"{self.label} does not offer {what}.", broker=self.name, code="not_supported"
        )


class BrokerStream(ABC):
    """One socket to a broker: order updates of the account, and ticks of what is subscribed.

    It connects by itself, again after every loss with a growing delay, subscribes anew, and notices
    silence. What happened while it was down is not repeated: whoever listens reads the books after
    every `StreamUp`. One thread reads `events`; any thread may call the rest.
    """

    @abstractmethod
    def subscribe(self, instruments: Sequence[InstrumentRef], depth: QuoteDepth) -> None:
        """Ask for ticks, now and after every reconnect.

        Raises:
            NotSupported: more than the broker's limit, or no ticks at all.
        """

    @abstractmethod
    def unsubscribe(self, instruments: Sequence[InstrumentRef]) -> None: ...

    @abstractmethod
    def events(self) -> Iterator[StreamEvent]:
        """Connect and yield what comes, blocking, until `close` or until a reconnect is pointless
        (the session is over): then the last event is a `StreamDown` with ``final``.
        """

    @abstractmethod
    def close(self) -> None:
        """End the stream and let `events` return. Closing twice changes nothing."""


@dataclass(frozen=True, slots=True)
class VenueEvent:
    """Something that happened to an order at a venue inside the platform. ``id`` is what
    `confirm_events` takes.
    """

    id: int
    connection_id: UUID
    report: OrderReport
    fills: tuple[FillReport, ...] = ()


class VenueEngine(ABC):
    """A broker whose market runs inside the platform (paper): it has to be moved on, and its events
    fetched.

    The counterpart of a real broker's clock and order stream. Events are delivered at least once:
    they stay until confirmed, and whoever applies them must not mind seeing one twice.
    """

    broker: ClassVar[str]  # the registry name of the broker it runs

    @abstractmethod
    def advance(
        self,
        quote: Callable[[InstrumentRef], Quote | None],
        now: datetime,
        instrument_ids: Sequence[int] | None = None,
    ) -> int:
        """Trigger, match and expire resting orders against the latest quotes; return how many
        orders changed.
        """

    @abstractmethod
    def pending_events(self, limit: int = 500) -> list[VenueEvent]:
        """Return unconfirmed events, oldest first."""

    @abstractmethod
    def confirm_events(self, event_ids: Sequence[int]) -> None:
        """Forget events that were applied."""
