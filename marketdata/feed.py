"""Publishes the latest prices: one message a cycle for the live stream, and the shared latest
quotes.

Any number of feeds may run. A lease in Redis lets one publish; when it ends, another takes over
within seconds. Two that publish for a moment do no harm: a tick is a state, not an event.
"""

from __future__ import annotations

import logging
import random
import threading
import time
import uuid
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import redis
from django.conf import settings
from django.db import DatabaseError, close_old_connections

from brokerages.types import InstrumentKind, Quote
from marketdata import quotes, selectors
from marketdata.broker_feed import BrokerTicks
from marketdata.calendar import trading_date
from marketdata.channels import SEPARATOR, broker_symbol, channel_name
from marketdata.latest import QUOTES_KEY, LatestQuotes, connect
from marketdata.sources.base import DataSource, Listing
from marketdata.ticks import tick_output

logger = logging.getLogger(__name__)

CHANNEL = "sauda:ticks"
WANTED_KEY = "sauda:wanted"  # sorted set of the stream: symbol -> until when (Unix seconds)
LEASE_KEY = "sauda:feed:lease"
LEASE_MS = 3_000
LATEST_SECONDS = 24 * 3600
NEAR_STRIKES = 5  # on each side of the money, nearest expiry
CHOOSE_SECONDS = 15.0
LONGEST_PAUSE = 2.0

# Take or keep the lease: 1 if it is ours now.
_LEASE = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"

_encoder = msgspec.json.Encoder()


class Feed:
    """One feed. `run` returns when ``stop`` is set; it survives a lost Redis or database."""

    def __init__(self, source: DataSource | None = None, interval: float | None = None) -> None:
        self._fixed = source
        self.interval = interval or getattr(settings, "FEED_INTERVAL_MS", 250) / 1000
        self.name = uuid.uuid4().hex
        self.leading = False
        self.published = 0
        self._redis = connect(timeout=1.0)
        self._channel = channel_name(CHANNEL, settings.REDIS_URL)
        self._latest = LatestQuotes()
        self._brokers = BrokerTicks()
        self._seen: dict[int, int] = {}
        self._chosen: dict[str, Listing] = {}
        self._chosen_at = 0.0

    def run(self, stop: threading.Event) -> None:
        """Publish every ``interval`` seconds until ``stop``."""
        pause = 0.0
        due = time.monotonic()
        while not stop.is_set():
            try:
                self.cycle()
                pause = 0.0
                close_old_connections()
            except (redis.RedisError, OSError) as e:
                pause = self._lost(f"Redis ({type(e).__name__})", pause)
            except DatabaseError as e:
                pause = self._lost(f"the database ({type(e).__name__})", pause)
                close_old_connections()
            due = max(due + self.interval, time.monotonic() + pause)
            stop.wait(due - time.monotonic())
        self._release()

    def cycle(self) -> int:
        """Take or keep the lease, and publish what changed; return how many ticks went out.

        Raises:
            redis.RedisError: Redis is away.
            DatabaseError: the instruments were never read, and the database is away.
        """
        now = time.time()
        pipe = self._redis.pipeline(transaction=False)
        pipe.eval(_LEASE, 1, LEASE_KEY, self.name, LEASE_MS)
        pipe.zrangebyscore(WANTED_KEY, now, "+inf")
        leading, wanted = pipe.execute()
        if bool(leading) != self.leading:
            self.leading = bool(leading)
            logger.info("feed: %s", "publishing" if leading else "another feed publishes; waiting")
            self._seen.clear()
        if not leading:
            if self._brokers.lines:
                self._brokers.close()
            return 0
        names = [name.decode() for name in wanted]
        self._brokers.follow(name for name in names if SEPARATOR in name)
        self.published += self._publish_brokers()
        source = self._source()
        listings = self._listings([name for name in names if SEPARATOR not in name], source)
        at = datetime.fromtimestamp(now, UTC)
        changed = list(source.ticks(listings, at, self._seen)) if source else []
        if source is not None and changed:
            self._publish(source, changed)
        self.published += len(changed)
        return len(changed)

    def _publish(self, source: DataSource, changed: list[tuple[Listing, Quote]]) -> None:
        batch = [[listing.key, tick_output(listing.key, quote)] for listing, quote in changed]
        pipe = self._redis.pipeline(transaction=False)
        if not source.computed:  # other processes cannot work these out by themselves
            fields = self._latest.encoded(quote for _, quote in changed)
            pipe.hset(QUOTES_KEY, mapping=fields)  # type: ignore[arg-type]
            pipe.expire(QUOTES_KEY, LATEST_SECONDS)
        pipe.publish(self._channel, _encoder.encode(batch))
        pipe.execute()

    def _publish_brokers(self) -> int:
        """Publish what brokers pushed since the last cycle; return how many ticks that were."""
        by_broker: dict[str, list[tuple[str, Quote]]] = {}
        for broker, key, quote in self._brokers.take():
            by_broker.setdefault(broker, []).append((key, quote))
        for broker, changed in by_broker.items():
            latest = quotes.broker_latest(broker)
            known = latest.read(quote.instrument_id for _, quote in changed)
            news = [(key, _with_limits(quote, known)) for key, quote in changed]
            latest.write(quote for _, quote in news)
            batch = [[broker_symbol(broker, key), tick_output(key, quote)] for key, quote in news]
            self._redis.publish(self._channel, _encoder.encode(batch))
        return sum(map(len, by_broker.values()))

    def _source(self) -> DataSource | None:
        return self._fixed or quotes.source_current()

    def _listings(self, wanted: Iterable[str], source: DataSource | None) -> Iterable[Listing]:
        """Return what to publish: shares, indices, futures, options near the money, and what is
        wanted.
        """
        now = time.monotonic()
        if not self._chosen or now - self._chosen_at > CHOOSE_SECONDS:
            self._chosen_at = now
            self._chosen = {x.key: x for x in choose(selectors.listings_active(), source)}
        more = {}
        for key in wanted:
            if key not in self._chosen and (listing := selectors.listing_by_key(key)) is not None:
                more[key] = listing
        return [*self._chosen.values(), *more.values()] if more else self._chosen.values()

    def _lost(self, what: str, pause: float) -> float:
        """Note a loss; return how long to wait before the next try."""
        if not pause:
            logger.warning("feed: lost %s; trying again", what)
        self.leading = False
        self._seen.clear()  # whoever listens next has seen nothing
        self._redis.connection_pool.disconnect()
        return min(max(2 * pause, 0.1), LONGEST_PAUSE) * random.uniform(0.75, 1.0)  # noqa: S311

    def _release(self) -> None:
        self._brokers.close()
        try:
            self._redis.eval(_RELEASE, 1, LEASE_KEY, self.name)
            self._redis.close()
        except (redis.RedisError, OSError):
            logger.info("feed: Redis is away; the lease ends by itself")


