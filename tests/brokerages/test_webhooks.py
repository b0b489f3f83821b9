# ruff: noqa: F811 - fixtures are imported by their names
"""Signed events: nothing unsigned is read, nothing signed is refused or counted twice."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import redis
from django.core.cache import cache
from django.db import OperationalError, connections
from django.test import Client
from django.utils import timezone

from audit.models import AuditEntry
from brokerages import webhook_secrets, webhook_throttles, webhooks
from brokerages.models import InboundEvent
from tests.trading.conftest import (  # noqa: F401 - fixtures
    Trader,
    _fresh_tables,
    market,
    new_trader,
    trader,
)
from trading.models import Fill, Order, Position
from trading.services import inbound, outbox

EVENTS = "/api/v1/webhooks/events"
A = "rotation-first-4Jq8vN2xWm6Rb9Tc1Ys5Kd"
B = "rotation-second-7Hp3kZ5uFn1Lg8Vx2Qa6Wt"
PRIMARY = "tests-only-hook-6Ty1uIo4Pa7Sd3Fg8Hj5"
SECOND = "tests-only-hook-2Zx7cVb5Nm9Qw4Er1Ty6"

State = InboundEvent.State


def signature(body: bytes, secret: str = PRIMARY) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def send(
    event: Any, secret: str | None = PRIMARY, http: Client | None = None, **headers: str
) -> Any:
    body = event if isinstance(event, bytes) else json.dumps(event).encode()
    if secret is not None:
        headers = {"X-Broker-Signature": signature(body, secret)} | headers
    return (http or Client(raise_request_exception=False)).generic(
        "POST", EVENTS, body, "application/json", headers=headers
    )


def stored() -> InboundEvent:
    return InboundEvent.objects.get()


def run_due(*, later: float = 0) -> int:
    """Do what workers do when ``later`` seconds have passed; return how many tries were made."""
    if later:
        waiting = InboundEvent.objects.filter(state__in=["NEW", "PARKED"])
        for event in waiting:
            event.next_at -= timedelta(seconds=later)
            event.save(update_fields=["next_at"])
    due = InboundEvent.objects.filter(
        state__in=["NEW", "PARKED"], next_at__lte=timezone.now()
    ).values_list("pk", flat=True)
    return sum(inbound.event_process(pk) for pk in list(due))


@pytest.fixture
def resting(trader: Trader) -> Order:
    """An order that rests at its broker."""
    placed = trader.placed(order_type="LIMIT", price="2450.00", quantity=10)
    assert placed["status"] == "OPEN"
    return Order.objects.get()


def fill_of(order: Order, number: int = 1, quantity: int = 4, **more: Any) -> dict[str, Any]:
    return {
        "event_id": f"fill-{number}",
        "type": "fill",
        "connection_id": str(order.connection_id),
        "broker_order_id": order.broker_order_id,
        "fill_id": f"F{number}",
        "quantity": quantity,
        "price": "2449.95",
        "filled_at": datetime.now(UTC).isoformat(),
    } | more


# --- The signature --------------------------------------------------------------------------------

GOOD = json.dumps({"event_id": "m-1", "type": "ping"}).encode()
FLIPPED = GOOD[:-2] + bytes([GOOD[-2] ^ 1]) + GOOD[-1:]
SPACED = json.dumps(json.loads(GOOD), indent=1).encode()
BROKEN = b'{"event_id": "m-1", '
LARGE = b'{"padding": "' + b"x" * 65 * 1024 + b'"}'
SIGNED = signature(GOOD)
ALG = "X-Broker-Signature-Alg"


def _with(value: str, **more: str) -> dict[str, str]:
    return {"X-Broker-Signature": value, **more}


MATRIX: dict[str, tuple[bytes, dict[str, str], int]] = {
    "01 no signature": (GOOD, {}, 401),
    "02 an empty one": (GOOD, _with(""), 401),
    "03 too short": (GOOD, _with(SIGNED[:-1]), 401),
    "04 upper-case hex": (GOOD, _with(SIGNED.upper()), 200),
    "05 not ASCII": (GOOD, _with("\xe9" * 64), 401),
    "06 another algorithm": (GOOD, _with(SIGNED, **{ALG: "HMAC-SHA512"}), 401),
    "07 the algorithm in lower case": (GOOD, _with(SIGNED, **{ALG: "hmac-sha256"}), 401),
    "08 the algorithm named": (GOOD, _with(SIGNED, **{ALG: "HMAC-SHA256"}), 200),
    "09 an additional secret": (GOOD, _with(signature(GOOD, SECOND)), 200),
    "10 a removed secret": (GOOD, _with(signature(GOOD, A)), 401),
    "11 one bit of the body": (FLIPPED, _with(SIGNED), 401),
    "12 the body spaced anew": (SPACED, _with(SIGNED), 401),
    "13 the header twice": (GOOD, _with(f"{SIGNED},{SIGNED}"), 401),
    "14 a body of 65 kB": (LARGE, _with(signature(LARGE)), 413),
    "15 broken JSON, signed": (BROKEN, _with(signature(BROKEN)), 400),
    "16 broken JSON, not signed": (BROKEN, {}, 401),
    # and what else was tried
    "17 too long": (GOOD, _with(SIGNED + "0"), 401),
    "18 with a line end": (GOOD, _with(SIGNED + "\n"), 401),
    "19 not hexadecimal": (GOOD, _with("z" * 64), 401),
    "20 digits of another script": (GOOD, _with("٣" * 64), 401),
    "21 the signature of nothing": (GOOD, _with(signature(b"")), 401),
    "22 with an empty key": (GOOD, _with(signature(GOOD, "")), 401),
    "23 plain SHA-256": (GOOD, _with(hashlib.sha256(GOOD).hexdigest()), 401),
    "24 a form, signed": (b"a=1&b=2", _with(signature(b"a=1&b=2")), 400),
    "25 not UTF-8, signed": (b"\xff\xfe", _with(signature(b"\xff\xfe")), 400),
    "26 right": (GOOD, _with(SIGNED), 200),
}


@pytest.mark.django_db
@pytest.mark.parametrize("row", MATRIX)
def test_signature_matrix(row, monkeypatch):
    body, headers, status = MATRIX[row]
    read = []
    real = webhooks.parse_event
    monkeypatch.setattr(webhooks, "parse_event", lambda *a: (read.append(a), real(*a))[1])

    answer = send(body, None, **headers)

    assert answer.status_code == status, answer.content
    assert bool(read) == (status in {200, 400})  # who did not sign is not even read
    assert InboundEvent.objects.count() == (status == 200)
    if status >= 400:
        error = json.loads(answer.content)["error"]
        assert set(error) == {"code", "message", "detail"}


@pytest.mark.django_db
@pytest.mark.parametrize("given", ["", " ", "short", "change-me-change-me-change-me-change-me"])
def test_without_a_secret_nobody_is_believed(given, settings, client):
    settings.BROKER_WEBHOOK_SECRET = given
    settings.BROKER_WEBHOOK_ADDITIONAL_SECRETS = ["", "  "]

    assert [send(GOOD, secret).status_code for secret in ("", given, PRIMARY)] == [401] * 3
    assert client.get("/readyz").status_code == 503


@pytest.mark.django_db
def test_only_post(client):
    answers = [client.get(EVENTS), client.put(EVENTS), client.delete(EVENTS)]

    assert [answer.status_code for answer in answers] == [405] * 3
    assert answers[0]["Allow"] == "POST"


@pytest.mark.django_db
def test_a_cookie_and_csrf_play_no_part(resting):
    strict = Client(enforce_csrf_checks=True)

    assert send(fill_of(resting), http=strict).status_code == 200


# --- Rotation -------------------------------------------------------------------------------------


@pytest.fixture
def secret_file(settings: Any, tmp_path: Path) -> Callable[..., None]:
    """Secrets in files, as an operator rotates them while the platform runs."""
    settings.BROKER_WEBHOOK_SECRET_FILE = str(tmp_path / "secret")
    settings.BROKER_WEBHOOK_ADDITIONAL_SECRETS_FILE = str(tmp_path / "others")

    def write(primary: str, *others: str) -> None:
        # the new one is known before the old one is gone
        for name, content in (("others", "\n".join(others)), ("secret", primary)):
            draft = tmp_path / f".{name}"
            draft.write_text(content)
            os.replace(draft, tmp_path / name)

    return write


@pytest.mark.django_db(transaction=True)
def test_rotation_under_load_refuses_nothing_valid(secret_file):
    """A, then A and B, then B, at 50 requests a second: no valid delivery is refused, and A is
    refused within a second after its removal.
    """
    secret_file(A)
    good: list[str] = [A]  # what the sender signs with
    answers: list[tuple[str, int, float]] = []
    stop = threading.Event()
    on_their_way = [""] * 4  # what the senders' present deliveries are signed with

    def sender(number: int) -> None:
        http = Client(raise_request_exception=False)
        try:
            for n in range(1000):
                if stop.is_set():
                    return
                on_their_way[number] = A  # until it is chosen
                started, secret = time.monotonic(), random.choice(good)
                on_their_way[number] = secret
                event = {"event_id": f"r-{number}-{n}", "type": "ping"}
                answers.append((secret, send(event, secret, http).status_code, started))
                on_their_way[number] = ""
                time.sleep(max(0, 0.08 - (time.monotonic() - started)))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=sender, args=[n]) for n in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(1.5)
    secret_file(A, B)
    good[:] = [A, B]
    time.sleep(1.5)
    good[:] = [B]  # the sender moves on
    until = time.monotonic() + 10
    while A in on_their_way and time.monotonic() < until:
        time.sleep(0.01)
    secret_file(B)
    removed = time.monotonic()
    time.sleep(1.5)
    stop.set()
    for thread in threads:
        thread.join(10)
    last = send({"event_id": "r-last", "type": "ping"}, A).status_code

    assert Counter(status for _, status, _ in answers) == {200: len(answers)}
    assert {secret for secret, *_ in answers} == {A, B}
    assert len(answers) > 150
    assert last == 401
    assert time.monotonic() - removed < 15


def test_a_file_that_is_half_written_or_gone_opens_no_gap(secret_file, settings, tmp_path):
    def known() -> list[bytes]:
        return [secret.value for secret in webhook_secrets.secrets_known()]

    secret_file(A, B)
    assert known() == [A.encode(), B.encode()]

    (tmp_path / "secret").write_text("")
    assert known() == [A.encode(), B.encode()]
    (tmp_path / "secret").unlink()
    assert known() == [A.encode(), B.encode()]
    secret_file(A)
    assert known() == [A.encode()]  # an empty file that was put there whole counts at once
    secret_file(B)
    assert known() == [B.encode()]
    (tmp_path / "secret").write_text("")
    past = time.time() - 5
    os.utime(tmp_path / "secret", (past, past))  # meant so
    assert known() == []


def test_labels_name_the_secret_and_do_not_tell_it():
    labels = [secret.label for secret in webhook_secrets.secrets_known()]

    assert [label.partition(":")[0] for label in labels] == ["0", "1"]
    assert all(PRIMARY[-4:] not in label for label in labels)
    assert PRIMARY not in repr(webhook_secrets.secrets_known())


@pytest.mark.django_db
def test_metrics_tell_which_secret_is_in_use(client):
    before = client.get("/metrics").content.decode()
    send(GOOD, SECOND)
    after = client.get("/metrics").content.decode()

    label = webhook_secrets.secrets_known()[1].label
    line = f'sauda_webhooks_signed_with_total{{secret="{label}"}}'
    count = {text: float(text.split(line)[1].split()[0]) if line in text else 0 for text in
             (before, after)}  # fmt: skip
    assert count[after] == count[before] + 1
    assert 'sauda_webhooks_total{outcome="ignored",source="events"}' in after


# --- Effects --------------------------------------------------------------------------------------


def test_a_fill_is_counted_at_once_and_once(trader, resting):
    event = fill_of(resting)

    first, again = send(event), send(event)

    assert first.json() == {"status": "APPLIED", "event_id": "fill-1", "reason": ""}
    assert again.json()["status"] == "IGNORED"
    assert (first.status_code, again.status_code) == (200, 200)
    order = trader.order(str(resting.pk))
    assert (order["status"], order["filled_quantity"]) == ("PARTIALLY_FILLED", 4)
    assert order["average_price"] == "2449.95"
    position = Position.objects.get()
    assert (position.quantity, position.open_cost) == (4, Decimal("9799.80"))
    entry = AuditEntry.objects.get(action="order.filled")
    assert (entry.actor_kind, entry.user_id) == ("broker", resting.user_id)


def test_the_same_fill_in_other_words_is_counted_once(trader, resting):
    event = fill_of(resting)
    other = event | {"event_id": "fill-1-again", "extra": "unknown fields are left alone"}
    without = {k: v for k, v in event.items() if k != "event_id"}

    words = [send(e).json()["status"] for e in (event, other, without, without)]

    assert words == ["APPLIED", "APPLIED", "APPLIED", "IGNORED"]
    assert trader.order(str(resting.pk))["filled_quantity"] == 4
    assert Fill.objects.count() == 1


@pytest.mark.parametrize("name", ["order_id", "tag"])
def test_an_order_is_known_by_our_id_and_by_its_tag(trader, resting, name):
    value = str(resting.pk) if name == "order_id" else resting.tag
    event = fill_of(resting) | {name: value}
    del event["broker_order_id"]
    if name == "order_id":
        del event["connection_id"]

    assert send(event).json()["status"] == "APPLIED"
    assert trader.order(str(resting.pk))["filled_quantity"] == 4


def test_a_cancel_and_a_late_fill(trader, resting):
    told = {"type": "order", "order_id": str(resting.pk), "event_id": "o-1", "status": "CANCELLED"}

    assert send(told | {"message": "By the exchange"}).json()["status"] == "APPLIED"
    assert send(fill_of(resting)).json()["status"] == "APPLIED"

    order = trader.order(str(resting.pk))
    assert (order["status"], order["filled_quantity"]) == ("CANCELLED", 4)
    assert order["status_message"] == "By the exchange"


def test_an_older_event_does_not_undo_a_later_one(trader, resting):
    now = datetime.now(UTC)
    told = {"type": "order", "order_id": str(resting.pk)}
    later = told | {"status": "OPEN", "occurred_at": now.isoformat()}
    earlier = told | {
        "status": "TRIGGER_PENDING",
        "occurred_at": (now - timedelta(seconds=9)).isoformat(),
    }

    words = [send(e).json()["status"] for e in (later, earlier)]

    assert words == ["APPLIED", "IGNORED"]
    assert trader.order(str(resting.pk))["status"] == "OPEN"


def test_an_event_of_an_unknown_kind_is_kept_and_ignored(db):
    assert send({"type": "margin_call", "event_id": "x"}).json()["status"] == "IGNORED"
    assert stored().state == State.IGNORED


@pytest.mark.parametrize(
    "wrong",
    [
        {"quantity": 0}, {"quantity": -4}, {"quantity": 1.5}, {"quantity": "4"}, {"quantity": True},
        {"quantity": 10**12}, {"price": "0"}, {"price": "-1"}, {"price": "1e3"}, {"price": "NaN"},
        {"price": "1.00001"}, {"price": [1]}, {"side": "HOLD"}, {"exchange": "NYSE"},
        {"filled_at": "2026-11-23"}, {"filled_at": "2026-11-23T04:00:00"}, {"filled_at": 1},
        {"filled_at": "2199-01-01T00:00:00Z"}, {"type": 1}, {"type": ""}, {"type": "FILL"},
        {"event_id": ""}, {"event_id": "x" * 129}, {"event_id": "a b"}, {"event_id": "a\u0000b"},
        {"connection_id": "1"}, {"connection_id": None}, {"broker_order_id": "x" * 65},
        {"broker_order_id": ""}, {"message": "\u0000"},
    ],
)  # fmt: skip
def test_what_cannot_be_right_is_refused_and_not_kept(resting, wrong):
    event = fill_of(resting) | wrong

    answer = send(event)

    assert answer.status_code == 400, answer.content
    assert InboundEvent.objects.count() == Fill.objects.count() == 0


def test_numbers_are_exact(trader, resting):
    body = json.dumps(fill_of(resting)).encode().replace(b'"2449.95"', b"2449.1001")

    assert send(body).json()["status"] == "APPLIED"
    assert Fill.objects.get().price == Decimal("2449.1001")


def test_what_does_not_say_enough_is_asked_of_the_broker(trader, resting):
    """Two equal parts without an id look the same: only the trade book tells them apart."""
    event = fill_of(resting)
    del event["fill_id"]

    answer = send(event)

    assert answer.json()["status"] == "QUEUED"
    assert Fill.objects.count() == 0
    assert run_due() == 1  # the paper broker's book has the order, and no fill of it
    assert stored().state == State.APPLIED
    assert trader.order(str(resting.pk))["filled_quantity"] == 0


def test_a_stale_event_is_confirmed_by_the_broker_first(trader, resting):
    ago = (datetime.now(UTC) - timedelta(hours=25)).isoformat()

    answer = send(fill_of(resting, occurred_at=ago, filled_at=ago))

    assert answer.json()["status"] == "QUEUED"
    run_due()
    assert Fill.objects.count() == 0
    assert stored().state in {State.APPLIED, State.IGNORED}


def test_replayed_after_a_day_and_without_redis_nothing_happens(trader, resting, settings):
    event = fill_of(resting)
    send(event)
    cache.clear()
    redis.Redis.from_url(settings.REDIS_URL).flushall()
    then = timezone.now() - timedelta(hours=25)
    InboundEvent.objects.update(received_at=then, settled_at=then)
    before = trader.order(str(resting.pk))

    again = send(event)

    assert again.json()["status"] == "IGNORED"
    assert trader.order(str(resting.pk)) == before
    assert Position.objects.get().quantity == 4


# --- Parking, poison, replay ----------------------------------------------------------------------


def test_an_unknown_order_is_parked_until_it_is_known(trader, resting):
    event = fill_of(resting) | {"broker_order_id": "NOT-YET"}

    assert send(event).json()["status"] == "PARKED"
    assert run_due() == 0
    assert run_due(later=1) == 1  # still unknown
    assert (stored().state, stored().attempts) == (State.PARKED, 2)
    Order.objects.filter(pk=resting.pk).update(broker_order_id="NOT-YET")
    assert run_due(later=5) == 1

    assert stored().state == State.APPLIED
    assert trader.order(str(resting.pk))["filled_quantity"] == 4


def test_it_is_given_up_after_five_tries(trader, resting, caplog):
    send(fill_of(resting) | {"broker_order_id": "NEVER"})

    waits = []
    for wait in (1, 5, 30, 120):
        left = stored().next_at - timezone.now()
        waits.append(round(left.total_seconds()))
        assert run_due(later=wait - 0.5) == 0
        assert run_due(later=0.6) == 1

    assert waits == [1, 5, 30, 120]
    assert (stored().state, stored().attempts) == (State.DEAD, 5)
    assert "given up after 5 tries" in caplog.text
    assert run_due(later=1000) == 0


def test_an_administrator_replays_what_was_given_up(trader, resting, admin_user, client):
    send(fill_of(resting) | {"broker_order_id": "LATE"})
    InboundEvent.objects.update(state=State.DEAD, attempts=5, next_at=None)
    Order.objects.filter(pk=resting.pk).update(broker_order_id="LATE")
    client.force_login(admin_user)
    path = "/admin/brokerages/inboundevent/"

    page = client.get(path, {"state__exact": "DEAD"})
    body = client.get(f"{path}{stored().pk}/change/")
    done = client.post(path, {"action": "replay", "_selected_action": [stored().pk]}, follow=True)

    assert b"LATE" in body.content
    assert page.status_code == done.status_code == 200
    assert b"1 replayed" in done.content
    assert run_due() == 1
    assert stored().state == State.APPLIED
    assert AuditEntry.objects.filter(action="webhook.replayed").count() == 1
    assert trader.order(str(resting.pk))["filled_quantity"] == 4


@pytest.fixture
def admin_user(db: None) -> Any:
    from accounts.models import User

    return User.objects.create_superuser(email="root@example.com", password="a long pass phrase 9")


def test_a_poison_message_ends_dead_and_is_not_echoed(trader, resting, monkeypatch):
    real = inbound.fill_apply
    failing = True

    def poisoned(**named: Any) -> Any:
        if failing and named["fill"].fill_id == "F1":
            raise ZeroDivisionError("secret inside")
        return real(**named)

    monkeypatch.setattr(inbound, "fill_apply", poisoned)

    first, second = send(fill_of(resting, 1)), send(fill_of(resting, 2, quantity=3))

    assert (first.status_code, first.json()["status"]) == (200, "PARKED")
    assert b"secret inside" not in first.content
    assert b"ZeroDivision" not in first.content
    assert second.json()["status"] == "APPLIED"
    for wait in (1, 5, 30, 120):
        run_due(later=wait)
    dead = InboundEvent.objects.get(dedupe_key="id:fill-1")
    assert (dead.state, dead.attempts) == (State.DEAD, 5)
    assert trader.order(str(resting.pk))["filled_quantity"] == 3


def test_a_try_is_made_by_one_worker(resting):
    send(fill_of(resting) | {"broker_order_id": "NOBODY"})
    event = stored()
    event.next_at = timezone.now()
    event.save(update_fields=["next_at"])

    assert inbound._claim(event.pk) is not None
    assert inbound._claim(event.pk) is None  # its lease runs


def test_the_sweep_wakes_workers_for_what_is_due(resting, monkeypatch):
    woken: list[int] = []
    monkeypatch.setattr(outbox, "wake_inbox", lambda pk, **_: woken.append(pk))
    send(fill_of(resting) | {"broker_order_id": "NOBODY"})

    assert inbound.events_sweep() == 0
    InboundEvent.objects.update(next_at=timezone.now() - timedelta(seconds=1))
    assert inbound.events_sweep() == 1
    assert woken == [stored().pk]


# --- Outages --------------------------------------------------------------------------------------


def test_without_postgresql_the_sender_is_asked_to_repeat(resting, monkeypatch):
    def down(*_: Any, **__: Any) -> Any:
        raise OperationalError("connection refused")

    monkeypatch.setattr(webhooks, "event_receive", down)

    answer = send(fill_of(resting))

    assert answer.status_code == 503
    assert answer["Retry-After"] == "1"
    assert b"refused" not in answer.content


def test_an_outage_between_the_row_and_its_effect_leaves_neither(trader, resting, monkeypatch):
    def down(**_: Any) -> Any:
        raise OperationalError("server closed the connection")

    with monkeypatch.context() as broken:
        broken.setattr(inbound, "fill_apply", down)
        assert send(fill_of(resting)).status_code == 503
    assert InboundEvent.objects.count() == 0

    assert send(fill_of(resting)).json()["status"] == "APPLIED"
    assert trader.order(str(resting.pk))["filled_quantity"] == 4


def test_without_redis_it_is_taken_all_the_same(trader, resting, settings, monkeypatch):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    settings.RATELIMIT_ENABLE = settings.WAKE_WORKERS = True
    settings.CACHES = {
        "default": settings.CACHES["default"] | {"LOCATION": "redis://127.0.0.1:1/1"}
    }

    took = []
    for number in range(1, 6):
        started = time.monotonic()
        answer = send(fill_of(resting, number, quantity=1))
        took.append(time.monotonic() - started)
        assert (answer.status_code, answer.json()["status"]) == (200, "APPLIED")
    assert sorted(took)[2] < 0.15
    assert trader.order(str(resting.pk))["filled_quantity"] == 5


# --- Limits ---------------------------------------------------------------------------------------


@pytest.fixture
def limited(settings: Any, db: None) -> Any:
    settings.RATELIMIT_ENABLE = True
    settings.ACCOUNTS_THROTTLES = {
        "webhook_invalid_ip": (5, 3600),
        "webhook_valid_ip": (20, 3600),
        "webhook_connection": (5, 3600),
    }
    cache.clear()
    webhook_throttles._marked.clear()
    yield
    cache.clear()
    webhook_throttles._marked.clear()


def test_an_address_that_sends_rubbish_is_shut_out_before_it_is_read(limited, monkeypatch):
    words = [send(GOOD, None).status_code for _ in range(7)]
    read: list[Any] = []
    monkeypatch.setattr(webhooks, "_body", lambda request: read.append(request))

    shut = send(GOOD)

    assert words == [401] * 5 + [429] * 2
    assert shut.status_code == 429
    assert int(shut["Retry-After"]) >= 1
    assert read == []


def test_who_sent_something_valid_is_heard_whatever_else_comes_from_there(limited):
    assert send(GOOD).status_code == 200
    assert [send(GOOD, None).status_code for _ in range(8)][-1] == 429

    assert send({"type": "ping", "event_id": "after"}).status_code == 200


def test_valid_senders_are_limited_after_their_signature(limited):
    words = [send({"type": "ping", "event_id": f"n{n}"}).status_code for n in range(22)]

    assert words == [200] * 20 + [429] * 2
    assert InboundEvent.objects.count() == 20


def test_a_forged_address_counts_as_the_real_one(limited):
    words = [
        send(GOOD, None, **{"X-Forwarded-For": f"10.0.0.{n}"}).status_code for n in range(1, 9)
    ]

    assert words == [401] * 5 + [429] * 3


# --- Many -----------------------------------------------------------------------------------------


def test_any_order_and_any_number_of_times(new_trader, monkeypatch, settings):
    """1,000 deliveries and more of 20 orders, shuffled, with duplicates and one poison among them:
    what is left is what an oracle counts.
    """
    chance = random.Random(20261123)
    settings.PAPER_STARTING_CASH = "10000000"
    one = new_trader()
    orders, oracle = [], {}
    for _ in range(20):
        placed = one.placed(order_type="LIMIT", price="2450.00", quantity=30)
        assert placed["status"] == "OPEN"
        orders.append(Order.objects.get(pk=placed["id"]))
    events: list[dict[str, Any]] = []
    at = datetime.now(UTC) - timedelta(minutes=5)
    for number, order in enumerate(orders):
        filled, value, cancelled = 0, Decimal(0), number % 3 == 0
        for n in range(1, 26 if cancelled else 31):
            price = Decimal("2450.00") - Decimal("0.05") * chance.randrange(100)
            events.append(
                fill_of(
                    order, n, 1, event_id=f"{number}-{n}", fill_id=f"T{number}-{n}",
                    price=str(price), filled_at=(at + timedelta(seconds=n)).isoformat(),
                )
            )  # fmt: skip
            filled, value = filled + 1, value + price
        states = ["OPEN", "PARTIALLY_FILLED", "CANCELLED" if cancelled else "FILLED"]
        for n, word in enumerate(states):
            events.append(
                {
                    "event_id": f"{number}-s{n}", "type": "order", "order_id": str(order.pk),
                    "status": word, "occurred_at": (at + timedelta(seconds=20 * n)).isoformat(),
                    "filled_quantity": filled if n == 2 else n,
                }
            )  # fmt: skip
        oracle[order.pk] = (filled, value, "CANCELLED" if cancelled else "FILLED")
    poison = events[chance.randrange(len(events))]["event_id"]
    while "s" in poison:
        poison = events[chance.randrange(len(events))]["event_id"]
    poisoned_order = orders[int(poison.split("-")[0])].pk
    real = inbound.fill_apply

    def apply(**named: Any) -> Any:
        if named["fill"].fill_id == f"T{poison}":
            raise ArithmeticError
        return real(**named)

    monkeypatch.setattr(inbound, "fill_apply", apply)
    deliveries = events + chance.choices(events, k=len(events) // 2)
    chance.shuffle(deliveries)
    http = Client()

    words = Counter(send(event, http=http).json()["status"] for event in deliveries)
    for _ in range(6):
        run_due(later=200)

    assert len(deliveries) > 900
    assert sum(words.values()) == len(deliveries)
    states = Counter(InboundEvent.objects.values_list("state", flat=True))
    dead = InboundEvent.objects.filter(state="DEAD")
    assert f"id:{poison}" in dead.values_list("dedupe_key", flat=True)
    # the only others are reports of the order that the poison left incomplete
    assert set(dead.values_list("subject", flat=True)) == {str(poisoned_order)}
    assert states["NEW"] == states["PARKED"] == 0
    for order in Order.objects.all():
        filled, value, word = oracle[order.pk]
        if order.pk == poisoned_order:
            assert order.filled_quantity == filled - 1
            continue
        assert (order.filled_quantity, order.fill_value, order.status) == (filled, value, word)
    held = sum(Order.objects.values_list("filled_quantity", flat=True))
    assert Position.objects.get().quantity == held == Fill.objects.count()
