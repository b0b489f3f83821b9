"""What each way to fail proves. The emulator's record is the judge: one request, always."""

from __future__ import annotations

import pytest

from brokerages.errors import (
    BrokerError,
    NotSent,
    OutcomeUnknown,
    RateLimited,
    Refused,
    SessionExpired,
)
from brokerages.types import OrderChange, OrderType, QuoteDepth, ReportedStatus, Validity
from tests.brokerages.contract.conftest import limit, order, refusal_of, until
from tests.emulators.core.orders import Stage

S = ReportedStatus

# The fault, what is asked of it, and whether the broker has the order all the same.
AFTER_SENDING = [
    ("status", {"status": 500}, False),
    ("status", {"status": 502}, False),
    ("status", {"status": 503}, False),
    ("status", {"status": 504}, False),
    ("status", {"status": 302, "headers": {"Location": "/elsewhere"}}, False),
    ("status", {"status": 307, "headers": {"Location": "/elsewhere"}}, False),
    ("status", {"status": 404}, False),
    ("status", {"status": 200, "body": "<html>maintenance</html>"}, False),
    ("status", {"status": 400, "body": "Bad Request"}, False),
    ("keep_then_status", {"status": 500}, True),
    ("keep_then_status", {"status": 504}, True),
    ("drop_before", {}, False),
    ("drop_after", {}, True),
    ("cut", {}, True),
    ("cut", {"share": 0.95}, True),
    ("garbage", {}, True),
    ("garbage", {"body": "[]"}, True),
    ("garbage", {"body": "{}"}, True),
    ("garbage", {"body": "null"}, True),
    ("garbage", {"body": '{"status":"success","data":{}}'}, True),
    ("garbage", {"body": '{"status":"SUCCESS","payload":{}}'}, True),
    ("timed_out", {}, False),
]


def name_of(value):
    if isinstance(value, dict):
        return ",".join(str(v)[:24] for v in value.values() if not isinstance(v, dict))
    return value if isinstance(value, str) else ("kept" if value else "not kept")


@pytest.mark.parametrize(("kind", "options", "keeps"), AFTER_SENDING, ids=name_of)
def test_place(bench, adapter, kind, options, keeps):
    """Nobody knows what became of it: never a refusal, never sent again, found by its tag."""
    bench.need_wire()
    bench.fault(kind, **options)
    request = limit(bench, "95")
    with pytest.raises(OutcomeUnknown) as raised:
        adapter.place_order(request)
    assert raised.value.advice
    assert raised.value.broker == adapter.name
    assert bench.sent("place") == 1
    found = adapter.find_order(request)
    assert (found is not None) == keeps
    if found:
        assert found.status is S.OPEN


@pytest.mark.parametrize("acts", [False, True], ids=["not kept", "kept"])
def test_place_without_an_answer(bench, adapter, monkeypatch, acts):
    bench.need_wire()
    bench.hurry(monkeypatch)
    adapter = bench.with_token(adapter, adapter.token)
    bench.fault("hang", acts=acts)
    request = limit(bench, "95")
    with pytest.raises(OutcomeUnknown):
        adapter.place_order(request)
    assert bench.sent("place") == 1
    assert (adapter.find_order(request) is not None) == acts


def test_place_that_is_accepted_later(bench, adapter):
    """ "Timed out", not in the book, and then it is there after all."""
    bench.need_wire()
    bench.fault("timed_out", delay=0.4)
    request = limit(bench, "95")
    with pytest.raises(OutcomeUnknown):
        adapter.place_order(request)
    assert adapter.find_order(request) is None
    found = until(lambda: adapter.find_order(request))
    assert found.status is S.OPEN
    assert bench.sent("place") == 1


def test_place_with_a_slow_answer(bench, adapter):
    bench.need_wire()
    bench.fault("drip", seconds=0.5)
    ack = adapter.place_order(limit(bench, "95"))
    assert ack.broker_order_id in bench.account(adapter).orders
    assert bench.sent("place") == 1


def test_place_under_a_wrong_content_type(bench, adapter):
    """Taken or unknown, by what the SDK makes of it: never a refusal."""
    bench.need_wire()
    bench.fault("content_type", content_type="text/html")
    error = refusal_of(lambda: adapter.place_order(limit(bench, "95")))
    assert error is None or isinstance(error, OutcomeUnknown)
    assert bench.sent("place") == 1
    assert adapter.find_order(limit(bench, "95")).status is S.OPEN


def test_place_at_a_dead_address(bench, adapter):
    """Never connected: the one failure that proves that nothing was sent."""
    bench.need_wire()
    adapter.check_session()
    bench.server.stop()
    adapter = bench.with_token(adapter, adapter.token)
    with pytest.raises(NotSent) as raised:
        adapter.place_order(limit(bench, "95"))
    assert not isinstance(raised.value, RateLimited)


def test_kept_connection_that_died_is_not_taken_twice(bench, adapter):
    """The broker closes a kept connection: the next order is sent once, or told as unknown."""
    bench.need_wire()
    adapter.fetch_orders()
    bench.fault("drop_before")
    error = refusal_of(lambda: adapter.place_order(limit(bench, "95")))
    assert isinstance(error, OutcomeUnknown)
    assert bench.sent("place") == 1


CHANGES = [
    ("status", {"status": 503}, False),
    ("keep_then_status", {"status": 502}, True),
    ("drop_before", {}, False),
    ("drop_after", {}, True),
    ("garbage", {}, True),
]


