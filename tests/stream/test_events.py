"""Order events: in order, to their user only, and none lost, whatever Redis does."""

import random
import time
from decimal import Decimal
from uuid import uuid4

import pytest
from django.db import connection, transaction
from django.test import override_settings

from config import servers
from config.stream import Questions
from tests.stream.conftest import lost_pushes
from tests.stream.server import stalling_socket, wait_for
from trading import hub, push
from trading.models import OrderEvent


def subscribe(socket, since=None, channel="orders"):
    message = {"type": "subscribe", "channel": channel}
    return socket.ask(**message if since is None else {**message, "since": since})


def numbers(messages):
    return [message["sequence"] for message in messages if message["type"] == "order"]


def test_events_come_as_they_happen(stream, asha):
    (before,) = asha.happen()
    with asha.connected(stream()) as socket:
        assert subscribe(socket) == {"type": "subscribed", "channel": "orders", "sequence": before}
        first, second = asha.happen("ACCEPTED", "FILL")
        messages = [socket.receive(), socket.receive()]
        assert numbers(messages) == [first, second]
        assert [message["event"]["kind"] for message in messages] == ["ACCEPTED", "FILL"]
        assert messages[0]["order"]["id"] == str(asha.order.pk)
        assert messages[0]["order"]["symbol"] == "NSE:RELIANCE"
        assert socket.drain() == []


def test_published_and_replayed_events_look_the_same(stream, asha):
    with asha.connected(stream()) as socket:
        since = subscribe(socket)["sequence"]
        asha.happen("ACCEPTED")
        published = socket.receive()
    with asha.connected(stream()) as socket:
        subscribe(socket, since)
        assert socket.receive() == published


def test_nobody_gets_events_of_others(stream, asha, bina):
    server = stream()
    with asha.connected(server) as hers, bina.connected(server) as theirs:
        for socket in (hers, theirs):
            for channel in ("orders", "positions", "notifications"):
                subscribe(socket, None, channel)
        (mine,) = asha.happen()
        for channel in ("positions", "notifications"):
            push.publish([(asha.id, channel, 1, {channel[:-1]: {"id": "p", "version": 1}})])
        assert theirs.drain() == []
        assert sorted(m["type"] for m in hers.drain()) == ["notification", "order", "position"]
        subscribe(theirs, 0)
        assert mine not in numbers(theirs.drain())


def test_unsubscribed_channels_are_silent(stream, asha):
    with asha.connected(stream()) as socket:
        asha.happen()
        push.publish([(asha.id, "notifications", 0, {"notification": {"id": "n"}})])
        assert socket.drain() == []
        subscribe(socket)
        answer = socket.ask(type="unsubscribe", channel="orders")
        assert answer == {"type": "unsubscribed", "channel": "orders"}
        asha.happen()
        assert socket.drain() == []


def test_a_client_that_comes_back_gets_what_it_missed(stream, asha):
    server = stream()
    with asha.connected(server) as socket:
        subscribe(socket)
        seen = asha.happen("ONE", "TWO")
        socket.until("order")
        socket.until("order")
    missed = [*asha.happen("THREE"), *asha.happen("FOUR", "FIVE")]
    with asha.connected(server) as socket:
        assert subscribe(socket, seen[-1])["sequence"] == missed[-1]
        replayed = numbers(socket.drain())
        assert [number for number in replayed if number not in seen] == missed
        assert replayed == sorted(replayed)


def test_a_number_that_committed_late_is_replayed(stream, asha, in_thread):
    """Numbers are handed out in one order and commit in another."""
    with transaction.atomic():
        late = OrderEvent.objects.create(
            order=asha.order, user_id=asha.id, kind="LATE", status="OPEN"
        )
        in_thread(_note, asha).join()
        last = OrderEvent.objects.order_by("-id").first()
    assert last is not None
    # ... and now it is committed, after a client has seen the higher number and gone
    with asha.connected(stream()) as socket:
        subscribe(socket, last.pk)
        assert late.pk in numbers(socket.drain())


