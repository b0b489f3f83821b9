"""Pace toward brokers: no more requests than their caps allow, whichever process sends them.

A window is a log of its latest permits in Redis, by the clock of Redis. It is full while its
``limit``-th newest permit is younger than the window, so no rolling window ever holds more than
``limit``. One script looks at all windows of a request and spends in all or in none.

A broker counts on its own clock, after a way that takes longer for some requests than for others.
Each window is therefore kept a little longer than the broker's (``BROKER_PACE_SLACK_MS``): what was
permitted over 1.25 s arrives within no single second unless the ways differ by a quarter of one.

While Redis is away each process keeps to its share of an order window: the cap divided by the
processes that may send (``BROKER_SENDERS``). A share begins used up, and is kept for some seconds
after Redis is back, so that what was permitted by the one and by the other never adds up to more.
Cancels, which only lessen risk, go on: a process may send some above its share. Reads go on too, in
windows of this process alone.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from django.conf import settings
from redis import ConnectionPool
from redis.backoff import NoBackoff
from redis.connection import ConnectionInterface
from redis.exceptions import NoScriptError, RedisError
from redis.retry import Retry

from brokerages.base import Capabilities, Pace, PaceRule, unpaced
from brokerages.errors import RateLimited

logger = logging.getLogger(__name__)

PACED = "paced"
"""The code of our own `RateLimited`; a broker's carries another, or none."""

ANSWER_SECONDS = 0.25  # for each step of a question to Redis
PROBE_SECONDS = 1.0  # between two tries to reach a Redis that is away
BOTH_SECONDS = 8.0  # that a share holds beside Redis: probes, and the longest second of a share
READ_WAIT_SECONDS = 2.0  # longest that a read waits for its permit
FROZEN_SECONDS = 1.0  # after a broker's "too many requests" that names no time
LONGEST_FREEZE = 3600.0
KEPT_LOCALLY = 20_000  # windows of this process; the ones not used for longest are forgotten

Way = Literal["order", "cancel", "read"]


@dataclass(frozen=True, slots=True)
class Window:
    """At most ``limit`` permits within ``micros``, of which ``reserve`` are for cancels alone."""

    limit: int
    reserve: int
    micros: int

    def room(self, way: Way) -> int:
        return self.limit if way == "cancel" else self.limit - self.reserve


@dataclass(frozen=True, slots=True)
class Log:
    """One key: who shares it, what is counted in it, and the windows that look at it."""

    key: str
    scope: str
    kinds: frozenset[Pace]
    windows: tuple[Window, ...]

    @property
    def frozen_key(self) -> str:
        return f"{self.key}:frozen"


# KEYS: a log and its mark of being frozen, for each log. ARGV: how many entries the log needs, how
# many windows follow, and for each window how many permits it has room for and its microseconds.
# Returns {0} or {microseconds to wait}. A log's newest entry is its first.
_TAKE = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local wait, at, logs = 0, 1, #KEYS / 2
local keep, longest = {}, {}
for i = 1, logs do
    local log = KEYS[2 * i - 1]
    local frozen = redis.call('PTTL', KEYS[2 * i])
    if frozen > 0 then wait = math.max(wait, frozen * 1000) end
    local newest = redis.call('LINDEX', log, 0)
    if newest and tonumber(newest) > now then
        -- the clock was set back, or another server took over: keep the distances, move the log
        local back = tonumber(newest) - now
        local entries = redis.call('LRANGE', log, 0, -1)
        redis.call('DEL', log)
        for _, entry in ipairs(entries) do
            redis.call('RPUSH', log, string.format('%.0f', tonumber(entry) - back))
        end
    end
    keep[i], longest[i] = tonumber(ARGV[at]), 0
    local windows = tonumber(ARGV[at + 1])
    at = at + 2
    for _ = 1, windows do
        local room, micros = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
        at = at + 2
        longest[i] = math.max(longest[i], micros)
        if room < 1 then
            wait = math.max(wait, micros)
        else
            local nth = redis.call('LINDEX', log, room - 1)
            if nth then wait = math.max(wait, tonumber(nth) + micros - now) end
        end
    end
end
if wait > 0 then return string.format('%.0f', wait) end
for i = 1, logs do
    local log = KEYS[2 * i - 1]
    redis.call('LPUSH', log, string.format('%.0f', now))
    redis.call('LTRIM', log, 0, keep[i] - 1)
    redis.call('PEXPIRE', log, math.ceil(longest[i] / 1000) + 1000)
