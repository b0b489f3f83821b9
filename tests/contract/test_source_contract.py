"""The requests of the systems that this platform carries on from, as their documents write them."""

import re
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from django.core import mail

from accounts.services.mail import mails_sweep
from brokerages.registry import BROKER_NAMES
from tests.trading.conftest import work
from trading.models import Position

SIGNUP = """
POST /api/v1/auth/signup
Content-Type: application/json

{
  "email": "user@example.com",
  "password": "securepassword"
}
"""

SIGNIN = """
POST /api/v1/auth/signin
Content-Type: application/x-www-form-urlencoded

username=user@example.com&password=securepassword
"""

REQUEST_OTP = """
POST /api/v1/auth/request-otp
Content-Type: application/json

{
  "email": "user@example.com"
}
"""

OTP_LOGIN = """
POST /api/v1/auth/otp-login
Content-Type: application/json

{
  "email": "user@example.com",
  "otp": "123456"
}
"""

REFRESH = """
POST /api/v1/auth/refresh
Content-Type: application/json

{
  "refresh_token": "your-refresh-token"
}
"""

LOGOUT = """
POST /api/v1/auth/logout
Content-Type: application/json

{
  "refresh_token": "your-refresh-token"
}
"""

DASHBOARD = """
GET /api/v1/dashboard/dashboard
Authorization: Bearer <access_token>
"""

ACTIVATE = """
POST /api/v1/dashboard/activate-brokerage
Authorization: Bearer <access_token>
Content-Type: application/json

{
  "brokerage": "zerodha",
  "api_url": "https://api.kite.trade",
  "api_key": "your-api-key",
  "api_secret": "your-api-secret",
  "request_token": "your-request-token"
}
"""

BUY = """
POST /api/v1/dashboard/order/buy
Authorization: Bearer <access_token>
Content-Type: application/json

{
  "stock_ticker": "RELIANCE",
  "quantity": 10,
  "price": 2500.0,
  "order_type": "buy"
}
"""

SELL = """
POST /api/v1/dashboard/order/sell
Authorization: Bearer <access_token>
Content-Type: application/json

{
  "stock_ticker": "RELIANCE",
  "quantity": 10,
  "price": 2600.0,
  "order_type": "sell"
}
"""

CREATE_TRADE = """
POST /api/v1/trade/trade
Authorization: Bearer <access_token>
Content-Type: application/json

{
  "price": 2500.0,
  "quantity": 10,
  "order_id": 1,
  "stock_ticker": "RELIANCE",
  "type": "eq",
  "order_type": "buy",
  "buy_price": 2500.0,
  "brokerage_charge": 20.0,
  "mtf_charge": 0.0
}
"""

ALL_TRADES = """
GET /api/v1/trade/trades
Authorization: Bearer <access_token>
"""

ONE_TRADE = """
GET /api/v1/trade/trade/{trade_id}
Authorization: Bearer <access_token>
"""

UPDATE_TRADE = """
PUT /api/v1/trade/trade/{trade_id}
Authorization: Bearer <access_token>
Content-Type: application/json

{
  "price": 2600.0,
  "quantity": 10,
  "order_id": 1,
  "stock_ticker": "RELIANCE",
  "type": "eq",
  "order_type": "sell",
  "buy_price": 2600.0,
  "brokerage_charge": 20.0,
  "mtf_charge": 0.0
}
"""

TOKEN = "<access_token>"


def tokens_of(response: Any, status: int = 200) -> dict[str, str]:
    assert response.status_code == status, response.content
    body = response.json()
    assert body.keys() == {"access_token", "token_type", "refresh_token"}
    assert body["token_type"] == "bearer"
    for name in ("access_token", "refresh_token"):
        assert re.fullmatch(r"eyJ[\w-]+\.[\w-]+\.[\w-]+", body[name])
    return body


def is_time(text: str) -> bool:
    return datetime.fromisoformat(text).utcoffset() is not None


@pytest.fixture
def signed_up(market: Any, replay: Any) -> dict[str, str]:
    return tokens_of(replay(SIGNUP), 201)


