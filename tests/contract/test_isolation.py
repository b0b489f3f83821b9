"""Nobody reaches what is another's: every operation with an id, for everyone who may not use it.

The matrix comes from the API description, so that an operation without a place in it fails here.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.apps import apps
from django.utils import timezone

from accounts.clients import Client as Device
from accounts.models import LoginSession, User
from accounts.services.sessions import session_open
from accounts.services.users import user_deactivate
from accounts.tokens import AccessToken
from audit.models import AuditEntry
from marketdata.models import Watchlist
from marketdata.services import watchlist_create
from tests.contract.conftest import HTTP
from tests.contract.operations import Operation, operations
from tests.trading.conftest import Trader
from trading.models import Fill, Notification, Order, Position, Trade

# What anyone who is signed in may read: the market.
MARKET = {
    "GET /api/v1/instruments/{key}",
    "GET /api/v1/instruments/{key}/candles",
    "GET /api/v1/instruments/{key}/expiries",
    "GET /api/v1/instruments/{key}/option-chain",
}
# Whose it is, is proved by what the broker carries through: tests/brokerages/test_oauth.py.
BY_STATE = "GET /api/v1/connections/callback/{broker}"
# What the owner is answered at the paper broker, which has no login page.
OTHERWISE = {"GET /api/v1/connections/{connection_id}/login-url": 422}
SHARED = {"key": "NSE:RELIANCE", "symbol": "NSE:INFY"}
ANY_METHOD = ("GET", "POST", "PUT", "PATCH", "DELETE")
REFUSALS = {401, 403, 404}

JOURNAL = {
    "price": "100",
    "quantity": 1,
    "stock_ticker": "INFY",
    "type": "eq",
    "order_type": "buy",
    "buy_price": "100",
}


@dataclass
class Owner:
    """A user with one of everything. ``ids`` fill the paths; ``secrets`` are for no other eyes."""

    trader: Trader
    user: User
    refresh_token: str
    ids: dict[str, str]
    secrets: set[str]

    def snapshot(self) -> dict[str, Any]:
        """Return every row of theirs, to find that none changed."""
        return {
            model._meta.label: sorted(map(str, model.objects.values_list()))
            for app in ("brokerages", "trading", "marketdata")
            for model in apps.get_app_config(app).get_models()
        } | {
            "user": list(User.objects.filter(pk=self.user.pk).values_list()),
            "sessions": list(
                self.user.login_sessions.order_by("pk").values_list("pk", "revoked_at")
            ),
        }


def _make_owner(new_trader: Callable[[], Trader]) -> Owner:
    trader = new_trader()
    user = User.objects.get(email=trader.email)
    trader.placed(quantity=10)
    resting = trader.placed(order_type="LIMIT", price="2450.00")
    trader.placed(quantity=1000)  # rejected: a notification
    trade = trader.call("POST", "/trade/trade", JOURNAL).json()
    watchlist = watchlist_create(user_id=user.pk, name="Mine", symbols=["NSE:RELIANCE"])
    pair = session_open(
        user=user, method=LoginSession.Method.PASSWORD, client=Device(ip="127.0.0.1")
    )
    own = {"user_id": user.pk}
    ids = {
        "order_id": resting["id"],
        "position_id": str(Position.objects.get(**own).pk),
        "trade_id": trade["id"],
        "notification_id": str(Notification.objects.filter(**own).latest("created_at").pk),
        "session_id": str(user.login_sessions.order_by("pk").first().pk),
        "connection_id": trader.connection_id,
        "watchlist_id": str(watchlist.pk),
        "broker": "zerodha",
        "token": "none-that-any-connection-has",
        "entry_id": str(AuditEntry.objects.filter(**own).latest("pk").pk),
        **SHARED,
    }
    rows: list[Any] = []
    for model in (Order, Position, Trade, Notification, Watchlist, LoginSession):
        rows += model.objects.filter(**own).values_list("pk", flat=True)
    secrets = {str(pk) for pk in rows} | {trader.email, trader.connection_id, str(user.pk)}
    secrets |= set(Fill.objects.filter(**own).values_list("fill_id", flat=True))
    return Owner(trader, user, pair.refresh_token, ids, secrets)


@pytest.fixture
def owner(new_trader: Callable[[], Trader]) -> Owner:
    return _make_owner(new_trader)


def with_ids() -> Iterator[Operation]:
    return (o for o in operations() if o.parameters and str(o) != BY_STATE)


def ask(operation: Operation, path: str, token: str, method: str = "") -> Any:
    """Send the operation's own example, so that nothing but the asker can be wrong."""
    headers = {"Idempotency-Key": "matrix"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    return HTTP.generic(
        method or operation.method,
        path,
        b"" if operation.example is None else json.dumps(operation.example).encode(),
        "application/json",
        headers=headers,
    )


def expired(owner: Owner) -> str:
    """Return an access token of the owner that was good until a minute ago."""
    token = AccessToken()
    token["sub"] = str(owner.user.pk)
    token["sid"] = owner.ids["session_id"]
    token.set_exp(from_time=timezone.now(), lifetime=timedelta(minutes=-1))
    return str(token)


def refuse_everything(owner: Owner, token: str, allowed: set[int]) -> None:
    """Ask for every operation on the owner's objects; each must be refused and change nothing."""
    before = owner.snapshot()
    wrong = []
    for operation in with_ids():
        if str(operation) in MARKET and token and 404 in allowed:
            continue
        path = operation.at(owner.ids)
        response = ask(operation, path, token)
        leaks = [secret for secret in owner.secrets if secret.encode() in response.content]
        if response.status_code not in allowed or leaks:
            wrong.append(f"{operation}: {response.status_code} {leaks} {response.content[:200]!r}")
        described = {other.method for other in with_ids() if other.path == operation.path}
        for method in sorted(set(ANY_METHOD) - described):
            response = ask(operation, path, token, method)
            if response.status_code not in {*allowed, 405}:
                wrong.append(f"{method} {operation.path}: {response.status_code}")
    assert not wrong, "\n".join(["", *wrong])
    assert owner.snapshot() == before


# --- The matrix ----------------------------------------------------------------------------------


def test_every_operation_with_an_id_is_in_the_matrix(owner):
    unknown = {str(o): o.parameters for o in with_ids() if set(o.parameters) - owner.ids.keys()}
    shared = {str(o) for o in with_ids() if set(o.parameters) <= SHARED.keys()}

    assert unknown == {}
    assert shared == MARKET


def test_the_owner_is_let_in(owner):
    """Or the refusals below would prove nothing."""
    refused = {}
    for operation in with_ids():
        if operation.method == "GET" and str(operation) not in MARKET:
            response = ask(operation, operation.at(owner.ids), owner.trader.token)
            if response.status_code != OTHERWISE.get(str(operation), 200):
                refused[str(operation)] = response.status_code
    assert refused == {}


def test_another_user(owner, new_trader):
    refuse_everything(owner, new_trader().token, REFUSALS)


def test_nobody(owner):
    refuse_everything(owner, "", {401})


def test_an_expired_token(owner):
    refuse_everything(owner, expired(owner), {401})


def test_a_refresh_token_as_access_token(owner):
    refuse_everything(owner, owner.refresh_token, {401})


def test_a_tampered_token(owner):
    head, payload, signature = owner.trader.token.split(".")
    flipped = "A" if signature[0] != "A" else "B"

    refuse_everything(owner, f"{head}.{payload}.{flipped}{signature[1:]}", {401})


def test_a_deactivated_user(owner):
    user_deactivate(user_id=owner.user.pk)

    refuse_everything(owner, owner.trader.token, {401})


# --- Lists ---------------------------------------------------------------------------------------


def test_lists_show_only_what_is_ones_own(owner, new_trader):
    stranger = _make_owner(new_trader)
    wrong, seen = [], 0
    for operation in operations():
        if operation.method != "GET" or operation.parameters:
            continue
        filters = {
            "connection_id": owner.ids["connection_id"],
            "order_id": owner.ids["order_id"],
            "object_id": owner.ids["order_id"],
        }
        asked = [""] + [f"?{name}={filters[name]}" for name in operation.queries if name in filters]
        for query in asked:
            response = ask(operation, operation.path + query, stranger.trader.token)
            body = b"".join(response) if response.streaming else response.content
            leaks = [secret for secret in owner.secrets if secret.encode() in body]
            if response.status_code >= 500 or leaks:
                wrong.append(f"{operation}{query}: {response.status_code} {leaks}")
            seen += any(own.encode() in body for own in stranger.secrets)
    assert not wrong, "\n".join(["", *wrong])
    assert seen > 10  # the lists were not empty


def test_foreign_ids_in_bodies_are_unknown(owner, new_trader):
    stranger = new_trader()
    before = owner.snapshot()
    foreign = {"connection_id": owner.ids["connection_id"]}

    placed = stranger.place(**foreign)
    preview = stranger.call(
        "POST",
        "/orders/preview",
        {"symbol": "NSE:RELIANCE", "side": "BUY", "quantity": 1, **foreign},
    )
    cancelled = stranger.call("POST", "/orders/cancel-all", foreign)
    exited = stranger.call("POST", "/positions/exit-all", foreign)

    assert (placed.status_code, preview.status_code) == (404, 404)
    assert cancelled.json() == {"cancelled": [], "failed": []}
    assert exited.json() == {"orders": [], "failed": []}
    assert not Order.objects.filter(user__email=stranger.email).exists()
    assert owner.snapshot().keys() == before.keys()
    assert Order.objects.filter(connection_id=UUID(owner.ids["connection_id"])).count() == 3