end
return '0'
"""
_SHA = hashlib.sha1(_TAKE.encode(), usedforsecurity=False).hexdigest()


class RedisAway(Exception):
    """Redis gave no answer that could be used."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a request counts for: the logs of one connection at one broker."""

    broker: str
    logs: tuple[Log, ...]

    def counting(self, kind: Pace) -> list[Log]:
        return [log for log in self.logs if kind in log.kinds]


class Limiter:
    """Permits for all callers of this process. Safe to use from any thread."""

    def __init__(self, redis_url: str, *, senders: int = 1) -> None:
        self.redis_url, self.senders = redis_url, senders
        self._server = _Server(redis_url)
        self._own = _OwnWindows()
        self._away = False
        self._probe_at = 0.0  # when Redis may be tried again
        self._both_until: float | None = None  # until when our share holds beside Redis
        self._lock = threading.Lock()
        self._both_lock = threading.Lock()

    def take(self, caller: Caller, kind: Pace) -> float:
        """Take a permit; return 0, or the seconds to wait before asking again, with nothing
        spent.
        """
        logs = caller.counting(kind)
        if not logs:
            return 0.0
        way = _way(kind)
        now = time.monotonic()
        if way == "order" and self._away and now < self._probe_at:
            return self._take_own(logs, way)
        if way == "order" and (self._away or self._both_until is None or now < self._both_until):
            return self._take_both(logs)
        wait = self._take_shared(logs, way)
        return self._take_own(logs, way) if wait is None else wait

    def freeze(self, caller: Caller, kind: Pace, seconds: float | None) -> None:
        """Let nothing of ``kind`` go for ``seconds``: the broker said that it was too much.

        An address's log is left alone where a narrower one counts too: it was not the others'
        doing.
        """
        logs = caller.counting(kind)
        logs = [log for log in logs if log.scope != "IP"] or logs
        span = min(max(seconds or FROZEN_SECONDS, 0.1), LONGEST_FREEZE)
        for log in logs:
            self._own.freeze(log.key, span)
        try:
            for log in logs:
                self._server.ask("SET", log.frozen_key, "1", "PX", str(int(span * 1000)))
        except RedisAway as e:
            self._lost(e)

    def _take_shared(self, logs: Sequence[Log], way: Way) -> float | None:
        """Ask Redis; return the seconds to wait, or None if it is away."""
        now = time.monotonic()
        if self._away:
            if now < self._probe_at:
                return None
            self._probe_at = now + PROBE_SECONDS  # this thread tries; the others go on without
        keys = [key for log in logs for key in (log.key, log.frozen_key)]
        words = [str(len(keys)), *keys]
        for log in logs:
            words += [str(max(w.limit for w in log.windows)), str(len(log.windows))]
            for window in log.windows:
                words += [str(window.room(way)), str(window.micros)]
        try:
            try:
                answer = self._server.ask("EVALSHA", _SHA, *words)
            except NoScriptError:
                answer = self._server.ask("EVAL", _TAKE, *words)
            wait = int(answer) / 1_000_000
        except (RedisAway, TypeError, ValueError) as e:
            self._lost(e)
            return None
        self._found()
        return wait

    def _take_own(self, logs: Sequence[Log], way: Way) -> float:
        return self._own.take(
            [(_own_key(log, way), log.key, self._shares(log, way)) for log in logs],
            begins_full=way == "order",
        )

    def _take_both(self, logs: Sequence[Log]) -> float:
        """Take a permit for an order of our share and of Redis, or of neither."""
        with self._both_lock:
            if wait := self._take_own(logs, "order"):
                return wait
            was_away = self._away
            shared = self._take_shared(logs, "order")
            if shared is None:  # lost just now: our share begins used up
                return 0.0 if was_away else self._take_own(logs, "order")
            if shared:
                self._own.give_back([_own_key(log, "order") for log in logs])
            return shared

    def _shares(self, log: Log, way: Way) -> list[tuple[int, float]]:
        """Return what this process may do by itself: (permits, seconds) of each window."""
        shares = []
        for window in log.windows:
            seconds = window.micros / 1_000_000
            room = max(window.limit - window.reserve, 1)
            share = max(room // self.senders, 1)
            if way == "order":
                # fewer permits than senders: one each, in a window that is longer in proportion
                shares.append((share, seconds * max(self.senders / room, 1)))
            elif way == "cancel":  # in the same log as orders, and further than they may go
                shares.append((share + max(window.reserve // self.senders, 1), seconds))
            else:
                shares.append((window.limit, seconds))
        return shares

    def _lost(self, error: Exception) -> None:
        with self._lock:
            if not self._away:
                logger.warning("pace: Redis is away (%s); keeping to this process's share", error)
                self._own.forget()
            self._away = True
            self._probe_at = time.monotonic() + PROBE_SECONDS

    def _found(self) -> None:
        """Note that Redis answered. At first our share holds too: others may not have found it yet,
        and it knows nothing of what they permitted alone.
        """
        if not self._away and self._both_until is not None:
            return
        with self._lock:
            if self._away:
                logger.info("pace: Redis is back")
            self._away = False
            # by then everybody has found it, and what was permitted alone is over
            self._both_until = time.monotonic() + BOTH_SECONDS


class _OwnWindows:
    """The windows of this process alone, by the monotonic clock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._logs: OrderedDict[str, deque[float]] = OrderedDict()
        self._frozen: dict[str, float] = {}
        self._begun = float("-inf")

    def take(
        self, wanted: Sequence[tuple[str, str, list[tuple[int, float]]]], *, begins_full: bool
    ) -> float:
        """Take a permit in all of ``wanted`` (key, key of the freeze, windows) or in none; return
        the seconds to wait. With ``begins_full`` the shortest window has to pass before the first
        one since `forget`.
        """
        now = time.monotonic()
        with self._lock:
            wait = 0.0
            for key, frozen, windows in wanted:
                wait = max(wait, self._frozen.get(frozen, 0.0) - now)
                log = self._logs.setdefault(key, deque())
                self._logs.move_to_end(key)
                if begins_full:
                    wait = max(wait, self._begun + min(seconds for _, seconds in windows) - now)
                for room, seconds in windows:
                    if len(log) >= room:
                        wait = max(wait, log[-room] + seconds - now)
            if wait <= 0:
                for key, _, windows in wanted:
                    log = self._logs[key]
                    log.append(now)
                    while len(log) > 2 * max(room for room, _ in windows):
                        log.popleft()  # twice: cancels look further back than orders
            while len(self._logs) > KEPT_LOCALLY:
                self._logs.popitem(last=False)
        return max(wait, 0.0)

    def freeze(self, key: str, seconds: float) -> None:
        now = time.monotonic()
        with self._lock:
            self._frozen = {k: until for k, until in self._frozen.items() if until > now}
            self._frozen[key] = max(self._frozen.get(key, 0.0), now + seconds)

    def give_back(self, keys: Iterable[str]) -> None:
        """Undo the latest permit of each key."""
        with self._lock:
            for key in keys:
                if log := self._logs.get(key):
                    log.pop()

    def forget(self) -> None:
        """Begin anew: every share is used up."""
        with self._lock:
            self._logs.clear()
            self._begun = time.monotonic()


class _Server:
    """One connection to Redis a thread. Nothing is tried twice, and a server that was started anew
    is noticed: it may have lost the latest permits.
    """

    def __init__(self, url: str) -> None:
        self._pool = ConnectionPool.from_url(
            url,
            socket_connect_timeout=ANSWER_SECONDS,
            socket_timeout=ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            driver_info=None,
        )
        self._local = threading.local()
        self._generation = 0
        self._run_id = ""

    def ask(self, *words: str) -> Any:
        """Ask one thing.

        Raises:
            RedisAway: there is no usable answer.
            NoScriptError: Redis does not have the script.
        """
        try:
            connection = None
            if getattr(self._local, "generation", None) == self._generation:
                connection = self._local.connection
            return _exchange(connection or self._connect(), words)
        except NoScriptError:
            raise
        except (RedisError, OSError) as e:
            self._generation += 1  # one loss: other threads need not find their connections dead
            raise RedisAway(type(e).__name__) from e

    def _connect(self) -> ConnectionInterface:
        connection = self._pool.make_connection()
        facts = _exchange(connection, ("INFO", "server"))
        text = facts.decode() if isinstance(facts, bytes) else str(facts)
        run_id = next((x[7:] for x in text.splitlines() if x.startswith("run_id:")), "")
        known, self._run_id = self._run_id, run_id
        if known not in ("", run_id):
            connection.disconnect()
            raise RedisAway("started anew")
        self._local.connection, self._local.generation = connection, self._generation
        return connection


def _exchange(connection: ConnectionInterface, words: Iterable[str]) -> Any:
    try:
        connection.send_command(*words)
        return connection.read_response()
    except NoScriptError:
        raise
    except (RedisError, OSError):
        connection.disconnect()
        raise


def _own_key(log: Log, way: Way) -> str:
    return f"{log.key}:read" if way == "read" else log.key


def _way(kind: Pace) -> Way:
    if kind is Pace.CANCEL:
        return "cancel"
    return "order" if kind is Pace.ORDER else "read"


# --- What an adapter is handed --------------------------------------------------------------------


class Pacer:
    """Asks for a permit before each request of one adapter; becomes ``AdapterContext.pace``."""

    def __init__(self, limiter: Limiter, caller: Caller) -> None:
        self._limiter, self._caller = limiter, caller
        self._asked = Pace.OTHER

    def __call__(self, kind: Pace) -> None:
        """Return when a request of ``kind`` may go: an order or a cancel now or not at all, a read
        after two seconds at most.

        Raises:
            RateLimited: not now. Nothing was spent, and nothing was sent.
        """
        self._asked = kind
        patience = 0.0 if kind in (Pace.ORDER, Pace.CANCEL) else READ_WAIT_SECONDS
        until = time.monotonic() + patience
        while (wait := self._limiter.take(self._caller, kind)) > 0:
            if time.monotonic() + wait > until:
                raise RateLimited(
                    "Requests to the broker are limited; this one has to wait.",
                    broker=self._caller.broker,
                    code=PACED,
                    retry_after=round(wait, 3),
                )
            time.sleep(wait)

    def penalise(self, seconds: float | None = None) -> None:
        """Note that the broker refused the latest request as one too many. ``seconds`` is what it
        asked to wait, if it did.
        """
        self._limiter.freeze(self._caller, self._asked, seconds)


def pace_of(
    broker: str, capabilities: Capabilities, *, account: str, app: str
) -> Callable[[Pace], None]:
    """Return the pace of one connection: ``account`` names it at the broker, ``app`` is the API key
    (empty where there is none). Neither is stored anywhere in clear.
    """
    if not capabilities.pace:
        return unpaced
    return Pacer(limiter_current(), caller_of(broker, capabilities.pace, account=account, app=app))


def caller_of(broker: str, rules: Iterable[PaceRule], *, account: str, app: str) -> Caller:
    """Return the logs that the rules of ``broker`` make for one connection."""
    slack = settings.BROKER_PACE_SLACK_MS * 1000
    names = {
        "CONNECTION": account,
        "APP": app or account,
        "IP": settings.BROKER_EGRESS,
    }
    grouped: dict[tuple[str, frozenset[Pace]], list[Window]] = {}
    for rule in rules:
        windows = grouped.setdefault((rule.scope, rule.kinds), [])
        windows.append(Window(rule.limit, rule.reserve, rule.seconds * 1_000_000 + slack))
    logs = []
    for (scope, kinds), windows in grouped.items():
        # One hash tag for a broker: its logs lie on one server also where Redis is a cluster.
        words = "+".join(sorted(kinds))
        key = f"sauda:pace:{{{broker}}}:{scope}:{_digest(scope, names[scope])}:{words}"
        logs.append(Log(key, scope, kinds, tuple(windows)))
    return Caller(broker, tuple(logs))


def _digest(scope: str, name: str) -> str:
    return hmac.new(
        settings.SECRET_KEY.encode(), f"pace {scope} {name}".encode(), hashlib.sha256
    ).hexdigest()[:24]


_limiter: Limiter | None = None
_limiter_lock = threading.Lock()


def limiter_current() -> Limiter:
    """Return the limiter of this process."""
    global _limiter  # noqa: PLW0603
    with _limiter_lock:
        made_for = (settings.REDIS_URL, settings.BROKER_SENDERS)
        if _limiter is None or (_limiter.redis_url, _limiter.senders) != made_for:
            _limiter = Limiter(settings.REDIS_URL, senders=settings.BROKER_SENDERS)
        return _limiter
