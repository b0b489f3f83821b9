"""Quotes and candles through a user's own broker session, and who a user's prices come from."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.conf import settings

from brokerages.base import BrokerAdapter
from brokerages.errors import (
    BrokerError,
    NotSupported,
    PermissionDenied,
    Refused,
    SessionExpired,
    StaticIpRefused,
)
from brokerages.models import BrokerConnection
from brokerages.problems import NoConnection
from brokerages.registry import is_venue
from brokerages.selectors import ConnectionBrief, connection_for_prices
from brokerages.services import adapter_for
from brokerages.types import Candle, CandleInterval, InstrumentRef, Quote, QuoteDepth
from marketdata.broker_refs import ref_at_broker, refs_at_broker, why_not_at_broker
from marketdata.quotes import broker_latest, candles_latest, quotes_latest, source_current
from marketdata.sources.base import INTERVALS

logger = logging.getLogger(__name__)

REMEMBER_SECONDS = 5.0
SHOWN_SECONDS = 3.0
QUIET_SECONDS = 10.0
MOST_REMEMBERED = 50_000
EXTRA_REQUESTS = 8  # spent on finding what a refused batch was refused for

_DEPTHS = (QuoteDepth.LTP, QuoteDepth.OHLC, QuoteDepth.FULL)
# These are about the session, not about one of the instruments.
_OF_SESSION = (SessionExpired, PermissionDenied, StaticIpRefused)

# By connection and instrument: it was asked for so lately that a page need not ask again.
_shown_until: dict[tuple[UUID, int], float] = {}
_quiet_until: dict[UUID, float] = {}  # by connection: it did not answer
_by_platform: dict[tuple[UUID, str | None], float] = {}


@dataclass(slots=True)
class Answers:
    """Quotes by instrument id, and for each instrument without one the reason: (code, sentence)."""

    quotes: dict[int, Quote] = field(default_factory=dict)
    errors: dict[int, tuple[str, str]] = field(default_factory=dict)


def forget(**_: object) -> None:
    """Forget who takes the platform's prices; called when a connection or a session changes."""
    _by_platform.clear()
    _shown_until.clear()
    _quiet_until.clear()


def prices_from(user_id: UUID, broker: str | None = None) -> ConnectionBrief | None:
    """Return the connection whose broker the user's prices come from: their default one, or theirs
    at ``broker``. None where the platform's own source is asked: paper, no connection at all, or a
    connection whose ``data_source`` says so.

    That it is the platform's own is remembered for a few seconds, since quotes are asked for often.

    Raises:
        NoConnection: ``broker`` was named, and the user has no connection there.
    """
    if broker is not None and is_venue(broker):
        return None
    asked, now = (user_id, broker), time.monotonic()
    if _by_platform.get(asked, 0.0) > now:
        return None
    try:
        connection, source = connection_for_prices(user_id=user_id, broker=broker)
    except NoConnection:
        if broker is not None:
            raise
    else:
        if source == BrokerConnection.DataSource.BROKER and not is_venue(connection.broker):
            return connection
    if len(_by_platform) >= MOST_REMEMBERED:
        _by_platform.clear()
    _by_platform[asked] = now + REMEMBER_SECONDS
    return None


def quotes_fetch(
    connection: ConnectionBrief, instrument_ids: Iterable[int], depth: QuoteDepth
) -> Answers:
    """Ask the broker for quotes of up to a few hundred instruments.

    What it refuses for one of them costs only that one: a refused batch is halved a few times to
    find it.

    Raises:
        SessionExpired: the user has to log in at the broker.
        BrokerError: nothing could be asked.
    """
    ids, answers = list(dict.fromkeys(instrument_ids)), Answers()
    refs = refs_at_broker(connection.broker, ids)
    for pk in ids:
        if pk not in refs:
            reason = why_not_at_broker(connection.broker, pk)
            answers.errors[pk] = reason.code, reason.message
    if not refs:
        return answers
    adapter = adapter_for(connection.id)
    offered = adapter.capabilities.quotes
    wanted = next((d for d in _DEPTHS[_DEPTHS.index(depth) :] if d in offered), None)
    if wanted is None:
        raise NotSupported(
            f"{adapter.label} offers no {depth} quotes.", broker=adapter.name, code="not_supported"
        )
    _fetch(adapter, list(refs.values()), wanted, answers, [EXTRA_REQUESTS])
    if wanted is QuoteDepth.FULL:  # with the limits of the day, which orders are checked against
        broker_latest(connection.broker).write(answers.quotes.values())
    for pk in refs:
        if pk not in answers.quotes and pk not in answers.errors:
            answers.errors[pk] = "no_quote", f"{adapter.label} has no quote of this instrument now."
    return answers


def _fetch(
    adapter: BrokerAdapter,
    refs: Sequence[InstrumentRef],
    depth: QuoteDepth,
    answers: Answers,
    left: list[int],
) -> None:
    try:
        answers.quotes |= {q.instrument_id: q for q in adapter.fetch_quotes(refs, depth)}
    except _OF_SESSION:
        raise
    except Refused as e:
        if len(refs) == 1 or left[0] < 2:
            answers.errors |= {ref.id: (e.code or "refused", e.message) for ref in refs}
            return
        left[0] -= 2
        half = len(refs) // 2
        for part in (refs[:half], refs[half:]):
            try:
                _fetch(adapter, part, depth, answers, left)
            except _OF_SESSION:
                raise
            except BrokerError as error:  # the rest that was answered stands
                answers.errors |= {ref.id: (error.code, error.message) for ref in part}


