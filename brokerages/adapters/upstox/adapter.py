"""Upstox through its official SDK (`upstox-python-sdk`), unmodified.

`client` sends, `mapping` and `market` translate, `refusals` says what an error proves, `stream` is
the sockets. What is odd about this broker: docs/brokers/upstox.md.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import logging
import zlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar
from urllib.parse import urlencode

from brokerages.adapters.upstox import mapping, market, portfolio
from brokerages.adapters.upstox.client import (
    API,
    API_VERSION,
    UpstoxClient,
    reading,
    record_of,
)
from brokerages.adapters.upstox.stream import UpstoxStream
from brokerages.adapters.upstox.values import IST, each, required, rows, session_end
from brokerages.base import (
    BrokerAdapter,
    BrokerStream,
    Capabilities,
    CredentialField,
    Pace,
    PaceRule,
    SessionRenewal,
)
from brokerages.errors import (
    BrokerError,
    NotSupported,
    OrderNotFound,
    OutcomeUnknown,
    PermissionDenied,
    Refused,
    SessionExpired,
)
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
    Validity,
)

logger = logging.getLogger(__name__)

T = TypeVar("T")

MOST_QUOTES = 500  # instruments in one call
MOST_MARGINS = 20
INSTRUMENTS = "/market-quote/instruments/exchange/complete.json.gz"
_ORDERS = frozenset({Pace.ORDER, Pace.CANCEL})


def _reads(kind: Pace) -> tuple[PaceRule, ...]:
    """Return the caps of reads, which count by API; each kind here counts as one."""
    kinds = frozenset({kind})
    return PaceRule(kinds, 50, 1), PaceRule(kinds, 500, 60), PaceRule(kinds, 2000, 1800)


class UpstoxAdapter(BrokerAdapter):
    """One user's session at Upstox."""

    name = "upstox"
    label = "Upstox"
    capabilities = Capabilities(
        order_types=frozenset(OrderType),
        products=frozenset(Product),
        validities=frozenset(Validity),
        # MCX is listed and quoted, but closed to orders through the API for now (UDAPI1161).
        exchanges=frozenset({Exchange.NSE, Exchange.BSE, Exchange.NFO, Exchange.BFO, Exchange.CDS}),
        session_renewal=SessionRenewal.INTERACTIVE,
        client_order_id_max_length=40 - len(mapping.SLICED),
        find_by_client_order_id=True,
        can_modify=True,
        pushes_order_updates=True,
        streams_ticks=True,
        max_stream_instruments=2000,
        max_streams=2,
        can_convert_position=True,
        quotes=frozenset(QuoteDepth),
        candle_intervals=frozenset(market.STEPS),
        lists_instruments=True,
        estimates_margin=True,
        after_market_orders=True,
        iceberg_orders=False,
        market_protection=True,
        sends_postbacks=True,
        signs_postbacks=False,
        opens_by_approval=True,
        # Place, modify and cancel count together; what conflicts in the documents, by the lower.
        pace=(
            PaceRule(_ORDERS, 10, 1, reserve=2),
            PaceRule(_ORDERS, 500, 60, reserve=20),
            PaceRule(_ORDERS, 2000, 1800, reserve=50),
            *_reads(Pace.QUOTE),
            *_reads(Pace.HISTORY),
            *_reads(Pace.OTHER),
        ),
    )
    credential_fields = (
        CredentialField(
            "api_key",
            "API key",
            help_text="Of your app in Upstox's developer console; also called client id.",
        ),
        CredentialField(
            "api_secret",
            "API secret",
            help_text="Shown beside the API key. It is kept encrypted and never shown again.",
        ),
    )
    api_hosts = frozenset({"api.upstox.com", "api-hft.upstox.com"})

    _client: UpstoxClient | None = None

    # session

    def login_url(self, state: str) -> str:
        origin = self.context.endpoints.get("login", API)
        question = {
            "response_type": "code",
            "client_id": self._credential("api_key"),
            "redirect_uri": self.context.redirect_url,
            "state": state,
        }
        return f"{origin}/v2/login/authorization/dialog?{urlencode(question)}"

    def open_session(self, grant: str | None) -> SessionToken:
        """Exchange the code of the redirect for a token. The code is spent, also if this fails."""
        if not grant:
            raise SessionExpired("Log in at Upstox first.", broker=self.name, code="login_needed")
        answer = self._anonymous().call_whole(
            Pace.OTHER,
            "LoginApi",
            "token",
            API_VERSION,
            code=grant,
            client_id=self._credential("api_key"),
            client_secret=self._credential("api_secret"),
            redirect_uri=self.context.redirect_url,
            grant_type="authorization_code",
        )
        with reading():
            return portfolio.parse_token(answer, session_end(self.context.now()))

    def request_session(self) -> datetime | None:
        """Ask the user, in Upstox's app and by WhatsApp, to approve a session. Its token is posted
        to the notifier address of the app; a refusal is not told.
        """
        data = self._anonymous().call(
            Pace.OTHER,
            "LoginApi",
            "init_token_request_for_indie_user",
            {"client_secret": self._credential("api_secret")},
            self._credential("api_key"),
        )
        with reading():
            return portfolio.parse_request(data)

    @classmethod
    def parse_session_notice(cls, body: bytes, credentials: Mapping[str, str]) -> SessionToken:
        return portfolio.parse_session_notice(body, credentials)

    def check_session(self) -> None:
        self.fetch_profile()

    def close_session(self) -> None:
        with contextlib.suppress(SessionExpired):  # it was over already
            self._call(Pace.OTHER, "LoginApi", "logout", API_VERSION)

    # orders

    def place_order(self, request: OrderRequest) -> OrderAck:
        body = mapping.build_order(request)
        data = self._send(Pace.ORDER, "OrderApiV3", "place_order", body)
        with reading():
            numbers = record_of(data)["order_ids"]
            if not isinstance(numbers, list) or not all(isinstance(n, str) and n for n in numbers):
                raise ValueError("order_ids are no list of numbers")
            return OrderAck(min(numbers))  # raises for an empty list: no number, no answer

    def modify_order(
        self, broker_order_id: str, change: OrderChange, request: OrderRequest
    ) -> OrderAck:
        if mapping.is_sliced(request):
            raise NotSupported(
                "Upstox has split this order; cancel it and place a new one.",
                broker=self.name,
                code="sliced_order",
            )
        body = mapping.build_change(broker_order_id, change, request)
        data = self._send(Pace.ORDER, "OrderApiV3", "modify_order", body)
        with reading():
            return OrderAck(required(record_of(data), "order_id"))

    def cancel_order(self, broker_order_id: str, request: OrderRequest) -> OrderAck:
        """Ask for a cancel; of an order that the broker has split, for the cancel of all parts."""
        if mapping.is_sliced(request):
            tag = mapping.tag_of(request)
            data = self._send(Pace.CANCEL, "OrderApi", "cancel_multi_order", tag=tag)
            with reading():
                numbers = record_of(data).get("order_ids")
                if not numbers:
                    raise OrderNotFound(
                        "No part of the order can be cancelled any more.",
                        broker=self.name,
                        code="nothing_to_cancel",
                    )
                return OrderAck(broker_order_id)
        data = self._send(Pace.CANCEL, "OrderApiV3", "cancel_order", broker_order_id)
        with reading():
            return OrderAck(required(record_of(data), "order_id"))

    def convert_position(self, conversion: PositionConversion) -> None:
        body = mapping.build_conversion(conversion)
        self._call(Pace.OTHER, "PortfolioApi", "convert_positions", body, API_VERSION)

    # reports

    def find_order(self, request: OrderRequest) -> OrderReport | None:
        tag = mapping.tag_of(request)
        try:
            data = self._call(Pace.OTHER, "OrderApi", "get_order_details", API_VERSION, tag=tag)
        except OrderNotFound as e:
            _prove_absent(e)
            return None
        with reading():
            return mapping.parse_history(data, self.context.now())

    def fetch_order(self, broker_order_id: str, request: OrderRequest) -> OrderReport | None:
        if mapping.is_sliced(request):
            return self.find_order(request)
        try:
            data = self._call(Pace.OTHER, "OrderApi", "get_order_status", order_id=broker_order_id)
        except OrderNotFound as e:
            _prove_absent(e)
            return None
        with reading():
            return mapping.parse_order(record_of(data), self.context.now())

    def fetch_orders(self) -> list[OrderReport]:
        data = self._call(Pace.OTHER, "OrderApi", "get_order_book", API_VERSION)
        with reading():
            return self._read(mapping.parse_book(data, self.context.now()), "orders")

    def fetch_fills(self) -> list[FillReport]:
        """Return the day's trades. They do not say whose tag they carry: where there are any, the
        book is read too.
        """
        trades = self._call(Pace.OTHER, "OrderApi", "get_trade_history", API_VERSION)
        if not trades:
            return []
        book = self._call(Pace.OTHER, "OrderApi", "get_order_book", API_VERSION)
        with reading():
            return self._read(mapping.parse_trades(trades, rows(book)), "trades")

    def fetch_order_fills(self, report: OrderReport) -> list[FillReport]:
        """Return the trades of one order in one request; of a split one, from the day's."""
        if not report.filled_quantity:
            return []
        if "slices" in report.raw:
            return super().fetch_order_fills(report)
        number = report.broker_order_id
        data = self._call(Pace.OTHER, "OrderApi", "get_trades_by_order", number, API_VERSION)
        with reading():
            order = {"order_id": number, "tag": report.client_order_id}
            return self._read(mapping.parse_trades(data, [order]), "trades")

    def fetch_positions(self) -> list[PositionReport]:
        """Return the day's positions and, which is another call, those of MTF."""
        day = self._call(Pace.OTHER, "PortfolioApi", "get_positions", API_VERSION)
        mtf = self._call(Pace.OTHER, "PortfolioApi", "get_mtf_positions")
        with reading():
            found = self._read(portfolio.parse_positions(day), "positions")
            listed = {(p.exchange, p.symbol) for p in found if p.product is Product.MTF}
            more = self._read(portfolio.parse_positions(mtf), "MTF positions")
            return found + [p for p in more if (p.exchange, p.symbol) not in listed]

    def fetch_holdings(self) -> list[HoldingReport]:
        data = self._call(Pace.OTHER, "PortfolioApi", "get_holdings", API_VERSION)
        with reading():
            return self._read(portfolio.parse_holdings(data), "holdings")

    def fetch_funds(self) -> Funds:
        """Return the funds. From midnight to 05:30 in India the broker does not tell them:
        `Refused`.
        """
        data = self._call(Pace.OTHER, "UserApi", "get_user_fund_margin_v3")
        with reading():
            return portfolio.parse_funds(data)

    def fetch_profile(self) -> Profile:
        data = self._call(Pace.OTHER, "UserApi", "get_profile", API_VERSION)
        with reading():
            return portfolio.parse_profile(data)

    # market data

    def fetch_quotes(self, instruments: Sequence[InstrumentRef], depth: QuoteDepth) -> list[Quote]:
        wanted = {mapping.instrument_key(instrument): instrument for instrument in instruments}
        method, *arguments = {
            QuoteDepth.LTP: ("get_ltp",),
            QuoteDepth.OHLC: ("get_market_quote_ohlc", "1d"),
            QuoteDepth.FULL: ("get_full_market_quote_v3",),
        }[depth]
        keys, found = list(wanted), []
        for start in range(0, len(keys), MOST_QUOTES):
            part = ",".join(keys[start : start + MOST_QUOTES])
            data = self._call(
                Pace.QUOTE, "MarketQuoteV3Api", method, *arguments, instrument_key=part
            )
            with reading():
                found += market.parse_quotes(data, wanted, depth, self.context.now())
        return found

    def fetch_candles(
        self,
        instrument: InstrumentRef,
        interval: CandleInterval,
        start: datetime,
        end: datetime,
    ) -> list[Candle]:
        """Return candles. The history ends yesterday; the running day is another call."""
        step = market.STEPS[interval]
        key = mapping.instrument_key(instrument)
        if start >= end:
            return []
        first = start.astimezone(IST).date()
        last = (end - timedelta(microseconds=1)).astimezone(IST).date()
        today = self.context.now().astimezone(IST).date()
        known = min(last, today - timedelta(days=1) if step.today else today)
        found: list[Candle] = []
        for day, to in market.history_spans(step, first, known):
            data = self._anonymous().call(
                Pace.HISTORY,
                "HistoryV3Api",
                "get_historical_candle_data1",
                key,
                step.unit,
                step.count,
                to.isoformat(),
                day.isoformat(),
            )
            with reading():
                found += market.parse_candles(data)
        if step.today and first <= today <= last:
            data = self._anonymous().call(
                Pace.HISTORY,
                "HistoryV3Api",
                "get_intra_day_candle_data",
                key,
                step.unit,
                step.count,
            )
            with reading():
                found += market.parse_candles(data)
        return market.joined(found, start, end)

    def fetch_instruments(self) -> Iterator[InstrumentRecord]:
        """Yield the list of all exchanges, without the few rows that cannot be read. A list that is
        cut off, or unreadable in large part, raises at its end.
        """
        packed = self._anonymous().download(INSTRUMENTS)
        seen = unread = 0
        with reading():
            for row in market.rows_of_list(_unpacked(packed)):
                seen += 1
                found, failed = each([row], market.parse_instrument)
                unread += failed
                if found and found[0] is not None:
                    yield found[0]
            self._read(([], unread), "instruments")
            if unread * 20 > seen:
                raise ValueError("the list has changed its form")

    def estimate_margin(self, requests: Sequence[OrderRequest]) -> Margin:
        """Return what the orders would block together, and their charges.

        The charges of an order without a price are counted at the latest price that is known here;
        where none is, they are None.
        """
        if len(requests) > MOST_MARGINS:
            raise NotSupported(
                f"Upstox estimates at most {MOST_MARGINS} orders together.",
                broker=self.name,
                code="too_many_orders",
            )
        body = mapping.build_margin(requests)
        data = self._call(Pace.OTHER, "ChargeApi", "post_margin", body)
        with reading():
            required_margin = portfolio.parse_margin(data)
        charges = Decimal(0)
        for request in requests:
            if (level := self._price_of(request)) is None:
                return Margin(required_margin)
            data = self._call(
                Pace.OTHER,
                "ChargeApi",
                "get_brokerage",
                mapping.instrument_key(request.instrument),
                request.quantity,
                mapping.product_word(request.product, request.instrument),
                request.side.value,
                level,
                API_VERSION,
            )
            with reading():
                charges += portfolio.parse_charges(data)
        return Margin(required_margin, charges)

    def open_stream(self) -> BrokerStream:
        return UpstoxStream(
            self._authorize_feed,
            self._authorize_updates,
            self.context.now,
            plain=self.context.endpoints.get("stream", "").startswith("ws://"),
        )

    # postbacks

    @classmethod
    def parse_postback(cls, body: bytes) -> list[OrderHint]:
        return mapping.parse_postback(body)

    # the wire

    def _authorize_feed(self) -> str:
        data = self._call(Pace.OTHER, "WebsocketApi", "get_market_data_feed_authorize_v3")
        return _socket_address(data)

    def _authorize_updates(self) -> str:
        data = self._call(
            Pace.OTHER,
            "WebsocketApi",
            "get_portfolio_stream_feed_authorize",
            API_VERSION,
            order_update=True,
        )
        return _socket_address(data)

    def _call(self, pace: Pace, api: str, method: str, *args: Any, **options: Any) -> Any:
        """Call with the user's token, once."""
        if self._client is None:
            token = self.token.secrets.get("access_token", "") if self.token else ""
            if not token:
                raise SessionExpired(
                    "No Upstox session is open.", broker=self.name, code="no_session"
                )
            self._client = UpstoxClient(self.context.endpoints, self.context.pace, token)
        return self._client.call(pace, api, method, *args, **options)

    def _send(self, pace: Pace, api: str, method: str, *args: Any, **options: Any) -> Any:
        """Call an order method once. Order calls have answered "invalid token" while the token was
        good: such an answer ends the session only if a read says so too.
        """
        try:
            return self._call(pace, api, method, *args, **options)
        except SessionExpired as e:
            if e.code != "UDAPI100050":
                raise
            try:
                self.check_session()
            except SessionExpired:
                raise e from None
            except BrokerError:  # not proven: the order is refused, the session is left alone
                pass
            raise PermissionDenied(e.message, broker=self.name, code=e.code) from None

    def _credential(self, name: str) -> str:
        if not (value := self.credentials.get(name, "")):
            raise Refused(
                "Enter the API key and the API secret of your Upstox app first.",
                broker=self.name,
                code="credentials_missing",
            )
        return value

    def _anonymous(self) -> UpstoxClient:
        """Return a client for calls that take no token."""
        return UpstoxClient(self.context.endpoints, self.context.pace)

    def _read(self, read: tuple[list[T], int], what: str) -> list[T]:
        """Return what could be read; the rest is told in the log, without what it says."""
        found, unread = read
        if unread:
            logger.warning("upstox: %d of the %s could not be read", unread, what)
        return found

    def _price_of(self, request: OrderRequest) -> Decimal | None:
        if request.price is not None or request.trigger_price is not None:
            return request.price or request.trigger_price
        quote = self.context.quote(request.instrument)
        return quote.last_price if quote else None


def _socket_address(data: Any) -> str:
    with reading():
        row = record_of(data)
        return str(row.get("authorized_redirect_uri") or row["authorizedRedirectUri"])


def _unpacked(packed: bytes) -> Iterator[bytes]:
    """Yield the plain bytes of a file that may or may not be packed."""
    if not packed.startswith(b"\x1f\x8b"):
        yield packed
        return
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(packed)) as file:
            while piece := file.read(262_144):
                yield piece
    except (EOFError, zlib.error, OSError) as e:
        raise OutcomeUnknown(
            "Upstox's instrument list is cut off.", broker="upstox", code="unreadable"
        ) from e


def _prove_absent(error: OrderNotFound) -> None:
    """Go on only where the broker says that it has no such order. Other codes complain of the
    question, which proves nothing of the order.

    Raises:
        OutcomeUnknown: another code.
    """
    if error.code != "UDAPI100010":
        raise OutcomeUnknown(error.message, broker=error.broker, code=error.code) from error