@pytest.fixture
def token(signed_up: dict[str, str], replay: Any) -> str:
    """Of a user with the paper broker connected."""
    text = ACTIVATE.replace('"zerodha"', '"paper"')
    response = replay(text, {TOKEN: signed_up["access_token"]})
    assert response.status_code in (200, 201), response.content
    return signed_up["access_token"]


# --- Sign-in -------------------------------------------------------------------------------------


def test_signup_then_signin(signed_up, replay):
    tokens_of(replay(SIGNIN))


def test_a_second_signup_is_a_conflict(signed_up, replay):
    assert replay(SIGNUP).status_code == 409


def test_otp(signed_up, replay):
    answer = replay(REQUEST_OTP)
    assert answer.status_code == 202
    mails_sweep()
    (message,) = [m for m in mail.outbox if "sign-in code" in m.subject]
    assert message.to == ["user@example.com"]
    code = re.search(r"\b\d{6}\b", message.body)[0]
    wrong = "123457" if code == "123456" else "123456"

    refused = replay(OTP_LOGIN.replace("123456", wrong))

    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_otp")
    tokens_of(replay(OTP_LOGIN, {"123456": code}))
    assert replay(OTP_LOGIN, {"123456": code}).status_code == 401


def test_an_otp_for_nobody_looks_the_same(signed_up, replay):
    known, unknown = replay(REQUEST_OTP), replay(REQUEST_OTP.replace("user@", "nobody@"))

    assert (known.status_code, unknown.status_code) == (202, 202)
    assert known.json()["message"] == unknown.json()["message"]
    assert known.json().keys() == unknown.json().keys()


def test_refresh_rotates_and_logout_ends(signed_up, replay):
    renewed = tokens_of(replay(REFRESH, {"your-refresh-token": signed_up["refresh_token"]}))
    assert renewed["refresh_token"] != signed_up["refresh_token"]

    ended = replay(LOGOUT, {"your-refresh-token": renewed["refresh_token"]})

    assert (ended.status_code, ended.content) == (204, b"")
    again = replay(REFRESH, {"your-refresh-token": renewed["refresh_token"]})
    assert again.status_code == 401
    assert replay(DASHBOARD, {TOKEN: renewed["access_token"]}).status_code == 401


def test_made_up_tokens_are_refused(signed_up, replay):
    assert replay(REFRESH).status_code == 401
    assert replay(DASHBOARD).status_code == 401
    assert replay(LOGOUT).status_code in (204, 401)


def test_register_login_and_me(market, replay):
    made = tokens_of(replay(SIGNUP.replace("signup", "register")), 201)
    as_form = tokens_of(replay(SIGNIN.replace("signin", "login")))
    as_json = tokens_of(replay(SIGNUP.replace("signup", "login")))

    for pair in (made, as_form, as_json):
        me = replay(f"GET /api/v1/auth/me\nAuthorization: Bearer {pair['access_token']}")
        assert me.status_code == 200
        assert me.json()["email"] == "user@example.com"
        assert is_time(me.json()["created_at"])


# --- Dashboard -----------------------------------------------------------------------------------


def test_dashboard_of_a_new_user(signed_up, replay):
    answer = replay(DASHBOARD, {TOKEN: signed_up["access_token"]})

    assert answer.status_code == 200
    body = answer.json()
    assert body["positions"] == body["holdings"] == body["connections"] == []
    assert body["realised_pnl"] == body["unrealised_pnl"] == "0.00"


def test_activate_the_paper_broker(token, replay):
    body = replay(DASHBOARD, {TOKEN: token}).json()

    (connection,) = body["connections"]
    assert (connection["broker"], connection["is_default"]) == ("paper", True)
    assert connection["session"]["state"] == "ACTIVE"
    assert body["funds"]["available"] == "1000000.00"


def test_activation_names_the_brokers_there_are(signed_up, replay):
    """As written the example is for a broker that has to be in the registry."""
    answer = replay(ACTIVATE, {TOKEN: signed_up["access_token"]})

    if "zerodha" not in BROKER_NAMES:
        assert answer.status_code == 422
        assert answer.json()["error"]["detail"]["available"] == list(BROKER_NAMES)
    assert b"your-api-secret" not in answer.content