def _note(trader):
    OrderEvent.objects.create(order=trader.order, user_id=trader.id, kind="EARLY", status="OPEN")


def test_events_during_a_replay_follow_it_without_a_gap(stream, asha, in_thread):
    class Slow(Questions):
        def since(self, user_id, sequence, limit):
            rows = super().since(user_id, sequence, limit)
            time.sleep(0.05)  # what happens now is published before this answer arrives
            return rows

    written = asha.happen()
    writing = True

    def write():
        while writing:
            written.extend(asha.happen("A", "B"))
            time.sleep(0.02)

    writer = in_thread(write)
    server = stream(Slow())
    since, seen = 0, []
    for _ in range(8):
        with asha.connected(server) as socket:
            subscribe(socket, since)
            messages = [socket.until("order") for _ in range(random.randint(1, 20))]
        new = [number for number in numbers(messages) if number > since]
        assert new == sorted(new)
        seen += new
        since = max([since, *new])
    writing = False
    writer.join()
    with asha.connected(server) as socket:
        subscribe(socket, since)
        seen += [number for number in numbers(socket.drain()) if number > since]
    assert seen == written


def test_after_too_many_a_client_starts_again(stream, asha, monkeypatch):
    monkeypatch.setattr(hub, "REPLAY_LIMIT", 5)
    first, *rest = asha.happen(*"ABCDEF")
    (last,) = asha.happen()
    with asha.connected(stream()) as socket:
        subscribe(socket, first)
        assert socket.receive() == {"type": "resync", "channel": "orders", "sequence": last}
        (next_one,) = asha.happen()
        assert numbers(socket.drain()) == [next_one]
        subscribe(socket, rest[2])
        assert socket.drain()[0]["type"] == "order"


def test_a_replay_too_big_to_wait_for_a_client_starts_again(stream, asha, monkeypatch):
    (first,) = asha.happen()
    monkeypatch.setattr(hub, "QUEUE_LIMIT", 10_000)
    (last,) = asha.happen(*"ABCDEFGH")[-1:]
    with asha.connected(stream()) as socket:
        subscribe(socket, first)
        assert socket.receive() == {"type": "resync", "channel": "orders", "sequence": last}


def test_a_number_of_the_future_starts_again(stream, asha):
    (last,) = asha.happen()
    with asha.connected(stream()) as socket:
        subscribe(socket, 2**63 - 1)
        assert socket.receive() == {"type": "resync", "channel": "orders", "sequence": last}
        (following,) = asha.happen()
        assert socket.receive()["sequence"] == following


def test_a_lost_push_is_found_in_the_database(stream, asha, monkeypatch):
    monkeypatch.setattr(hub, "CATCH_UP_SECONDS", 0.5)
    (old,) = asha.happen()
    with asha.connected(stream()) as socket:
        subscribe(socket)
        lost = asha.happen_unheard("LOST")
        heard = asha.happen("HEARD")
        lost += asha.happen_unheard("LOST TOO")
        found = numbers(socket.drain(1.5))
        assert sorted(found) == sorted(lost + heard)
        assert old not in found


def test_positions_are_conflated_and_never_go_back(stream, asha):
    with asha.connected(stream()) as socket:
        subscribe(socket, None, "positions")
        one, two = str(uuid4()), str(uuid4())
        versions = [(one, 1), (two, 1), (one, 2), (two, 3), (two, 2)]
        pnl = Decimal("1E+1")
        push.publish(
            (asha.id, "positions", 1, {"position": {"id": pk, "version": version, "pnl": pnl}})
            for pk, version in versions
        )
        push.publish([(asha.id, "positions", 9, {"position": {"id": one, "version": 1}})])
        positions = [message["position"] for message in socket.drain()]
        assert {p["id"]: p["version"] for p in positions} == {one: 2, two: 3}
        assert len(positions) == 2
        assert positions[0]["pnl"] == "10"