def _with_limits(quote: Quote, known: dict[int, Quote]) -> Quote:
    """Return the quote with the day's price limits, where it was pushed without: orders are checked
    against them, and they were read with an earlier quote of the day.
    """
    before = known.get(quote.instrument_id)
    if (
        before is None
        or quote.upper_circuit is not None
        or trading_date(before.at) != trading_date(quote.at)
    ):
        return quote
    return replace(quote, lower_circuit=before.lower_circuit, upper_circuit=before.upper_circuit)


def choose(listings: Iterable[Listing], source: DataSource | None) -> list[Listing]:
    """Return all that a source with a list of its own has; of one that has everything, all but
    options, and the options around the money of each nearest expiry.
    """
    own = None if source is None else source.symbols()
    if own is not None:
        return [listing for listing in listings if listing.key in own]
    chosen: list[Listing] = []
    options: dict[str, list[Listing]] = {}
    for listing in listings:
        if listing.is_option:
            options.setdefault(listing.ref.underlying, []).append(listing)
        else:
            chosen.append(listing)
    now = datetime.now(UTC)
    for chain in options.values():
        spot = chain[0].spot
        quote = source.quote(spot, now) if source is not None and spot is not None else None
        expiries = [x.ref.expiry for x in chain if x.ref.expiry is not None]
        if quote is not None and expiries:
            nearest = [x for x in chain if x.ref.expiry == min(expiries)]
            chosen += _around(nearest, quote.last_price)
    return chosen


def _around(chain: list[Listing], price: Decimal) -> list[Listing]:
    found: list[Listing] = []
    for kind in (InstrumentKind.CE, InstrumentKind.PE):
        side = [x for x in chain if x.ref.kind is kind]
        side.sort(key=lambda x: abs((x.ref.strike or Decimal(0)) - price))
        found += side[: 2 * NEAR_STRIKES + 1]
    return found
