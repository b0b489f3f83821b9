# ruff: noqa: F811 - fixtures are imported by their names
"""Brokers' own postbacks: a hint to read the order, whatever they say of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client

from accounts.models import User
from brokerages import crypto, webhook_throttles
from brokerages.errors import OutcomeUnknown
from brokerages.models import BrokerConnection, BrokerSession, InboundEvent, PostbackAddress
from brokerages.services import (
    adapter_for,
    connection_create,
    connection_disable,
    session_open,
)
from brokerages.services.inbox import event_body
from brokerages.services.postbacks import postback_url
from brokerages.services.rotation import credentials_remaining, credentials_rotate
from brokerages.types import Exchange, FillReport, OrderReport, ReportedStatus, Side
from tests.brokerages import fake_broker
from tests.brokerages.test_webhooks import run_due
from tests.trading.conftest import (  # noqa: F401 - fixtures
    Trader,
    _fresh_tables,
    market,
    new_trader,
    trader,
    work,
)
from trading.models import Fill, Order, Position

SECRET = "the-app-secret-of-the-user-9"
AT = "2026-11-23 09:30:00"
State = InboundEvent.State


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> type[fake_broker.SigningBroker]:
    return fake_broker.install(monkeypatch)


def connect(trader: Trader, name: str) -> BrokerConnection:
    user = User.objects.get(email=trader.email)
    connection = connection_create(
        user_id=user.pk, broker=name, credentials={"api_key": "key-1", "api_secret": SECRET}
    )
    session_open(user_id=user.pk, connection_id=connection.pk)
    return connection


@pytest.fixture
def connection(trader: Trader, broker: Any) -> BrokerConnection:
    return connect(trader, "signing")


@pytest.fixture
def silent(trader: Trader, broker: Any) -> BrokerConnection:
    return connect(trader, "silent")


def place(trader: Trader, connection: BrokerConnection, broker: Any) -> Order:
    """Place an order there; the broker fills 4 of 10 later, and says so in its books."""
    placed = trader.placed(
        connection_id=str(connection.pk), order_type="LIMIT", price="2450.00", quantity=10
    )
    order = Order.objects.get(pk=placed["id"])
    assert order.status == "OPEN"
    broker.reports[order.broker_order_id] = OrderReport(
        order.broker_order_id, order.tag, ReportedStatus.PARTIALLY_FILLED, 4, Decimal("2449.95"),
        datetime.now(UTC),
    )  # fmt: skip
    broker.fills.append(
        FillReport(
            "T1", order.broker_order_id, order.tag, Exchange.NSE, Side.BUY, 4,
            Decimal("2449.95"), datetime.now(UTC),
        )
    )  # fmt: skip
    return order


def path_of(connection: BrokerConnection) -> str:
    url = postback_url(user_id=connection.user_id, connection_id=connection.pk)
    assert url is not None
    return "/api/" + url.partition("/api/")[2]


def told(order: Order | str, **more: Any) -> dict[str, Any]:
    body = {
        "order_id": order if isinstance(order, str) else order.broker_order_id,
        "order_timestamp": AT,
        # what must never be believed
        "status": "COMPLETE", "filled_quantity": 10, "average_price": 1.0,
    } | more  # fmt: skip
    return {"checksum": fake_broker.checksum(body, SECRET)} | body


def post(connection: BrokerConnection | str, body: Any) -> Any:
    path = connection if isinstance(connection, str) else path_of(connection)
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Client(raise_request_exception=False).generic("POST", path, raw, "application/json")


def stored() -> InboundEvent:
    return InboundEvent.objects.get()


# --- What it does ---------------------------------------------------------------------------------


def test_it_makes_the_platform_read_the_order(trader, connection, broker):
    order = place(trader, connection, broker)

    answer = post(connection, told(order))

    assert (answer.status_code, answer.json()["status"]) == (200, "QUEUED")
    assert Fill.objects.count() == 0  # nothing it says is believed
    assert broker.reads == []  # and nobody is asked while the sender waits
    assert run_due() == 1
    after = trader.order(str(order.pk))
    assert (after["status"], after["filled_quantity"]) == ("PARTIALLY_FILLED", 4)
    assert after["average_price"] == "2449.95"
    assert Position.objects.get().quantity == 4
    assert stored().state == State.APPLIED


def test_an_unsigned_one_is_a_hint_as_well(trader, silent, broker):
    order = place(trader, silent, broker)

    assert post(silent, told(order, checksum="")).json()["status"] == "QUEUED"
    run_due()

    assert trader.order(str(order.pk))["filled_quantity"] == 4
    assert not stored().signed


@pytest.mark.parametrize("checksum", ["", "0" * 64, None, 1, ["x"], "ä"])
def test_a_wrong_checksum_is_refused(trader, connection, broker, checksum):
    order = place(trader, connection, broker)

    assert post(connection, told(order, checksum=checksum)).status_code == 401
    assert InboundEvent.objects.count() == 0


def test_the_checksum_of_another_user_is_refused(trader, connection, broker):
    order = place(trader, connection, broker)
    body = told(order)
    body["checksum"] = fake_broker.checksum(body, "the-app-secret-of-somebody-else")

    assert post(connection, body).status_code == 401


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"null", b'{"order_id": 1'])
def test_what_is_no_postback_at_all(silent, body):
    answer = post(silent, body)

    assert answer.status_code == 400
    assert InboundEvent.objects.count() == 0


def test_what_is_not_about_an_order_is_kept_and_ignored(silent):
    answer = post(silent, {"update_type": "gtt_order", "gtt_order_id": "G1"})

    assert (answer.status_code, answer.json()["status"]) == (200, "IGNORED")
    assert run_due() == 0


def test_repeated_it_changes_nothing_and_reads_nothing(trader, connection, broker):
    order = place(trader, connection, broker)
    post(connection, told(order))
    run_due()

    again = post(connection, told(order))

    assert again.json()["status"] == "IGNORED"
    assert (run_due(), len(broker.reads)) == (0, 1)


def test_one_read_answers_all_hints_that_came_before_it(trader, connection, broker):
    order = place(trader, connection, broker)
    for number in range(10):
        post(connection, told(order, guid=number, order_timestamp=f"{AT}.{number}"))
    InboundEvent.objects.update(received_at=datetime(2026, 11, 23, tzinfo=UTC))

    run_due()

    assert len(broker.reads) == 1
    assert set(InboundEvent.objects.values_list("state", flat=True)) == {"APPLIED"}
    assert trader.order(str(order.pk))["filled_quantity"] == 4


def test_an_order_of_somebody_else_cannot_be_reached(trader, new_trader, connection, broker):
    victim = new_trader()
    theirs = place(victim, connect(victim, "signing"), broker)

    post(connection, told(theirs))
    for wait in (0, 1, 5, 30, 120):
        run_due(later=wait)

    assert victim.order(str(theirs.pk))["filled_quantity"] == 0
    assert (stored().state, stored().attempts) == (State.DEAD, 5)


def test_a_tag_joined_to_the_id_of_another_order_moves_neither_wrongly(trader, silent, broker):
    first, second = place(trader, silent, broker), place(trader, silent, broker)
    broker.fills.pop()  # only the first has filled

    post(silent, told(first, tag=second.tag))
    run_due()

    assert trader.order(str(first.pk))["filled_quantity"] == 4
    assert trader.order(str(second.pk))["filled_quantity"] == 0


def test_it_may_come_before_our_own_answer_of_the_broker(trader, connection, broker):
    order = place(trader, connection, broker)
    Order.objects.filter(pk=order.pk).update(broker_order_id="")

    post(connection, told(order))
    run_due()
    assert stored().state == State.PARKED
    Order.objects.filter(pk=order.pk).update(broker_order_id=order.broker_order_id)
    run_due(later=1)

    assert stored().state == State.APPLIED
    assert trader.order(str(order.pk))["filled_quantity"] == 4


def test_a_broker_that_cannot_be_read_is_asked_again(trader, connection, broker):
    order = place(trader, connection, broker)
    broker.fails.append(OutcomeUnknown("no answer", broker="signing"))

    post(connection, told(order))
    run_due()
    parked = stored()
    run_due(later=1)

    assert (parked.state, parked.error) == (State.PARKED, "no answer")
    assert stored().state == State.APPLIED


def test_without_a_session_it_is_left_to_the_next_read_of_the_books(trader, connection, broker):
    order = place(trader, connection, broker)
    BrokerSession.objects.filter(connection=connection).update(state="LOGIN_NEEDED")

    post(connection, told(order))
    run_due()

    assert (stored().state, broker.reads) == (State.IGNORED, [])


# --- Sessions by approval -------------------------------------------------------------------------


def notice(token: str, **more: Any) -> dict[str, Any]:
    return {
        "message_type": "access_token", "client_id": "key-1", "user_id": "S1",
        "access_token": token, "token_type": "Bearer",
    } | more  # fmt: skip


def session_token(connection: BrokerConnection) -> str:
    adapter = adapter_for(connection)
    assert adapter.token is not None
    return adapter.token.secrets["access_token"]


def test_an_approved_session_is_taken_and_its_token_kept_nowhere_else(silent):
    BrokerSession.objects.filter(connection=silent).update(state="LOGIN_NEEDED", ciphertext="")

    answer = post(silent, notice("approved-token-1"))

    assert answer.json()["status"] == "QUEUED"
    assert b"approved-token-1" not in bytes(stored().body)
    before = BrokerSession.objects.get(connection=silent).state
    assert before == "LOGIN_NEEDED"  # nothing is asked while the sender waits
    run_due()
    assert (stored().state, bytes(stored().body)) == (State.APPLIED, b"")
    assert session_token(silent) == "approved-token-1"
    assert post(silent, notice("approved-token-1")).json()["status"] == "IGNORED"


@pytest.mark.parametrize(
    "forged",
    [
        notice("revoked"),  # the broker does not know it
        notice("other-1"),  # of another account, in the name of this one
        notice("other-1", user_id="S2"),
    ],
)
def test_a_forged_notice_does_not_replace_the_session(silent, forged):
    post(silent, forged)
    run_due()

    assert stored().state == State.DEAD
    assert session_token(silent) == "t"


def test_a_notice_for_another_app_is_ignored(silent):
    assert post(silent, notice("approved", client_id="key-2")).json()["status"] == "IGNORED"
    assert session_token(silent) == "t"


# --- The address ----------------------------------------------------------------------------------


def test_an_address_is_made_with_the_connection_and_can_be_shown_again(trader, connection):
    first = trader.get(f"/connections/{connection.pk}/postback")
    again = trader.get(f"/connections/{connection.pk}/postback")

    assert first == again
    url = first["url"]
    token = url.rpartition("/")[2]
    assert url.startswith("http://127.0.0.1:8000/api/v1/webhooks/signing/")
    assert len(token) >= 32  # 192 random bits
    row = PostbackAddress.objects.get()
    assert token not in f"{row.token_hash}{row.ciphertext}"


def test_a_new_address_ends_the_one_before(trader, connection, broker):
    order = place(trader, connection, broker)
    old = path_of(connection)

    answer = trader.call("POST", f"/connections/{connection.pk}/postback")

    assert answer.status_code == 200
    assert post(old, told(order)).status_code == 401
    assert (
        post("/api/" + answer.json()["url"].partition("/api/")[2], told(order)).status_code == 200
    )


def test_its_page_shows_it_to_its_owner_and_makes_a_new_one(trader, new_trader, connection):
    owner, stranger = (User.objects.get(email=t.email) for t in (trader, new_trader()))
    page, browser, other = f"/connections/{connection.pk}/postback", Client(), Client()
    browser.force_login(owner)
    other.force_login(stranger)
    before = path_of(connection)

    assert f"/connections/{connection.pk}/postback" in browser.get("/connections").content.decode()
    assert before in browser.get(page).content.decode()
    assert [other.get(page).status_code, other.post(page).status_code] == [404, 404]
    assert path_of(connection) == before
    assert browser.post(page, follow=True).status_code == 200
    assert path_of(connection) != before
    assert path_of(connection) in browser.get(page).content.decode()
    paper = f"/connections/{trader.connection_id}/postback"
    assert browser.get(paper).status_code == 404
    assert Client().get(page).status_code == 302


def test_only_its_owner_sees_or_changes_it(trader, new_trader, connection):
    path = f"/connections/{connection.pk}/postback"
    stranger = new_trader()
    before = path_of(connection)

    assert [stranger.call(m, path).status_code for m in ("GET", "POST")] == [404, 404]
    assert path_of(connection) == before


def test_the_paper_broker_has_none(trader):
    path = f"/connections/{trader.connection_id}/postback"

    assert trader.get(path) == {"url": None}
    answer = trader.call("POST", path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "postbacks_not_supported")


def test_an_address_that_belongs_to_nobody(trader, connection, silent, broker):
    order = place(trader, connection, broker)
    good = path_of(connection)
    wrong = [
        good[:-1] + ("A" if good[-1] != "A" else "B"),
        good.replace("/signing/", "/silent/"),
        good.replace("/signing/", "/paper/"),
        good.replace("/signing/", "/nobody/"),
        "/api/v1/webhooks/signing/x",
    ]

    assert [post(path, told(order)).status_code for path in wrong] == [401] * len(wrong)
    assert InboundEvent.objects.count() == 0


def test_a_disabled_connection_has_no_address_any_more(trader, connection, broker):
    path = path_of(connection)
    connection_disable(user_id=connection.user_id, connection_id=connection.pk)

    assert post(path, told("B1")).status_code == 401
    assert not PostbackAddress.objects.exists()


def test_addresses_and_bodies_move_to_a_new_key(trader, connection, broker, settings):
    order = place(trader, connection, broker)
    path = path_of(connection)
    post(connection, told(order))
    body = event_body(stored())
    settings.CREDENTIAL_KEYS = [
        "bmV3LWtleS1mb3ItdGhlLXRlc3RzLTMyLWJ5dGVzISE=",
        *settings.CREDENTIAL_KEYS,
    ]
    assert credentials_remaining() > 0

    moved = sum(progress.moved for progress in credentials_rotate(batch=1))
    settings.CREDENTIAL_KEYS = settings.CREDENTIAL_KEYS[:1]

    assert moved >= 4
    assert credentials_remaining() == 0
    assert path_of(connection) == path
    assert event_body(stored()) == body
    run_due()
    assert stored().state == State.APPLIED


def test_a_body_is_stored_encrypted(trader, silent, broker):
    post(silent, told("B1", note="what nobody may read"))

    assert b"nobody" not in bytes(stored().body)
    assert b"nobody" in event_body(stored())
    moved = stored()
    other = connect(trader, "signing")
    moved.connection = other
    with pytest.raises(crypto.DecryptionError):
        event_body(moved)


def test_the_address_does_not_reach_the_log(trader, connection, caplog):
    token = path_of(connection).rpartition("/")[2]
    from config.redaction import RedactionFilter

    post(connection, told("B1", checksum="wrong"))
    lines = []
    for record in caplog.records:
        RedactionFilter().filter(record)
        lines.append(record.getMessage())

    assert any("/webhooks/signing/" in line for line in lines)
    assert not any(token in line for line in lines)


# --- Limits ---------------------------------------------------------------------------------------


def test_one_connection_cannot_send_without_end(silent, settings):
    settings.RATELIMIT_ENABLE = True
    settings.ACCOUNTS_THROTTLES = {"webhook_connection": (5, 3600)}
    cache.clear()

    words = [post(silent, told(f"B{n}")).status_code for n in range(7)]

    assert words == [200] * 5 + [429] * 2
    cache.clear()
    webhook_throttles._marked.clear()


@pytest.mark.parametrize("number", ["a\\u0000b", "\\ud800", "ä"])
def test_ids_that_no_order_has_are_refused(number: str) -> None:
    """They could not be stored; nobody signs what Upstox posts."""
    from brokerages import webhooks
    from brokerages.registry import adapter_class

    body = f'{{"update_type":"order","order_id":"{number}","status":"open"}}'.encode()
    with pytest.raises(webhooks.Refusal) as refused:
        webhooks._looked_at(adapter_class("upstox"), None, body)
    assert refused.value.status == 400
