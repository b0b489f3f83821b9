"""The pace toward brokers: never more than the cap, whoever asks and whatever becomes of Redis."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
import redis
from django.conf import settings as django_settings

from brokerages.adapters.paper.adapter import PaperAdapter
from brokerages.base import Pace, PaceRule, unpaced
from brokerages.errors import RateLimited
from brokerages.limiter import Limiter, Pacer, caller_of, pace_of
from config import servers

ORDERS = frozenset({Pace.ORDER, Pace.CANCEL})
TEN = PaceRule(ORDERS, limit=10, seconds=1, reserve=2)
DEAD = "redis://127.0.0.1:1/0"


@pytest.fixture(autouse=True)
def _slack(settings: Any) -> None:
    settings.BROKER_PACE_SLACK_MS = 0


@pytest.fixture
def valkey() -> Iterator[redis.Redis]:
    with redis.Redis.from_url(django_settings.REDIS_URL) as found:
        yield found


def caller(*rules: PaceRule, account: str = "", app: str = "key") -> Any:
    return caller_of("zerodha", rules or (TEN,), account=account or uuid4().hex, app=app)


def settled(url: str = "", senders: int = 1) -> Limiter:
    """Return a limiter that has known its Redis for long."""
    limiter = Limiter(url or django_settings.REDIS_URL, senders=senders)
    limiter._both_until = 0.0
    return limiter


def granted(limiter: Limiter, who: Any, kind: Pace, times: int) -> int:
    return sum(limiter.take(who, kind) == 0 for _ in range(times))


def most_in_a_second(at: list[float], seconds: float = 1.0) -> int:
    at = sorted(at)
    return max((sum(t <= x < t + seconds for x in at) for t in at), default=0)


def test_orders_leave_the_reserve_to_cancels():
    limiter, who = settled(), caller()

    assert granted(limiter, who, Pace.ORDER, 20) == 8
    assert granted(limiter, who, Pace.CANCEL, 20) == 2


def test_a_denial_spends_nothing_and_tells_the_wait():
    limiter, who = settled(), caller()
    begun = time.monotonic()
    granted(limiter, who, Pace.ORDER, 8)

    waits = [limiter.take(who, Pace.ORDER) for _ in range(50)]
    took = time.monotonic() - begun
    assert all(0 < wait <= 1 for wait in waits)
    assert waits[0] >= 1 - took

    time.sleep(waits[-1])
    assert limiter.take(who, Pace.ORDER) == 0


def test_no_rolling_second_holds_more_than_the_cap():
    limiter, who, at = settled(), caller(), []

    end = time.monotonic() + 3.2
    while time.monotonic() < end:
        if (wait := limiter.take(who, Pace.ORDER)) == 0:
            at.append(time.monotonic())
        else:
            time.sleep(min(wait, 0.05))

    assert most_in_a_second(at, 0.99) <= 8
    assert len(at) >= 24  # 8 at once, and 8 in each second after


def test_all_windows_pass_or_nothing_is_spent():
    minute = PaceRule(ORDERS, limit=12, seconds=60)
    limiter, who = settled(), caller(TEN, minute)
    assert granted(limiter, who, Pace.ORDER, 20) == 8

    time.sleep(1.01)

    assert granted(limiter, who, Pace.ORDER, 20) == 4  # the minute is full
    assert limiter.take(who, Pace.ORDER) > 50
    assert limiter.take(who, Pace.CANCEL) > 50


def test_logs_of_several_scopes_are_spent_together():
    app = PaceRule(ORDERS, limit=3, seconds=1, scope="APP")
    limiter, key = settled(), uuid4().hex
    one, two = (caller(TEN, app, app=key) for _ in range(2))

    assert granted(limiter, one, Pace.ORDER, 2) == 2
    assert granted(limiter, two, Pace.ORDER, 5) == 1
    # what the app's window denied was not counted against the second account
    other_app = caller_of("zerodha", [TEN], account="x" + key, app="another")
    assert granted(limiter, other_app, Pace.ORDER, 20) == 8


def test_connections_do_not_share_their_windows():
    limiter = settled()

    assert [granted(limiter, caller(), Pace.ORDER, 20) for _ in range(3)] == [8, 8, 8]


def test_one_address_is_shared_by_all(settings):
    settings.BROKER_EGRESS = uuid4().hex
    rule = PaceRule(frozenset({Pace.QUOTE}), limit=3, seconds=1, scope="IP")
    limiter = settled()

    assert sum(granted(limiter, caller(rule), Pace.QUOTE, 2) for _ in range(4)) == 3


def test_what_a_rule_does_not_count_goes_at_once():
    limiter, who = settled(), caller()

    assert granted(limiter, who, Pace.QUOTE, 100) == 100


def test_windows_are_longer_than_the_brokers(settings):
    settings.BROKER_PACE_SLACK_MS = 250
    limiter, who = settled(), caller()
    granted(limiter, who, Pace.ORDER, 8)

    time.sleep(1.05)
    assert limiter.take(who, Pace.ORDER) > 0
    time.sleep(0.25)
    assert limiter.take(who, Pace.ORDER) == 0


def test_threads_together_keep_the_cap():
    limiter, who, counts = settled(), caller(), []
    threads = [
        threading.Thread(target=lambda: counts.append(granted(limiter, who, Pace.ORDER, 10)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(counts) == 8


def test_a_clock_that_is_set_back_keeps_the_distances(valkey):
    limiter, who = settled(), caller()
    granted(limiter, who, Pace.ORDER, 8)
    key = who.logs[0].key
    entries = [int(x) for x in valkey.lrange(key, 0, -1)]
    valkey.delete(key)
    valkey.rpush(key, *[x + 3_600_000_000 for x in entries])  # an hour in the future

    assert 0 < limiter.take(who, Pace.ORDER) <= 1
    time.sleep(1.01)
    assert granted(limiter, who, Pace.ORDER, 20) == 8


def test_keys_tell_nothing_and_go_away(valkey):
    limiter, who = settled(), caller(account="ZA1234", app="secret-api-key")
    limiter.take(who, Pace.ORDER)

    (log,) = who.logs
    assert "ZA1234" not in log.key
    assert "secret-api-key" not in log.key
    assert "{zerodha}" in log.key
    assert 0 < valkey.pttl(log.key) <= 2000


def test_the_script_is_loaded_again_where_redis_forgot_it(valkey):
    limiter, who = settled(), caller()
    limiter.take(who, Pace.ORDER)

    valkey.script_flush()

    assert granted(limiter, who, Pace.ORDER, 20) == 7


# --- A broker that says it was too much ----------------------------------------------------------


def test_a_refusal_of_the_broker_freezes_the_account():
    limiter, who = settled(), caller()
    pacer = Pacer(limiter, who)
    pacer(Pace.ORDER)

    pacer.penalise(3)

    with pytest.raises(RateLimited) as e:
        pacer(Pace.ORDER)
    assert 2.5 < e.value.retry_after <= 3
    with pytest.raises(RateLimited):
        pacer(Pace.CANCEL)  # the broker would refuse it too
    with pytest.raises(RateLimited):  # in any process
        Pacer(settled(), who)(Pace.ORDER)
    Pacer(limiter, caller())(Pace.ORDER)  # others go on


def test_without_a_time_it_is_one_second():
    limiter, who = settled(), caller()
    pacer = Pacer(limiter, who)
    pacer(Pace.ORDER)
    pacer.penalise()

    assert 0.9 < limiter.take(who, Pace.ORDER) <= 1
    time.sleep(1.01)
    pacer(Pace.ORDER)


def test_a_shared_address_is_not_frozen_for_one_account(settings):
    settings.BROKER_EGRESS = uuid4().hex
    address = PaceRule(ORDERS, limit=100, seconds=1, scope="IP")
    limiter = settled()
    pacer = Pacer(limiter, caller(TEN, address))
    pacer(Pace.ORDER)
    pacer.penalise(5)

    Pacer(limiter, caller(TEN, address))(Pace.ORDER)


# --- What an adapter sees ------------------------------------------------------------------------


def test_orders_are_denied_at_once_and_reads_wait_for_a_while():
    rule = PaceRule(frozenset({Pace.QUOTE}), limit=1, seconds=1)
    slow = PaceRule(frozenset({Pace.HISTORY}), limit=1, seconds=10)
    pacer = Pacer(settled(), caller(TEN, rule, slow))
    for _ in range(8):
        pacer(Pace.ORDER)

    begun = time.monotonic()
    with pytest.raises(RateLimited) as e:
        pacer(Pace.ORDER)
    assert time.monotonic() - begun < 0.2
    assert e.value.code == "paced"

    for _ in range(2):
        pacer(Pace.QUOTE)
    assert time.monotonic() - begun >= 1.0

    pacer(Pace.HISTORY)
    begun = time.monotonic()
    with pytest.raises(RateLimited):
        pacer(Pace.HISTORY)
    assert time.monotonic() - begun < 2.1


def test_the_paper_broker_asks_nobody():
    assert pace_of("paper", PaperAdapter.capabilities, account="a", app="") is unpaced


# --- Redis is away -------------------------------------------------------------------------------


def past_the_beginning(limiter: Limiter) -> None:
    time.sleep(1.05)


@pytest.mark.parametrize(("senders", "share"), [(1, 8), (4, 2), (8, 1)])
def test_each_process_keeps_to_its_share(senders, share):
    limiter, who = settled(DEAD, senders), caller()
    assert granted(limiter, who, Pace.ORDER, 5) == 0  # what Redis permitted may be a moment ago
    past_the_beginning(limiter)

    assert granted(limiter, who, Pace.ORDER, 50) == share


def test_more_processes_than_permits_wait_longer():
    limiter, who = settled(DEAD, 16), caller()
    limiter.take(who, Pace.ORDER)
    time.sleep(2.05)

    assert granted(limiter, who, Pace.ORDER, 5) == 1
    assert 1.5 < limiter.take(who, Pace.ORDER) <= 2.0


def test_cancels_and_reads_go_on_at_once():
    reads = PaceRule(frozenset({Pace.OTHER}), limit=5, seconds=1)
    limiter, who = settled(DEAD, 8), caller(TEN, reads)

    assert granted(limiter, who, Pace.CANCEL, 5) == 2
    assert granted(limiter, who, Pace.OTHER, 9) == 5


def test_cancels_go_on_after_the_share_of_orders():
    limiter, who = settled(DEAD, 4), caller()
    limiter.take(who, Pace.ORDER)
    past_the_beginning(limiter)

    assert granted(limiter, who, Pace.ORDER, 9) == 2
    assert granted(limiter, who, Pace.CANCEL, 9) == 1
    assert granted(limiter, who, Pace.ORDER, 9) == 0


def test_a_freeze_holds_without_redis():
    limiter, who = settled(DEAD), caller()
    limiter.freeze(who, Pace.CANCEL, 2)

    assert 1.5 < limiter.take(who, Pace.CANCEL) <= 2


class Own:
    """A Valkey that the test stops and starts."""

    def __init__(self, folder: Any) -> None:
        self.server = servers.Valkey(folder, durable=False)
        self.url = servers.redis_url(folder)

    def start(self) -> None:
        self.server.prepare()
        self.server.start()
        self.server.wait()


@pytest.fixture
def own_valkey(tmp_path_factory: Any) -> Iterator[Own]:
    own = Own(tmp_path_factory.mktemp("pace"))
    own.start()
    yield own
    own.server.stop()


def test_the_first_order_after_a_return_keeps_to_the_share_too(own_valkey):
    who = caller()
    limiter = settled(own_valkey.url, 8)
    assert limiter.take(who, Pace.ORDER) == 0
    own_valkey.server.stop()
    assert limiter.take(who, Pace.ORDER) > 0  # what Redis permitted may be a moment ago
    time.sleep(1.05)
    assert granted(limiter, who, Pace.ORDER, 3) == 1

    own_valkey.start()  # with an empty log
    limiter._probe_at = 0.0

    assert limiter.take(who, Pace.ORDER) > 0
    for _ in range(2):  # another server than before is not believed at once
        assert limiter._away
        time.sleep(1.05)
        limiter._probe_at = 0.0
        assert granted(limiter, who, Pace.ORDER, 3) == 1
    assert not limiter._away


def test_redis_lost_again_at_once_grants_nothing_twice(own_valkey):
    who = caller()
    limiter = Limiter(own_valkey.url, senders=2)
    assert granted(limiter, who, Pace.ORDER, 20) == 4  # its share holds beside Redis at first

    own_valkey.server.stop()

    assert granted(limiter, who, Pace.ORDER, 20) == 0


def test_a_restart_of_redis_never_adds_permits(own_valkey):
    """Four processes at full speed, while Redis goes and comes back without its log."""
    who, at = caller(), []
    stop = threading.Event()

    def send() -> None:
        limiter = settled(own_valkey.url, 4)
        while not stop.is_set():
            if (wait := limiter.take(who, Pace.ORDER)) == 0:
                at.append(time.monotonic())
            else:
                stop.wait(min(wait, 0.05))

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(1.5)
    own_valkey.server.stop()
    time.sleep(2.5)
    alone = time.monotonic()
    own_valkey.start()
    time.sleep(12)
    stop.set()
    for thread in threads:
        thread.join()

    assert most_in_a_second(at, 0.95) <= 10
    assert sum(alone - 1.5 < t < alone for t in at) >= 8  # they went on alone
    assert sum(t > at[-1] - 1.0 for t in at) >= 7  # and are at full speed again
