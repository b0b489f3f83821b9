"""Zerodha through Kite Connect: one call, one request.

The SDK is imported when the first call is made, never with this module.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlencode

from brokerages.adapters.zerodha import books, mapping, market, portfolio, sessions
from brokerages.adapters.zerodha.values import BROKER, each
from brokerages.base import (
    BrokerAdapter,
    BrokerStream,
    Capabilities,
    CredentialField,
    Pace,
    PaceRule,
    SessionRenewal,
)
from brokerages.errors import OrderNotFound, OutcomeUnknown, Refused, SessionExpired
from brokerages.types import (
    ZERO,
    Candle,
    CandleInterval,
    FillReport,
    Funds,
    HoldingReport,
    InstrumentKind,
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
    Validity,
)

if TYPE_CHECKING:
    from brokerages.adapters.zerodha.client import KiteClient

logger = logging.getLogger(__name__)

T = TypeVar("T")

LOGIN = "https://kite.zerodha.com"
INSTRUMENT_SECONDS = 120.0  # a list of some ten megabytes, once a day

_ORDERS = frozenset({Pace.ORDER, Pace.CANCEL})

# Of the published figures that contradict each other (200 or 400 a minute, 3,000 or 5,000 a day)
# the lower ones. Orders count per user over all keys, and per key.
PACE = (
    *(
        PaceRule(_ORDERS, limit, seconds, reserve, scope)
        for scope in ("CONNECTION", "APP")
        for limit, seconds, reserve in ((10, 1, 2), (200, 60, 10), (3000, 86_400, 100))
    ),
    PaceRule(frozenset({Pace.QUOTE}), 1, 1, scope="APP"),
    PaceRule(frozenset({Pace.HISTORY}), 3, 1, scope="APP"),
    PaceRule(frozenset({Pace.OTHER}), 10, 1, scope="APP"),
)


class ZerodhaAdapter(BrokerAdapter):
    """One user's session at Zerodha."""

    name = BROKER
    label = "Zerodha"
    capabilities = Capabilities(
        order_types=frozenset(OrderType),
        products=frozenset(Product),
        validities=frozenset({Validity.DAY, Validity.IOC}),
        exchanges=mapping.TRADED,
        session_renewal=SessionRenewal.INTERACTIVE,
        client_order_id_max_length=20,  # Kite's "tag"
        find_by_client_order_id=True,
        pushes_order_updates=True,
        streams_ticks=True,
        max_stream_instruments=3000,
        max_streams=3,
        can_convert_position=True,
        quotes=frozenset(QuoteDepth),
        candle_intervals=frozenset(market.INTERVALS),
        lists_instruments=True,
        estimates_margin=True,
        after_market_orders=True,
        iceberg_orders=True,
        market_protection=True,
        signs_postbacks=True,
        sends_postbacks=True,
        pace=PACE,
    )
    credential_fields = (
        CredentialField(
            "api_key",
            "API key",
            help_text="Of your app at developers.kite.trade.",
        ),
        CredentialField(
            "api_secret",
            "API secret",
            help_text="Of the same app. It is never shown again.",
        ),
    )
    api_hosts = frozenset({"api.kite.trade"})

    # session

    def login_url(self, state: str) -> str:
        origin = self.context.endpoints.get("login", LOGIN)
        query = urlencode(
            {
                "v": "3",
                "api_key": self._credential("api_key"),
                "redirect_params": urlencode({"state": state}, quote_via=quote),
            },
            quote_via=quote,
        )
        return f"{origin}/connect/login?{query}"

    def open_session(self, grant: str | None) -> SessionToken:
        """Exchange the ``request_token`` of the redirect. It works once, for a few minutes."""
        if not grant:
            raise SessionExpired(
                "Log in at Zerodha to open a session.", broker=self.name, code="login_needed"
            )
        secret = self._credential("api_secret")
        client = self._new_client(None)
        self.context.pace(Pace.OTHER)
        data = client.exchange(grant, secret)
        token, user = data.get("access_token"), data.get("user_id")
        if not (isinstance(token, str) and token and isinstance(user, str) and user):
            raise OutcomeUnknown(
                "Zerodha's answer to the login could not be read. Log in again.",
                broker=self.name,
                code="unreadable",
            )
        return SessionToken(
            secrets={"access_token": token},
            expires_at=sessions.session_end(self.context.now()),
            broker_user_id=user,
        )

    def check_session(self) -> None:
        self.fetch_profile()

    def close_session(self) -> None:
        """Log out of the API. A session that is over already is closed."""
        try:
            self._ask(Pace.OTHER, lambda kite: kite.invalidate_access_token())
        except SessionExpired:
            return

    # orders

    def place_order(self, request: OrderRequest) -> OrderAck:
        form = mapping.order_form(request)
        return self._acked(Pace.ORDER, lambda kite: kite.place_order(**form))

    def modify_order(
        self, broker_order_id: str, change: OrderChange, request: OrderRequest
    ) -> OrderAck:
        self._check_id(broker_order_id)
        form = mapping.change_form(change, request)
        leg = self._live_leg(broker_order_id) if request.iceberg_legs else broker_order_id
        self._acked(Pace.ORDER, lambda kite: kite.modify_order(order_id=leg, **form), of_order=True)
        return OrderAck(broker_order_id)

    def cancel_order(self, broker_order_id: str, request: OrderRequest) -> OrderAck:
        self._check_id(broker_order_id)
        variety = mapping.variety_of(request)
        leg = self._live_leg(broker_order_id) if request.iceberg_legs else broker_order_id
        self._acked(
            Pace.CANCEL,
            lambda kite: kite.cancel_order(variety=variety, order_id=leg),
            of_order=True,
        )
        return OrderAck(broker_order_id)

    def convert_position(self, conversion: PositionConversion) -> None:
        form = mapping.conversion_form(conversion)

        def ask(kite: Any) -> None:
            if kite.convert_position(**form) is not True:
                raise ValueError("neither done nor refused")

        self._ask(Pace.OTHER, ask)

    # reports

    def find_order(self, request: OrderRequest) -> OrderReport | None:
        """Look for the tag in the day's book: Kite has no other way to find an order by it."""
        book = self._read_book()
        return self._found(book, book.find_tagged(request.client_order_id))

    def fetch_order(self, broker_order_id: str, request: OrderRequest) -> OrderReport | None:
        book = self._read_book()
        return self._found(book, book.find(broker_order_id))

    def fetch_orders(self) -> list[OrderReport]:
        """Return the day's orders, also those placed elsewhere. Orders on exchanges where Kite
        counts lots are left out.
        """
        return list(self._read_book().reports)

    def fetch_fills(self) -> list[FillReport]:
        """Return the day's trades. They carry no tag: the order book is read for it, too, unless it
        was read before and has every order that traded.
        """

        def read(kite: Any) -> tuple[list[FillReport], int]:
            return each(kite.trades(), mapping.fill_report)

        fills, unread = self._ask(Pace.OTHER, read)
        self._warn(unread, "trades")
        book = self._book
        if book is None or any(fill.broker_order_id not in book.owners for fill in fills):
            book = self._read_book() if fills else None
        return books.fills_of_orders(fills, book.owners if book else {})

    def fetch_positions(self) -> list[PositionReport]:
        reports, unread = self._ask(
            Pace.OTHER, lambda kite: portfolio.position_reports(kite.positions())
        )
        self._warn(unread, "positions")
        return reports

    def fetch_holdings(self) -> list[HoldingReport]:
        reports, unread = self._ask(
            Pace.OTHER, lambda kite: portfolio.holding_reports(kite.holdings())
        )
        self._warn(unread, "holdings")
        return reports

    def fetch_funds(self) -> Funds:
        return self._ask(Pace.OTHER, lambda kite: portfolio.funds(kite.margins("equity")))

    def fetch_profile(self) -> Profile:
        return self._ask(Pace.OTHER, lambda kite: portfolio.profile(kite.profile()))

    # market data

    def fetch_quotes(self, instruments: Sequence[InstrumentRef], depth: QuoteDepth) -> list[Quote]:
        """Return quotes in the order asked for; what Kite does not know or never traded is left
        out.
        """
        method = {QuoteDepth.LTP: "ltp", QuoteDepth.OHLC: "ohlc", QuoteDepth.FULL: "quote"}[depth]
        wanted = market.by_key(instruments)
        keys, size = list(wanted), market.QUOTES_AT_ONCE[depth]
        found: list[Quote] = []
        for at in range(0, len(keys), size):
            chunk = keys[at : at + size]

            def read(kite: Any, chunk: list[str] = chunk) -> tuple[list[Quote], int]:
                rows, now = getattr(kite, method)(chunk), self.context.now()
                if not isinstance(rows, Mapping):
                    raise ValueError("not an object")
                pairs = [(ref, rows[key]) for key in chunk if key in rows for ref in wanted[key]]
                return each(pairs, lambda pair: market.quote_of(pair[0], pair[1], now))

            quotes, unread = self._ask(Pace.QUOTE, read)
            self._warn(unread, "quotes")
            found += quotes
        return found

    def fetch_candles(
        self,
        instrument: InstrumentRef,
        interval: CandleInterval,
        start: datetime,
        end: datetime,
    ) -> list[Candle]:
        if interval not in market.INTERVALS:
            raise self._unsupported(f"{interval} candles")
        word, days = market.INTERVALS[interval]
        token = market.instrument_token(instrument)
        with_interest = instrument.kind not in (InstrumentKind.EQ, InstrumentKind.INDEX)
        found: list[Candle] = []
        for first, last in market.spans(start, end, days):

            def read(kite: Any, first: datetime = first, last: datetime = last) -> list[Candle]:
                rows = kite.historical_data(token, first, last, word, oi=with_interest)
                return market.candles(rows, start, end)

            found += self._ask(Pace.HISTORY, read)
        return list({candle.start: candle for candle in found}.values())

    def fetch_instruments(self) -> Iterator[InstrumentRecord]:
        """Yield what can be traded, one exchange after the other: a request each."""
        for exchange in sorted(mapping.TRADED):

            def read(kite: Any, exchange: str = exchange.value) -> list[InstrumentRecord]:
                return list(market.instrument_records(kite.instruments(exchange)))

            yield from self._ask(Pace.OTHER, read, seconds=INSTRUMENT_SECONDS)

    def estimate_margin(self, requests: Sequence[OrderRequest]) -> Margin:
        """Return what the orders would block and cost, several with what they hedge, beside the
        open positions.
        """
        from brokerages.adapters.zerodha.client import wire_number

        if not requests:
            return Margin(ZERO, ZERO)
        orders = [portfolio.margin_order(request) for request in requests]
        for order in orders:
            order |= {name: wire_number(order[name]) for name in ("price", "trigger_price")}
        if len(orders) == 1:
            return self._ask(
                Pace.OTHER, lambda kite: portfolio.margin_of_order(kite.order_margins(orders))
            )
        return self._ask(
            Pace.OTHER, lambda kite: portfolio.margin_of_basket(kite.basket_order_margins(orders))
        )

    def open_stream(self) -> BrokerStream:
        from brokerages.adapters.zerodha.stream import KiteStream

        return KiteStream(
            api_key=self._credential("api_key"),
            access_token=self._access_token(),
            root=self.context.endpoints.get("stream"),
            now=self.context.now,
        )

    # postbacks

    @classmethod
    def verify_postback(cls, headers: Mapping[str, str], body: bytes, secret: str) -> bool:
        """``secret`` is the app's API secret. The checksum covers the order's id and time only."""
        return sessions.postback_is_genuine(body, secret.strip())

    @classmethod
    def parse_postback(cls, body: bytes) -> list[OrderHint]:
        return sessions.postback_hints(body)

    # how calls are made

    _book: books.OrderBook | None = None  # the last that was read

    @cached_property
    def _client(self) -> KiteClient:
        return self._new_client(self._access_token())

    def _new_client(self, access_token: str | None) -> KiteClient:
        from brokerages.adapters.zerodha.client import KiteClient

        root = self.context.endpoints.get("api")
        return KiteClient(self._credential("api_key"), access_token, root)

    def _ask(self, pace: Pace, ask: Callable[[Any], T], **how: Any) -> T:
        """Make one request at its pace, and read its answer."""
        client = self._client
        self.context.pace(pace)
        return client.call(ask, **how)

    def _acked(self, pace: Pace, ask: Callable[[Any], Any], *, of_order: bool = False) -> OrderAck:
        def number(kite: Any) -> str:
            order_id = ask(kite)
            if not isinstance(order_id, str) or not mapping.is_order_id(order_id):
                raise ValueError("an answer without an order's id")
            return order_id

        return OrderAck(self._ask(pace, number, of_order=of_order))

    def _live_leg(self, broker_order_id: str) -> str:
        """Return the leg of an iceberg that rests now: a change or cancel names it. The first is
        the one that we know.
        """
        return self._read_book().live_legs.get(broker_order_id, broker_order_id)

    def _read_book(self) -> books.OrderBook:
        now = self.context.now()
        book = self._ask(Pace.OTHER, lambda kite: books.order_book(kite.orders(), now))
        self._warn(book.unread, "orders")
        self._book = book
        return book

    def _found(self, book: books.OrderBook, report: OrderReport | None) -> OrderReport | None:
        if report is None and book.unread:  # it may be one of those
            raise OutcomeUnknown(
                "A part of Zerodha's order book could not be read.",
                broker=self.name,
                code="unreadable",
            )
        return report

    def _warn(self, unread: int, what: str) -> None:
        if unread:
            logger.warning("%s %s of Zerodha could not be read", unread, what)

    def _check_id(self, broker_order_id: str) -> None:
        if not mapping.is_order_id(broker_order_id):
            raise OrderNotFound(
                "Zerodha does not know this order.", broker=self.name, code="not_an_order_id"
            )

    def _credential(self, name: str) -> str:
        value = self.credentials.get(name, "").strip()
        if not value:
            raise Refused(
                f"The {name.replace('_', ' ')} of the Zerodha app is missing; enter it again.",
                broker=self.name,
                code="credentials_missing",
            )
        return value

    def _access_token(self) -> str:
        token = self.token.secrets.get("access_token") if self.token else None
        if not token:
            raise SessionExpired(
                "No session is open at Zerodha. Log in there first.",
                broker=self.name,
                code="no_session",
            )
        return token