def quotes_refresh(
    connection_id: UUID, broker: str, instrument_ids: Iterable[int]
) -> dict[int, Quote]:
    """Return the broker's latest quotes: asked for now where the session allows it, else those that
    it gave last, however old.
    """
    ids = list(dict.fromkeys(instrument_ids))
    try:
        brief = ConnectionBrief(connection_id, broker, broker)
        found = quotes_fetch(brief, ids, QuoteDepth.FULL).quotes
    except BrokerError as e:
        logger.info("no quotes from %s: %s", broker, e)
        found = {}
    missing = [pk for pk in ids if pk not in found]
    return broker_latest(broker).read(missing) | found


def quotes_shown(
    connection_id: UUID, broker: str, instrument_ids: Iterable[int]
) -> dict[int, Quote]:
    """Return the broker's quotes for display. It is asked for each instrument at most once in a few
    seconds through each session, and left alone for a while when it did not answer.
    """
    ids, now = list(dict.fromkeys(instrument_ids)), time.monotonic()
    latest = broker_latest(broker)
    found = latest.read(ids)
    if _quiet_until.get(connection_id, 0.0) > now:
        return found
    ids = [pk for pk in ids if _shown_until.get((connection_id, pk), 0.0) <= now]
    if not ids:
        return found
    if len(_shown_until) + len(ids) > MOST_REMEMBERED:
        _shown_until.clear()
    if len(_quiet_until) >= MOST_REMEMBERED:
        _quiet_until.clear()
    try:
        asked = quotes_fetch(ConnectionBrief(connection_id, broker, broker), ids, QuoteDepth.FULL)
    except BrokerError as e:
        logger.info("no quotes from %s: %s", broker, e)
        _quiet_until[connection_id] = time.monotonic() + QUIET_SECONDS
        return found
    until = time.monotonic() + SHOWN_SECONDS
    _shown_until.update({(connection_id, pk): until for pk in ids})
    return found | asked.quotes


def quotes_for_pages(user_id: UUID, refs: Iterable[InstrumentRef]) -> dict[int, Quote]:
    """Return the quotes that a user's pages show: their broker's where their prices come from
    there, else the platform's own.
    """
    wanted = list(refs)
    connection = prices_from(user_id)
    if connection is None:
        return {quote.instrument_id: quote for quote in quotes_latest(wanted)}
    return quotes_shown(connection.id, connection.broker, [ref.id for ref in wanted])


def candles_fetch(
    connection: ConnectionBrief,
    instrument_id: int,
    interval: CandleInterval,
    start: datetime,
    end: datetime,
) -> list[Candle]:
    """Return the broker's candles that start in [start, end), oldest first.

    Raises:
        NotAtBroker: the broker does not list the instrument.
        NotSupported: it has no candles of this interval.
        BrokerError: it could not be asked.
    """
    ref = ref_at_broker(connection.broker, instrument_id)
    adapter = adapter_for(connection.id)
    if interval not in adapter.capabilities.candle_intervals:
        offered = [i.value for i in CandleInterval if i in adapter.capabilities.candle_intervals]
        raise NotSupported(
            f"{adapter.label} has no candles of {interval}; it has {', '.join(offered) or 'none'}.",
            broker=adapter.name,
            code="interval_not_supported",
        )
    return adapter.fetch_candles(ref, interval, start, end)


@dataclass(frozen=True, slots=True)
class Chart:
    """The latest candles, oldest first, and where they are from."""

    candles: list[Candle]
    source: str
    simulated: bool


def chart(user_id: UUID, ref: InstrumentRef, interval: str, limit: int) -> Chart:
    """Return the last ``limit`` candles as the user's pages and clients chart them: their broker's
    where their prices come from there, else the platform's own. ``interval`` is one of `INTERVALS`.

    Raises:
        NotAtBroker, BrokerError: as `candles_fetch`.
    """
    connection = prices_from(user_id)
    if connection is None:
        source = source_current()
        return Chart(
            candles_latest(ref, interval, limit),
            source.name if source else settings.DATA_SOURCE,
            source.simulated if source else True,
        )
    word = _CHARTED.get(interval)
    if word is None:
        raise NotSupported(
            f"Brokers have no candles of {interval}.",
            broker=connection.broker,
            code="interval_not_supported",
        )
    now = datetime.now(UTC)
    sessions = -(-limit * INTERVALS[interval] // SESSION_SECONDS)
    if interval == "1d":
        sessions = limit
    # Weekends, and the holidays of a year among so many days.
    start = now - timedelta(days=sessions * 7 // 5 + sessions // 20 + 5)
    found = candles_fetch(connection, ref.id, word, start, now)
    return Chart(found[-limit:], connection.broker, simulated=False)


SESSION_SECONDS = 375 * 60
_CHARTED = {interval.value: interval for interval in CandleInterval} | {"1h": CandleInterval.HOUR}