@pytest.mark.parametrize(("kind", "options", "acts"), CHANGES, ids=name_of)
def test_cancel(bench, adapter, kind, options, acts):
    bench.need_wire()
    request = limit(bench, "95")
    number = adapter.place_order(request).broker_order_id
    bench.fault(kind, "cancel", **options)
    with pytest.raises(OutcomeUnknown):
        adapter.cancel_order(number, request)
    assert bench.sent("cancel") == 1
    assert adapter.find_order(request).status is (S.CANCELLED if acts else S.OPEN)


@pytest.mark.parametrize(("kind", "options", "acts"), CHANGES, ids=name_of)
def test_modify(bench, adapter, kind, options, acts):
    bench.need_wire()
    request = limit(bench, "95")
    number = adapter.place_order(request).broker_order_id
    bench.fault(kind, "modify", **options)
    from decimal import Decimal

    change = OrderChange(20, OrderType.LIMIT, Validity.DAY, Decimal(96))
    with pytest.raises(OutcomeUnknown):
        adapter.modify_order(number, change, request)
    assert bench.sent("modify") == 1
    assert adapter.find_order(request).quantity == (20 if acts else 10)


READS = {
    "book": lambda adapter, bench: adapter.fetch_orders(),
    "find": lambda adapter, bench: adapter.find_order(limit(bench, "95")),
    "fills": lambda adapter, bench: adapter.fetch_fills(),
    "quotes": lambda adapter, bench: adapter.fetch_quotes([bench.share], QuoteDepth.FULL),
}


@pytest.mark.parametrize("kind", ["status", "drop_after", "garbage", "cut"])
@pytest.mark.parametrize("what", list(READS))
def test_failed_read_is_never_an_empty_one(bench, adapter, what, kind):
    """An empty book would be believed: a read that failed raises."""
    bench.need_wire()
    adapter.place_order(order(bench))
    adapter.place_order(limit(bench, "95"))
    bench.fault(kind, what, times=None)
    error = refusal_of(lambda: READS[what](adapter, bench))
    assert isinstance(error, BrokerError)
    assert not isinstance(error, Refused)


@pytest.mark.parametrize("what", list(READS))
def test_read_over_the_limit(bench, adapter, what):
    bench.need_wire()
    adapter.place_order(order(bench))
    bench.fault("rate_limit", what)
    with pytest.raises(RateLimited):
        READS[what](adapter, bench)


def test_dead_session_while_reading(bench, adapter):
    bench.need_wire()
    adapter.place_order(limit(bench, "95"))
    bench.fault("expired", "book")
    with pytest.raises(SessionExpired):
        adapter.fetch_orders()


def test_partial_book_is_told_as_it_is(bench, adapter):
    """A broker may leave an order out for a while: absence in one read is no proof, and what is
    there is read.
    """
    bench.need_wire()
    first, second = (limit(bench, "95", f"PARTLY0000000000000{n}") for n in (1, 2))
    for request in (first, second):
        adapter.place_order(request)
    bench.fault("partial_book", "book")
    assert [r.client_order_id for r in adapter.fetch_orders()] == [first.client_order_id]
    assert len(adapter.fetch_orders()) == 2


def test_stale_book_is_told_as_it_is(bench, adapter):
    bench.need_wire()
    request = limit(bench, "95")
    adapter.place_order(request)
    bench.venue.clock.advance(60)
    bench.show("94")
    bench.fault("stale_book", "book", seconds=30)
    (stale,) = adapter.fetch_orders()
    assert (stale.status, stale.filled_quantity) == (S.OPEN, 0)
    (now,) = adapter.fetch_orders()
    assert now.status is S.FILLED


@pytest.mark.parametrize("word", ["WAITING FOR GODOT", "COMPLETED?", "open 2", "CANCELABLE"])
def test_unknown_status_is_never_guessed(bench, adapter, monkeypatch, word):
    """A word that nobody documented changes nothing, and hides no other order."""
    bench.need_wire()
    adapter.place_order(order(bench))
    adapter.place_order(limit(bench, "95"))
    bench.say(monkeypatch, Stage.OPEN, word)
    reports = {r.client_order_id: r.status for r in adapter.fetch_orders()}
    assert reports[order(bench).client_order_id] is S.FILLED
    assert reports[limit(bench, 95).client_order_id] in (S.UNKNOWN, S.RECEIVED)
    found = adapter.find_order(limit(bench, "95"))
    assert found.status in (S.UNKNOWN, S.RECEIVED)
    assert found.broker_order_id


def test_more_filled_than_ordered_is_told(bench, adapter):
    """A broker's mistake is reported as it stands: whoever applies it must see it."""
    bench.need_wire()
    request = limit(bench, "95")
    number = adapter.place_order(request).broker_order_id
    bench.venue.fill(bench.account(adapter), number, 12, "95")
    report = adapter.find_order(request)
    assert report.filled_quantity == 12
    assert sum(fill.quantity for fill in adapter.fetch_fills()) == 12


def test_fill_before_the_ack(bench, adapter):
    """The order is filled while its answer is still on the way."""
    bench.need_wire()
    bench.fault("delay", seconds=0.3)
    ack = adapter.place_order(order(bench))
    report = adapter.find_order(order(bench))
    assert (report.broker_order_id, report.status) == (ack.broker_order_id, S.FILLED)
