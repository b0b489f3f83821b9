"""The latest quote of an instrument, and whether its market is open: what orders are checked and
filled against.

With a computed source (simulated prices) a quote is calculated here, in any process. With any other
source one feed process reads it and the rest take it from Redis.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta

from django.conf import settings

from brokerages.registry import is_venue
from brokerages.types import Candle, InstrumentRef, Quote
from marketdata import selectors
from marketdata.calendar import IST, Phase, trading_date
from marketdata.errors import NoPrices
from marketdata.latest import LatestQuotes, broker_key
from marketdata.sources.base import INTERVALS, DataSource, Listing
from marketdata.sources.clock import AlwaysOpen, ExchangeHours
from marketdata.sources.simulated import SimulatedSource

# A quote older than this does not back an order: the feed or its source has stopped.
STALE_SECONDS = 5.0
# How far back candles are computed in one go: within a day, and by days.
LONGEST_COMPUTED = (timedelta(days=31), timedelta(days=367))

_shared = LatestQuotes()
_of_brokers: dict[str, LatestQuotes] = {}
_source: DataSource | None = None
_source_of: tuple[object, ...] = ()


def source_current() -> DataSource | None:
    """Return the computed source of the settings; None when quotes come from the feed."""
    global _source, _source_of
    if settings.DATA_SOURCE != "simulated":
        return None
    hours = settings.SIMULATED_SESSION
    calendar = selectors.calendar_current() if hours == "exchange" else None
    made_of = (settings.SIMULATED_SEED, hours, calendar)
    if _source is None or _source_of != made_of:
        clock = AlwaysOpen() if calendar is None else ExchangeHours(calendar)
        _source, _source_of = SimulatedSource(settings.SIMULATED_SEED, clock), made_of
    return _source


def quote_latest(ref: InstrumentRef, at: datetime | None = None) -> Quote | None:
    """Return the quote that an order may be checked and filled against now (``at`` only with a
    computed source).

    None when there is none, or when the newest is more than five seconds old although its source
    should be sending.
    """
    source = source_current()
    now = at or datetime.now(UTC)
    if source is not None:
        return source.quote(selectors.listing_by_id(ref.id), now)
    quote = _shared.read([ref.id]).get(ref.id)
    return None if quote is None or is_stale(quote, now) else quote


def quotes_latest(refs: Iterable[InstrumentRef]) -> list[Quote]:
    """Return the newest known quotes of those that have one, however old; `is_stale` tells. For
    display.
    """
    source = source_current()
    wanted = list(refs)
    if source is None:
        return list(_shared.read(ref.id for ref in wanted).values())
    now = datetime.now(UTC)
    return source.quotes((selectors.listing_by_id(ref.id) for ref in wanted), now)


def broker_latest(broker: str) -> LatestQuotes:
    """Return the quotes that a broker gave lately, to whomever: from its stream or when asked."""
    return _of_brokers.setdefault(broker, LatestQuotes(broker_key(broker)))


def quote_for_order(broker: str, ref: InstrumentRef) -> Quote | None:
    """Return the quote that an order at ``broker`` is checked against.

    A real broker's own, if a fresh one is at hand: its orders are never measured by simulated
    prices. None means that no price rule applies here; the broker has its own.
    """
    if is_venue(broker):
        return quote_latest(ref)
    quote = broker_latest(broker).read([ref.id]).get(ref.id)
    return None if quote is None or is_stale(quote, datetime.now(UTC)) else quote


def quote_at_hand(broker: str, ref: InstrumentRef) -> Quote | None:
    """Return the latest known price of what is held at ``broker``, for display: nothing is asked
    for.
    """
    if is_venue(broker):
        return quote_latest(ref)
    return broker_latest(broker).read([ref.id]).get(ref.id)


def takes_orders(broker: str, ref: InstrumentRef, at: datetime) -> bool:
    """Whether orders for the running session are taken at ``at``: where the market runs inside the
    platform while it matches, at real brokers also in the phases around it.
    """
    if is_venue(broker) or settings.SIMULATED_SESSION == "always":
        return market_open(ref, at)
    listing = selectors.listing_by_id(ref.id)
    return selectors.calendar_current().phase_at(listing.group, at) is not Phase.CLOSED


def candles_latest(ref: InstrumentRef, interval: str, limit: int) -> list[Candle]:
    """Return the last ``limit`` candles, oldest first, the newest as far as it has come.

    Empty with a source that is not computed here.
    """
    source = source_current()
    found: list[Candle] = []
    if source is None:
        return found
    listing, now = selectors.listing_by_id(ref.id), datetime.now(UTC)
    span = timedelta(seconds=INTERVALS[interval] * limit)
    # Nights, weekends and holidays have no candles: reach back further until there are enough.
    for times in (1, 2) if interval == "1d" else (1, 8, 64):
        found = source.candles(listing, interval, now - span * times, now)
        if len(found) >= limit:
            break
    return found[-limit:]


def candles_between(
    ref: InstrumentRef, interval: str, start: datetime, end: datetime
) -> list[Candle]:
    """Return the candles of the platform's own source that start in [start, end), oldest first.

    Raises:
        NoPrices: the source keeps no candles, or none of this interval.
    """
    source = source_current()
    if source is None:
        raise NoPrices("The platform's source of prices keeps no candles.", code="no_candles")
    if interval not in INTERVALS:
        raise NoPrices(
            f"The platform's own prices have candles of {', '.join(INTERVALS)}.",
            code="interval_not_supported",
        )
    if end - start > LONGEST_COMPUTED[interval == "1d"]:
        raise NoPrices(
            "The platform's own prices go back a month, by days a year.", code="span_too_long"
        )
    return source.candles(selectors.listing_by_id(ref.id), interval, start, end)


def is_stale(quote: Quote, now: datetime) -> bool:
    """Whether a quote of the feed is too old to trade on. Computed quotes never are: they stand
    until the next.
    """
    return quote.source != SimulatedSource.name and (now - quote.at).total_seconds() > STALE_SECONDS


def market_open(ref: InstrumentRef, at: datetime) -> bool:
    """Whether orders in the instrument match continuously at ``at``. Expired contracts and unknown
    days: no.
    """
    return _is_open(selectors.listing_by_id(ref.id), at)


def _is_open(listing: Listing, at: datetime) -> bool:
    expiry = listing.ref.expiry
    if not listing.is_active or (expiry is not None and expiry < trading_date(at)):
        return False
    if settings.SIMULATED_SESSION == "always":
        return True
    return selectors.calendar_current().is_open(listing.group, at)


def session_end(ref: InstrumentRef, at: datetime) -> datetime:
    """Return when a DAY order placed at ``at`` ends: the end of the session that is on or comes
    next, after ``at``.

    Where no session is known ahead, and with sessions round the clock, that is midnight in India.
    """
    if settings.SIMULATED_SESSION != "always":
        listing = selectors.listing_by_id(ref.id)
        bounds = selectors.calendar_current().next_session(listing.group, at)
        if bounds is not None:
            return bounds[1]
    midnight = datetime.combine(trading_date(at) + timedelta(days=1), time(), IST)
    return midnight.astimezone(UTC)


def trading_day(at: datetime) -> date:
    """Return the trading day that ``at`` belongs to: the date in India."""
    return trading_date(at)


class Sessions:
    """The hours of the exchanges, as the paper broker asks for them."""

    @staticmethod
    def is_open(instrument: InstrumentRef, at: datetime) -> bool:
        return market_open(instrument, at)

    @staticmethod
    def day_end(instrument: InstrumentRef, at: datetime) -> datetime:
        return session_end(instrument, at)
