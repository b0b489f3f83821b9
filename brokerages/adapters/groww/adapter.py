"""Groww through its SDK.

Not offered, because Groww's documents do not say that the API takes it: MTF, IOC, MCX, after-market
and iceberg orders, disclosed quantities, conversion of positions. There are no postbacks.

Sources: https://groww.in/trade-api/docs/python-sdk; rate limits: its introduction.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from brokerages.adapters.groww import answers, mapping, market, minting, portfolio, positions
from brokerages.adapters.groww.answers import BROKER, DUPLICATE_REFERENCE, MISSING, NOT_AUTHORISED
from brokerages.base import (
    BrokerAdapter,
    BrokerStream,
    Capabilities,
    Pace,
    PaceRule,
    SessionRenewal,
)
from brokerages.errors import (
    BrokerError,
    OrderNotFound,
    OutcomeUnknown,
    PermissionDenied,
    Refused,
    SessionExpired,
)
from brokerages.types import (
    Candle,
    CandleInterval,
    FillReport,
    Funds,
    HoldingReport,
    InstrumentRecord,
    InstrumentRef,
    Margin,
    OrderAck,
    OrderChange,
    OrderReport,
    OrderRequest,
    OrderType,
    PositionReport,
    Profile,
    Quote,
    QuoteDepth,
    ReportedStatus,
    SessionToken,
)

if TYPE_CHECKING:
    from brokerages.adapters.groww.client import Client

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

UNREADABLE = (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError)
UNKNOWN_INSTRUMENT = frozenset({"GA001", "GA004"})  # of a request that names nothing else
MOST_PAGES = 400  # a book longer than this is a loop
TRADES_SETTLE = timedelta(minutes=30)  # trades that are missing so long after the close stay away

_ORDERS = frozenset({Pace.ORDER, Pace.CANCEL})
_LIVE = frozenset({Pace.QUOTE, Pace.HISTORY})  # history is in no published group: the tighter one
_OTHER = frozenset({Pace.OTHER})


class GrowwAdapter(BrokerAdapter):
    """One user's account at Groww."""

    name = BROKER
    label = "Groww"
    capabilities = Capabilities(
        order_types=frozenset(mapping.ORDER_TYPES),
        products=frozenset(mapping.PRODUCTS),
        validities=frozenset(mapping.VALIDITIES),
        exchanges=frozenset(mapping.VENUES),
        session_renewal=SessionRenewal.UNATTENDED,
        client_order_id_max_length=20,
        find_by_client_order_id=True,
        pushes_order_updates=True,
        streams_ticks=True,
        max_stream_instruments=1000,
        quotes=frozenset(QuoteDepth),
        candle_intervals=frozenset(market.INTERVALS),
        lists_instruments=True,
        estimates_margin=True,
        pace=(
            PaceRule(_ORDERS, 10, 1, reserve=2),
            PaceRule(_ORDERS, 250, 60, reserve=10),
            PaceRule(_LIVE, 10, 1),
            PaceRule(_LIVE, 300, 60),
            PaceRule(_OTHER, 20, 1),
            PaceRule(_OTHER, 500, 60),
        ),
    )
    credential_fields = minting.FIELDS
    api_hosts = frozenset({"api.groww.in"})

    # session

    def open_session(self, grant: str | None) -> SessionToken:
        """Open a session with the TOTP token or, without one, with the approved API key. ``grant``
        is not used: Groww redirects nobody.

        Raises:
            Refused: incomplete credentials, or Groww does not take them.
        """
        key, request = minting.request_of(self.credentials, self.context.now())
        client = self._make_client("")
        self.context.pace(Pace.OTHER)
        try:
            answer = client.mint(key, request)
        finally:
            client.close()
        if refusal := answers.mint_refusal(answer.status, answer.content):
            raise minting.explained(refusal, request)
        body = answers.payload_of(answer.status, answer.content, answer.headers, enveloped=False)
        token = _read(mapping.parse_session, body, self.context.now())
        return replace(token, broker_user_id=self._user_of(token))

    def renew_session(self, token: SessionToken) -> SessionToken:
        """Open the next session. With an API key that nobody has approved yet today this is
        refused: only the TOTP token renews without the user.
        """
        opened = self.open_session(None)
        return replace(opened, broker_user_id=opened.broker_user_id or token.broker_user_id)

    def check_session(self) -> None:
        """Ask for the account's own details. Whoever Groww itself says may not see those has no
        session any more, under whatever HTTP status. A bare 403 can come from in front of Groww and
        ends no session.

        Raises:
            OutcomeUnknown: neither is certain.
        """
        try:
            self._get(self._client.get_user_profile)
        except PermissionDenied as e:
            kind = SessionExpired if e.code == NOT_AUTHORISED else OutcomeUnknown
            raise kind(e.message, broker=BROKER, code=e.code) from e

    def close_session(self) -> None:
        """Nothing to do: Groww has no logout. The token dies at 06:00."""

    # orders

    def place_order(self, request: OrderRequest) -> OrderAck:
        """Send the order once.

        "Duplicate reference" proves that Groww has an order with our tag, which nobody but us has
        ever used: it is looked up instead of refused.
        """
        terms, client = mapping.build_order(request), self._client
        self.context.pace(Pace.ORDER)
        try:
            payload = client.place_order(**terms)
        except OutcomeUnknown as e:
            if e.code == DUPLICATE_REFERENCE and (found := self._found(request)) is not None:
                return OrderAck(found.broker_order_id)
            raise
        return OrderAck(_read(mapping.parse_ack, payload), _read(self._end_of, payload))

    def modify_order(
        self, broker_order_id: str, change: OrderChange, request: OrderRequest
    ) -> OrderAck:
        terms, client = mapping.build_change(broker_order_id, change, request), self._client
        self.context.pace(Pace.ORDER)
        payload = client.modify_order(**terms)
        return OrderAck(_read(mapping.parse_ack, payload))

    def cancel_order(self, broker_order_id: str, request: OrderRequest) -> OrderAck | None:
        """Ask for a cancel. The answer's status may still be OPEN, so the end comes by report."""
        number, segment = mapping.order_id(broker_order_id), mapping.segment_of(request.instrument)
        client = self._client
        self.context.pace(Pace.CANCEL)
        payload = client.cancel_order(groww_order_id=number, segment=segment)
        return OrderAck(_read(mapping.parse_ack, payload))

    # reports

    def find_order(self, request: OrderRequest) -> OrderReport | None:
        """Look the reference up, then the order itself: the first answer has neither terms nor
        prices.
        """
        tag = mapping.reference(request.client_order_id)
        segment = mapping.segment_of(request.instrument)
        asked_at = self.context.now()
        try:
            row = self._get(self._client.get_order_status_by_reference, segment, tag)
        except OrderNotFound:
            return None
        short = _read(mapping.parse_status, row, asked_at)
        report = self._detail(short.broker_order_id, segment) or replace(
            short, raw={**short.raw, "segment": segment}
        )
        return replace(report, client_order_id=request.client_order_id)

    def fetch_order(self, broker_order_id: str, request: OrderRequest) -> OrderReport | None:
        try:
            number = mapping.order_id(broker_order_id)
        except OrderNotFound:
            return None
        return self._detail(number, mapping.segment_of(request.instrument))

    def fetch_orders(self) -> list[OrderReport]:
        """Return the day's orders of all segments, oldest first. A segment is left out only where
        Groww does not show it and the account does not have it.
        """
        reports: dict[str, OrderReport] = {}
        for segment in mapping.SEGMENTS:
            asked_at = self.context.now()
            try:
                rows = self._order_rows(segment)
            except PermissionDenied:
                if segment == "CASH" or self._has_derivatives:
                    raise
                logger.info("groww does not show orders of %s: not active", segment)
                continue
            for row in rows:
                report = _read(mapping.parse_order, row, asked_at)
                reports[report.broker_order_id] = report
        return sorted(reports.values(), key=lambda report: str(report.raw.get("created_at")))

    def fetch_fills(self) -> list[FillReport]:
        """Return the day's fills, oldest first. Groww has no trade book: each order that has filled
        is asked for its trades.
        """
        fills = [
            fill
            for report in self.fetch_orders()
            if report.filled_quantity
            for fill in self.fetch_order_fills(report)
        ]
        return sorted(fills, key=lambda fill: fill.filled_at)

    def fetch_order_fills(self, report: OrderReport) -> list[FillReport]:
        """Return the trades of one order: a request of its own at Groww."""
        return self._fills_of(report) if report.filled_quantity else []

    def fetch_positions(self) -> list[PositionReport]:
        """Return positions of all segments, with last prices. The answer is held against the market
        first: see `positions`.
        """
        payload = self._get(self._client.get_positions_for_user)
        rows = _read(_rows, payload, "positions")
        last, ranges = self._market_of(rows)
        return _read(_positions, rows, last, ranges)

    def fetch_holdings(self) -> list[HoldingReport]:
        payload = self._get(self._client.get_holdings_for_user)
        return [_read(portfolio.parse_holding, row) for row in _read(_rows, payload, "holdings")]

    def fetch_funds(self) -> Funds:
        payload = self._get(self._client.get_available_margin_details)
        return _read(portfolio.parse_funds, payload)

    def fetch_profile(self) -> Profile:
        payload = self._get(self._client.get_user_profile)
        return _read(portfolio.parse_profile, payload)

    # market data

    def fetch_quotes(self, instruments: Sequence[InstrumentRef], depth: QuoteDepth) -> list[Quote]:
        """Return quotes; instruments that Groww does not quote are left out. FULL is one request an
        instrument, the others are one (OHLC: two) for fifty of a segment.
        """
        if depth is QuoteDepth.FULL:
            found = [self._full_quote(instrument) for instrument in instruments]
            return [quote for quote in found if quote is not None]
        quotes = []
        for segment, members in market.by_segment(instruments).items():
            keys = [market.quote_key(instrument) for instrument in members]
            last = self._by_key(keys, segment, "get_ltp")
            bars = self._by_key(keys, segment, "get_ohlc") if depth is QuoteDepth.OHLC else {}
            now = self.context.now()
            for key, instrument in zip(keys, members, strict=True):
                quote = _read(market.ltp_quote, instrument, last.get(key), bars.get(key), now)
                quotes += [quote] if quote is not None else []
        return quotes

    def fetch_candles(
        self,
        instrument: InstrumentRef,
        interval: CandleInterval,
        start: datetime,
        end: datetime,
    ) -> list[Candle]:
        exchange, segment = mapping.venue_of(instrument)
        name, word = market.groww_symbol(instrument), market.INTERVALS[interval][0]
        candles: list[Candle] = []
        for first, stop in market.spans(interval, start, end):
            payload = self._get(
                self._client.get_historical_candles,
                exchange=exchange,
                segment=segment,
                groww_symbol=name,
                start_time=market.candle_time(first),
                end_time=market.candle_time(stop),
                candle_interval=word,
                kind=Pace.HISTORY,
            )
            candles += _read(market.parse_candles, payload)
        return market.within(candles, start, end)

    def fetch_instruments(self) -> Iterator[InstrumentRecord]:
        """Yield the public instrument file as it arrives; it needs no session."""
        from brokerages.adapters.groww.client import download_rows

        rows = download_rows(
            self.context.endpoints.get("assets", ""), lambda: self.context.pace(Pace.OTHER)
        )
        return market.parse_instruments(rows)

    def estimate_margin(self, requests: Sequence[OrderRequest]) -> Margin:
        """Return what the orders would block: derivatives as one basket, shares one by one, as
        Groww does. An order without a price is counted at the last price.
        """
        required, charges = Decimal(0), Decimal(0)
        for segment, orders in self._baskets(requests):
            rows = [mapping.build_margin(order, self._price_of(order)) for order in orders]
            payload = self._get(self._client.get_order_margin_details, segment, rows)
            margin = _read(portfolio.parse_margin, payload)
            required += margin.required
            charges += margin.charges or 0
        return Margin(required=required, charges=charges)

    def open_stream(self) -> BrokerStream:
        from brokerages.adapters.groww.stream import GrowwStream

        return GrowwStream(self.context, self._access_token)

    # --- Requests ---------------------------------------------------------------------------------

    @cached_property
    def _client(self) -> Client:
        return self._make_client(self._access_token)

    @property
    def _access_token(self) -> str:
        token = self.token.secrets.get("access_token", "") if self.token else ""
        if not token:
            raise SessionExpired("No Groww session is open.", broker=BROKER, code="no_session")
        return token

    def _make_client(self, token: str) -> Client:
        from brokerages.adapters.groww.client import Client

        return Client(token, api=self.context.endpoints.get("api", ""))

    def _get(
        self, call: Callable[..., dict[str, Any]], *args: Any, kind: Pace = Pace.OTHER, **named: Any
    ) -> dict[str, Any]:
        """Make a request that changes nothing, once the pace permits it."""
        self.context.pace(kind)
        return call(*args, **named)

    # --- Sessions ---------------------------------------------------------------------------------

    def _user_of(self, token: SessionToken) -> str:
        """Return whose token it is; empty where Groww did not say, which is no reason to lose it.

        Raises:
            SessionExpired: Groww does not take its own new token.
        """
        opened = type(self)(self.context, self.credentials, token)
        try:
            return opened.fetch_profile().broker_user_id
        except SessionExpired:
            raise
        except BrokerError as e:
            logger.warning("groww opened a session and did not tell whose: %s", e.code)
            return ""

    # --- Orders -----------------------------------------------------------------------------------

    def _end_of(self, payload: Mapping[str, Any]) -> OrderReport | None:
        """Return the report of an order that was taken and refused in the same answer."""
        row = {"filled_quantity": 0, **payload}
        report = mapping.parse_status(row, self.context.now())
        return report if report.status is ReportedStatus.REJECTED else None

    def _found(self, request: OrderRequest) -> OrderReport | None:
        try:
            return self.find_order(request)
        except BrokerError as e:
            logger.warning("the order of a duplicate reference was not found: %s", e.code)
            return None

    @cached_property
    def _has_derivatives(self) -> bool:
        """Whether the account has derivatives, or may have them for all that Groww says."""
        segments = self._get(self._client.get_user_profile).get("active_segments")
        if not isinstance(segments, list) or "CASH" not in segments:
            return True
        return "FNO" in segments

    def _detail(self, number: str, segment: str) -> OrderReport | None:
        asked_at = self.context.now()
        try:
            row = self._get(self._client.get_order_detail, segment, number)
        except OrderNotFound:
            return None
        return _read(mapping.parse_order, row, asked_at)

    def _order_rows(self, segment: str) -> list[dict[str, Any]]:
        return self._pages(
            "order_list",
            mapping.ORDER_PAGE,
            lambda page: self._client.order_page(segment, page, mapping.ORDER_PAGE),
        )

    def _fills_of(self, report: OrderReport) -> list[FillReport]:
        segment = str(report.raw.get("segment"))
        try:
            rows = self._pages(
                "trade_list",
                mapping.TRADE_PAGE,
                lambda page: self._client.get_trade_list_for_order(
                    report.broker_order_id, segment, page=page, page_size=mapping.TRADE_PAGE
                ),
            )
        except BrokerError as e:
            # Derivatives have been seen without trades. Until the close they may still come, under
            # numbers of their own: counted beside the order's figures they would count twice.
            if e.code not in MISSING or segment != "FNO":
                raise
            if self.context.now() < _read(mapping.day_end_of, report) + TRADES_SETTLE:
                return []
            fill = _read(mapping.fill_of_total, report)
            return [] if fill is None else [fill]
        return _read(mapping.parse_fills, rows, report, self.context.now())

    def _pages(
        self, name: str, size: int, fetch: Callable[[int], dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """Return the rows of all pages. A page that is not full is the last one."""
        rows: list[dict[str, Any]] = []
        for page in range(MOST_PAGES):
            part = _read(_rows, self._get(fetch, page), name)
            rows += part
            if len(part) < size:
                return rows
        raise answers.unreadable(f"a {name} without an end")

    # --- Market -----------------------------------------------------------------------------------

    def _full_quote(self, instrument: InstrumentRef) -> Quote | None:
        exchange, segment = mapping.venue_of(instrument)
        symbol = mapping.symbol_of(instrument)
        ask = self._client.get_quote
        try:
            payload = self._get(ask, symbol, exchange, segment, kind=Pace.QUOTE)
        except Refused as e:
            if e.code not in UNKNOWN_INSTRUMENT:
                raise
            return None
        return _read(market.full_quote, instrument, payload, self.context.now())

    def _by_key(self, keys: Sequence[str], segment: str, method: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for part in market.chunks(keys, market.KEYS_A_CALL):
            found |= self._get(getattr(self._client, method), tuple(part), segment, kind=Pace.QUOTE)
        return found

    def _market_of(
        self, rows: Sequence[Mapping[str, Any]]
    ) -> tuple[dict[str, Decimal], dict[str, tuple[Decimal, Decimal]]]:
        """Return last prices and today's ranges of positions; nothing where they cannot be read."""
        last: dict[str, Decimal] = {}
        ranges: dict[str, tuple[Decimal, Decimal]] = {}
        for segment in {str(row.get("segment")) for row in rows}:
            try:
                keys = {positions.key_of(row) for row in rows if row.get("segment") == segment}
                prices = self._by_key(sorted(keys), segment, "get_ltp")
                bars = self._by_key(sorted(keys), segment, "get_ohlc")
                found = positions.market_of(keys, prices, bars)
            except SessionExpired:
                raise
            except (BrokerError, *UNREADABLE) as e:
                logger.warning("positions of groww are not held against the market: %s", type(e))
                continue
            last |= found[0]
            ranges |= found[1]
        return last, ranges

    def _price_of(self, request: OrderRequest) -> Decimal:
        price = request.price if request.order_type.has_price else request.trigger_price
        if price is not None and request.order_type is not OrderType.MARKET:
            return price
        if (quote := self.context.quote(request.instrument)) is not None:
            return quote.last_price
        for found in self.fetch_quotes([request.instrument], QuoteDepth.LTP):
            return found.last_price
        raise Refused("Groww has no price of it.", broker=BROKER, code="no_market_data")

    def _baskets(
        self, requests: Sequence[OrderRequest]
    ) -> Iterator[tuple[str, Sequence[OrderRequest]]]:
        contracts = []
        for request in requests:
            segment = mapping.segment_of(request.instrument)
            if segment == "CASH":
                yield segment, [request]
            else:
                contracts.append(request)
        if contracts:
            yield "FNO", contracts


def _rows(payload: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Return the rows of a list. Null is an empty list.

    Raises:
        KeyError: the answer has no such list: that is not the same as an empty one.
        TypeError: it is none.
    """
    rows = payload[name]
    if rows is None:
        return []
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise TypeError(f"{name} is no list of rows")
    return rows


def _positions(
    rows: Sequence[Mapping[str, Any]],
    last: Mapping[str, Decimal],
    ranges: Mapping[str, tuple[Decimal, Decimal]],
) -> list[PositionReport]:
    paise = positions.in_paise(rows, ranges, last)
    if paise:
        logger.warning("groww states positions in paise")
    found = (
        portfolio.parse_position(row, last.get(positions.key_of(row)), paise=paise) for row in rows
    )
    return [report for report in found if report is not None]


def _read(read: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
    """Return what ``read`` makes of an answer.

    Raises:
        OutcomeUnknown: the answer does not have what it should: it proves nothing.
    """
    try:
        return read(*args, **named)
    except UNREADABLE as e:
        raise answers.unreadable(f"{type(e).__name__} {str(e)[:80]}") from e