def test_a_client_too_slow_for_its_events_is_told_to_come_back(stream, asha, bina):
    server = stream()
    with (
        asha.connected(server, sock=stalling_socket(server.port), max_queue=1) as stalled,
        bina.connected(server) as other,
    ):
        subscribe(stalled)
        subscribe(other)
        payload = {"order": {"note": "x" * 100_000}, "event": {}}
        for number in range(80):
            push.publish([(asha.id, "orders", 1_000_000 + number, payload)])
        wait_for(lambda: str(asha.id) not in server.app.sockets)
        bina.happen()
        assert other.until("order", 1)
        assert stalled.close_code() == 1013


def test_events_that_are_none_do_no_harm(stream, asha, valkey):
    with asha.connected(stream()) as socket:
        for channel in ("orders", "positions"):
            subscribe(socket, None, channel)
        for body in ("", "[", "{}", f'[["{asha.id}", "positions", 1, {{}}]]', "[[1,2,3,4]]"):
            valkey.publish(push.CHANNEL, body)
        (number,) = asha.happen()
        assert socket.receive()["sequence"] == number


@pytest.fixture
def own_valkey(tmp_path_factory):
    """A Valkey that a test may stop and start."""
    server = servers.Valkey(tmp_path_factory.mktemp("valkey"), durable=False)
    server.prepare()
    server.start()
    server.wait()
    with override_settings(REDIS_URL=servers.redis_url(server.var)):
        yield server
    server.stop()


def test_nothing_is_lost_when_redis_restarts(stream, asha, bina, own_valkey):
    server = stream()
    with asha.connected(server) as one, bina.connected(server) as other:
        for socket, channel in ((one, "orders"), (one, "positions"), (other, "orders")):
            subscribe(socket, None, channel)
        before = asha.happen("BEFORE")
        assert one.receive()["sequence"] == before[0]
        own_valkey.stop()
        started = time.monotonic()
        during = [*asha.happen("DURING", "DURING TOO"), *asha.happen()]
        assert time.monotonic() - started < 0.5  # orders do not wait for Redis
        own_valkey.prepare()
        own_valkey.start()
        own_valkey.wait()
        after = []
        messages = []
        for _ in range(12):  # publishers notice one by one that Redis is back
            after += asha.happen("AFTER")
            messages += one.drain(0.3)
        messages += one.drain(3.0)
        assert sorted(numbers(messages)) == during + after
        assert {"type": "resync", "channel": "positions"} in messages
        assert numbers(other.drain()) == []
        (live,) = asha.happen("LIVE")
        assert one.receive(0.5)["sequence"] == live


def test_sockets_open_while_redis_is_away(asha, own_valkey, stream):
    server = stream()
    own_valkey.stop()
    with asha.connected(server) as socket:
        (missed,) = asha.happen()
        subscribe(socket, 0)
        assert missed in numbers(socket.drain())
        with lost_pushes():
            (later,) = asha.happen()
        own_valkey.prepare()
        own_valkey.start()
        own_valkey.wait()
        assert socket.until("order")["sequence"] == later


def test_a_database_that_is_away_refuses_the_subscription_only(stream, asha, monkeypatch):
    class Broken(Questions):
        def latest(self, user_id):
            raise ConnectionError

    monkeypatch.setattr(hub, "RETRIES", (0.0, None))
    with asha.connected(stream(Broken())) as socket:
        error = subscribe(socket)
        assert (error["type"], error["code"]) == ("error", "unavailable")
        asha.happen()
        assert socket.drain() == []
        assert socket.ask(type="ping") == {"type": "pong"}


def test_threads_give_their_database_connections_back(stream, asha):
    server = stream()
    for _ in range(3):
        with asha.connected(server) as socket:
            subscribe(socket, 0)
    wait_for(lambda: _other_connections() == 0)


def _other_connections():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return cursor.fetchone()[0]
