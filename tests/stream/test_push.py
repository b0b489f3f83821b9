"""Publishing: after the commit, in one command, and never at an order's expense."""

import json
import os
import signal
import time
from datetime import UTC, datetime
from decimal import Decimal
from uuid import uuid4

import pytest
import redis
from django.db import transaction
from django.test import override_settings

from config import servers
from trading import push

USER = uuid4()


def message(number, **payload):
    return (USER, "orders", number, payload or {"order": {}, "event": {}})


@pytest.fixture
def published(valkey):
    """Return what was published since the last call, one list of numbers for each command."""
    listener = valkey.pubsub(ignore_subscribe_messages=True)
    listener.subscribe(push.CHANNEL)
    listener.get_message(timeout=1)

    def read():
        found = []
        while (event := listener.get_message(timeout=0.2)) is not None:
            found.append([number for _, _, number, _ in json.loads(event["data"])])
        return found

    yield read
    listener.close()


def test_nothing_leaves_before_the_commit(transactional_db, published):
    with transaction.atomic():
        push.publish_on_commit([message(1), message(2)])
        assert published() == []
    assert published() == [[1, 2]]


def test_nothing_leaves_after_a_rollback(transactional_db, published):
    with transaction.atomic():
        push.publish_on_commit([message(1)])
        transaction.set_rollback(True)
    assert published() == []
    with transaction.atomic():
        push.publish_on_commit([message(2)])
    assert published() == [[2]]


def test_one_command_for_a_transaction(transactional_db, published):
    with transaction.atomic():
        push.publish_on_commit([message(1)])
        push.publish_on_commit([message(2)])
        push.publish_on_commit([message(3)])
    assert published() == [[1, 2, 3]]


def test_savepoints_keep_their_own_fate(transactional_db, published):
    with transaction.atomic():
        with transaction.atomic():
            push.publish_on_commit([message(1)])
        push.publish_on_commit([message(2)])  # the savepoint is released: one fate
        with transaction.atomic():
            push.publish_on_commit([message(3)])
            with transaction.atomic():
                push.publish_on_commit([message(4)])
            transaction.set_rollback(True)
        push.publish_on_commit([message(5)])
        with transaction.atomic():
            push.publish_on_commit([message(6)])
    assert published() == [[1, 2, 5], [6]]


def test_outside_a_transaction_it_leaves_at_once(transactional_db, published):
    push.publish_on_commit([message(1)])
    push.publish_on_commit([])
    assert published() == [[1]]


def test_amounts_and_times_are_exact_text():
    at = datetime(2026, 11, 23, 9, 15, tzinfo=UTC)
    amounts = [Decimal("1E+3"), Decimal("0.0500"), Decimal("0E-9"), Decimal("-1.50")]
    plain = ["1000", "0.0500", "0.000000000", "-1.50"]
    body = json.loads(push.encode([message(1, order={"amounts": amounts, "at": at})]))
    assert body == [
        [str(USER), "orders", 1, {"order": {"amounts": plain, "at": "2026-11-23T09:15:00Z"}}]
    ]


@pytest.fixture
def away():
    """An address where nobody listens."""
    with override_settings(REDIS_URL="unix:///nonexistent/redis.sock?db=0"):
        yield


def test_without_redis_nothing_is_raised(transactional_db, away):
    with transaction.atomic():
        push.publish_on_commit([message(1)])
    push.publish([message(2)])


def test_what_has_no_form_in_json_raises_nothing(valkey):
    push.publish([message(1, order={("a", "b"): object()})])


@pytest.fixture
def own_valkey(tmp_path_factory):
    server = servers.Valkey(tmp_path_factory.mktemp("valkey"), durable=False)
    server.prepare()
    server.start()
    server.wait()
    yield server
    server.child.send_signal(signal.SIGCONT)
    server.stop()


def test_a_redis_that_hangs_costs_a_tenth_of_a_second_once_a_second(own_valkey):
    publisher = push.Publisher(servers.redis_url(own_valkey.var))
    assert publisher.publish(b"1")
    own_valkey.child.send_signal(signal.SIGSTOP)
    started = time.monotonic()
    assert not publisher.publish(b"2")
    assert 0.09 < time.monotonic() - started < 0.3
    started = time.monotonic()
    assert not any(publisher.publish(b"3") for _ in range(1000))
    assert time.monotonic() - started < 0.05
    own_valkey.child.send_signal(signal.SIGCONT)
    time.sleep(push.PAUSE)
    assert publisher.publish(b"4")


def test_a_restart_between_two_publishes_loses_neither(own_valkey):
    url = servers.redis_url(own_valkey.var)
    publisher = push.Publisher(url)
    assert publisher.publish(b"1")
    own_valkey.stop()
    own_valkey.prepare()
    own_valkey.start()
    own_valkey.wait()
    assert publisher.publish(b"2")


def test_a_closed_idle_connection_is_replaced(valkey, published):
    push.publish([message(1)])
    for known in valkey.client_list(_type="normal"):
        if known["cmd"].startswith("publish"):
            valkey.client_kill_filter(_id=known["id"])
    push.publish([message(2)])
    assert published() == [[1], [2]]


def test_a_forked_worker_has_its_own_connection(published):
    push.publish([message(1)])
    child = os.fork()
    if not child:
        push.publish([message(2)])
        os._exit(0)
    os.waitpid(child, 0)
    push.publish([message(3)])
    assert published() == [[1], [2], [3]]


def test_publishing_is_quick(valkey):
    push.publish([message(1)])
    started = time.perf_counter()
    for number in range(1000):
        push.publish([message(number)])
    assert (time.perf_counter() - started) / 1000 < 0.001


def test_the_address_of_the_settings_is_used(published):
    assert isinstance(push._publisher(), push.Publisher)
    with pytest.raises(redis.ConnectionError), override_settings(REDIS_URL="unix:///none.sock"):
        push.ask(b"PING")