def test_activation_keeps_no_secret_in_its_answer(signed_up, replay):
    text = ACTIVATE.replace('"zerodha"', '"paper"')
    answer = replay(text, {TOKEN: signed_up["access_token"]})

    assert b"your-api-secret" not in answer.content
    assert b"your-request-token" not in answer.content


@pytest.mark.parametrize(
    ("text", "side", "price"), [(BUY, "BUY", "2500.00"), (SELL, "SELL", "2600.00")]
)
def test_orders_by_ticker(token, replay, text, side, price):
    answer = replay(text, {TOKEN: token})

    assert answer.status_code == 201, answer.content
    order = answer.json()
    assert {
        "symbol": order["symbol"],
        "side": order["side"],
        "quantity": order["quantity"],
        "order_type": order["order_type"],
        "price": order["price"],
        "broker": order["broker"],
    } == {
        "symbol": "NSE:RELIANCE",
        "side": side,
        "quantity": 10,
        "order_type": "LIMIT",
        "price": price,
        "broker": "paper",
    }
    assert is_time(order["created_at"])
    listed = replay(f"GET /api/v1/dashboard/orders\nAuthorization: Bearer {token}")
    assert [row["id"] for row in listed.json()["results"]] == [order["id"]]


def test_an_order_without_a_price_is_a_market_order(token, replay):
    answer = replay(BUY.replace('  "price": 2500.0,\n', ""), {TOKEN: token})

    assert (answer.status_code, answer.json()["order_type"]) == (201, "MARKET")
    work()
    trades = replay(f"GET /api/v1/dashboard/trades\nAuthorization: Bearer {token}").json()
    (trade,) = trades["results"]
    assert (trade["stock_ticker"], trade["status"], trade["origin"]) == (
        "RELIANCE",
        "open",
        "BROKER",
    )


def test_two_orders_are_two_orders(token, replay):
    """The source system knows no idempotency keys."""
    first, second = replay(BUY, {TOKEN: token}), replay(BUY, {TOKEN: token})

    assert first.json()["id"] != second.json()["id"]


# --- Trades --------------------------------------------------------------------------------------


def test_trades_are_noted_read_and_closed(token, replay):
    created = replay(CREATE_TRADE, {TOKEN: token})

    assert created.status_code == 201, created.content
    trade = created.json()
    expected = {
        "stock_ticker": "RELIANCE",
        "type": "eq",
        "quantity": 10,
        "buy_price": "2500.00",
        "sell_price": None,
        "capital_used": "25000.00",
        "status": "open",
        "brokerage_charge": "20.00",
        "mtf_charge": "0.00",
        "order_id": "1",
    }
    assert expected == {name: trade[name] for name in expected}
    assert is_time(trade["order_executed_at"])

    fill = {TOKEN: token, "{trade_id}": trade["id"]}
    assert replay(ONE_TRADE, fill).json() == trade
    assert replay(ALL_TRADES, {TOKEN: token}).json() == {"results": [trade], "next": None}

    closed = replay(UPDATE_TRADE, fill)

    assert closed.status_code == 200, closed.content
    body = closed.json()
    assert (body["id"], body["status"], body["sell_price"]) == (trade["id"], "closed", "2600.00")
    assert (body["buy_price"], body["capital_used"]) == ("2600.00", "26000.00")
    # bought and sold at 2600: the charges are lost
    assert Decimal(body["net_pnl"]) == Decimal("-20.00")
    assert replay(ONE_TRADE, fill).json() == body
    assert not Position.objects.exists()


# --- Around it -----------------------------------------------------------------------------------


def test_health_and_front_door(market, replay):
    health = replay("GET /health")
    assert health.status_code == 200
    assert health.json()["status"] in ("ok", "degraded")
    assert health["X-Request-ID"]
    front = replay("GET /").json()
    assert (front["openapi"], front["docs"], front["redoc"]) == ("/openapi.json", "/docs", "/redoc")
    for path in ("/openapi.json", "/docs", "/redoc"):
        assert replay(f"GET {path}").status_code == 200
