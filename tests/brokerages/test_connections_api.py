"""Connections and sessions through the front door."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.test import Client

from accounts.clients import Client as Device
from accounts.services.sign_in import user_signup
from audit.models import AuditEntry
from brokerages.models import BrokerConnection, BrokerSession, PaperOrder
from brokerages.services import adapter_for
from tests.brokerages.conftest import Market, Paper

pytestmark = pytest.mark.django_db

API = "/api/v1"
PATHS = ["", "/session", "/profile", "/funds", "/holdings", "/positions", "/orders", "/trades"]


class Caller:
    """A signed-up user with an access token."""

    def __init__(self, email: str) -> None:
        pair = user_signup(
            email=email, password="a rather long password 7", client=Device("127.0.0.1", "tests")
        )
        self.headers = {"Authorization": f"Bearer {pair.access_token}"}

    def get(self, path: str, query: Any = None) -> Any:
        return Client().get(API + path, query, headers=self.headers)

    def send(self, method: str, path: str, body: Any = None) -> Any:
        data = "" if body is None else json.dumps(body)
        call = getattr(Client(), method)
        return call(API + path, data, content_type="application/json", headers=self.headers)

    def post(self, path: str, body: Any = None) -> Any:
        return self.send("post", path, body)

    def connect(self, **body: Any) -> dict[str, Any]:
        answer = self.post("/connections", {"broker": "paper", **body})
        assert answer.status_code == 201, answer.content
        return answer.json()


@pytest.fixture
def asha(market: Market) -> Caller:
    return Caller("asha@example.org")


@pytest.fixture
def ravi(market: Market) -> Caller:
    return Caller("ravi@example.org")


def actions() -> list[str]:
    entries = AuditEntry.objects.exclude(action__startswith="auth.").order_by("pk")
    return [e.action for e in entries if not e.action.startswith(("user.", "mail."))]


def test_first_connection_is_the_default_and_has_an_open_session(asha):
    first, second = asha.connect(label="Practice"), asha.connect()

    assert (first["label"], second["label"]) == ("Practice", "Paper trading")
    assert (first["is_default"], second["is_default"]) == (True, False)
    assert first["session"]["state"] == "ACTIVE"
    assert first["data_source"] == "simulated"
    assert actions() == ["connection.created", "session.opened"] * 2


def test_default_moves_and_is_inherited(asha):
    first, second, third = asha.connect(), asha.connect(), asha.connect()

    moved = asha.post(f"/connections/{second['id']}/default")
    assert (moved.status_code, moved.json()["is_default"]) == (200, True)
    assert [c["is_default"] for c in asha.get("/connections").json()["results"]] == [
        False, True, False,
    ]  # fmt: skip

    assert asha.send("delete", f"/connections/{second['id']}").status_code == 204
    left = asha.get("/connections").json()["results"]
    assert [(c["id"], c["is_default"]) for c in left] == [(first["id"], True), (third["id"], False)]


def test_update_label_and_data_source(asha):
    path = f"/connections/{asha.connect()['id']}"

    answer = asha.send("patch", path, {"label": "Long term", "data_source": "replay"})

    assert answer.status_code == 200
    assert (answer.json()["label"], answer.json()["data_source"]) == ("Long term", "replay")
    assert asha.send("patch", path, {"data_source": "broker"}).json()["error"]["code"] == (
        "data_source"
    )


@pytest.mark.parametrize("path", PATHS)
def test_others_connections_do_not_exist(asha, ravi, path):
    foreign, unknown = asha.connect()["id"], uuid4()

    answers = [ravi.get(f"/connections/{number}{path}") for number in (foreign, unknown)]

    assert [a.status_code for a in answers] == [404, 404]
    assert [a.json()["error"]["code"] for a in answers] == ["not_found", "not_found"]
    assert asha.get(f"/connections/{foreign}{path}").status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("patch", ""),
        ("delete", ""),
        ("post", "/default"),
        ("post", "/session"),
        ("delete", "/session"),
        ("post", "/session/check"),
    ],
)
def test_others_connections_cannot_be_changed(asha, ravi, method, path):
    number = asha.connect()["id"]

    assert ravi.send(method, f"/connections/{number}{path}", {}).status_code == 404
    assert BrokerConnection.objects.get().disabled_at is None
    assert BrokerSession.objects.get().state == "ACTIVE"


def test_nobody_is_let_in_without_a_token(market):
    assert Client().get(f"{API}/connections").status_code == 401
    assert Client().get(f"{API}/brokers").status_code == 401


def test_disabled_connection_is_gone_and_cannot_trade(asha):
    number = asha.connect()["id"]

    assert asha.send("delete", f"/connections/{number}").status_code == 204

    assert asha.get(f"/connections/{number}").status_code == 404
    assert asha.get("/connections").json()["results"] == []
    with pytest.raises(Exception, match="disabled"):
        adapter_for(UUID(number))


def test_connection_with_open_orders_is_not_disabled(asha, market):
    number = asha.connect()["id"]
    market.show(last=100)
    Paper(adapter_for(UUID(number)), market).buy(1, 90)

    answer = asha.send("delete", f"/connections/{number}")

    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "open_orders")
    assert BrokerConnection.objects.get().disabled_at is None


def test_session_closes_and_opens_again(asha):
    path = f"/connections/{asha.connect()['id']}/session"

    assert asha.post(f"{path}/check").json()["state"] == "ACTIVE"
    assert asha.send("delete", path).status_code == 204
    assert asha.send("delete", path).status_code == 204
    assert asha.get(path).json()["state"] == "CLOSED"
    funds = asha.get(path.replace("session", "funds"))
    assert (funds.status_code, funds.json()["error"]["code"]) == (409, "no_session")
    assert asha.post(path).json()["state"] == "ACTIVE"
    assert asha.get(path.replace("session", "funds")).status_code == 200
    assert actions()[2:] == ["session.closed", "session.opened"]


def test_live_lists_are_normalised_and_paged(asha, market):
    number = asha.connect()["id"]
    market.show(last=100)
    paper = Paper(adapter_for(UUID(number)), market)
    for price in (None, 90, 91):
        paper.buy(2, price)

    assert asha.get(f"/connections/{number}/holdings").json()["results"] == [
        {
            "exchange": "NSE",
            "symbol": "RELIANCE",
            "isin": "INE002A01018",
            "quantity": 2,
            "t1_quantity": 2,
            "average_price": "100.50",
            "last_price": "100.00",
        }
    ]
    funds = asha.get(f"/connections/{number}/funds").json()
    assert funds == {"available": "99437.00", "used": "362.00", "total": "99799.00"}
    page = asha.get(f"/connections/{number}/orders", {"limit": 2}).json()
    rest = asha.get(f"/connections/{number}/orders", {"limit": 2, "cursor": page["next"]}).json()
    assert [o["status"] for o in page["results"] + rest["results"]] == ["FILLED", "OPEN", "OPEN"]
    assert rest["next"] is None
    trade = asha.get(f"/connections/{number}/trades").json()["results"][0]
    assert (trade["side"], trade["quantity"], trade["price"]) == ("BUY", 2, "100.50")
    assert asha.get(f"/connections/{number}/profile").json()["name"] == "Paper account"


def test_connections_are_paged(asha):
    numbers = [asha.connect()["id"] for _ in range(3)]

    first = asha.get("/connections", {"limit": 2}).json()
    second = asha.get("/connections", {"limit": 2, "cursor": first["next"]}).json()

    assert [c["id"] for c in first["results"] + second["results"]] == numbers
    assert second["next"] is None


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ([], 400),
        (None, 400),
        ("paper", 400),
        ({"broker": 1}, 400),
        ({"broker": None}, 400),
        ({"broker": "paper", "label": "x" * 81}, 400),
        ({"broker": "paper", "label": {"a": 1}}, 400),
        ({"broker": "paper", "data_source": "moon"}, 400),
        ({"broker": "paper", "credentials": [1]}, 400),
        ({"broker": "paper", "credentials": {"api_key": 5}}, 400),
        ({"broker": "paper", "label": "a\x00b"}, 400),
        ({"broker": "paper", "credentials": {"api_key": "x"}}, 422),
        ({"broker": "nobody"}, 422),
        ({"broker": "paper", "data_source": "broker"}, 422),
    ],
)
def test_wrong_input_is_named_and_changes_nothing(asha, body, status):
    answer = asha.post("/connections", body)

    assert answer.status_code == status, answer.content
    assert answer.json()["error"]["message"]
    assert not BrokerConnection.objects.exists()


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": "x"}, {"cursor": "zz"}, {"limit": 501}])
def test_wrong_page_is_refused(asha, query):
    number = asha.connect()["id"]
    assert asha.get("/connections", query).status_code == 400
    assert asha.get(f"/connections/{number}/orders", query).status_code == 400


def test_brokers_say_what_they_can(asha):
    brokers = asha.get("/brokers").json()["results"]
    paper = next(b for b in brokers if b["name"] == "paper")
    assert paper["capabilities"]["order_types"] == ["MARKET", "LIMIT", "SL", "SL-M"]
    assert paper["capabilities"]["session_renewal"] == "NONE"


class TestActivate:
    """The source system's way to connect."""

    path = "/dashboard/activate-brokerage"

    def test_paper_is_new_once(self, asha):
        body = {"brokerage": "paper", "api_url": "", "api_key": "k", "api_secret": "s"}

        first, second = asha.post(self.path, body), asha.post(self.path, {"brokerage": "Paper"})

        assert (first.status_code, second.status_code) == (201, 200)
        assert first.json()["id"] == second.json()["id"]
        assert second.json()["session"]["state"] == "ACTIVE"
        assert BrokerConnection.objects.count() == 1

    def test_closed_session_is_opened_again(self, asha):
        number = asha.post(self.path, {"brokerage": "paper"}).json()["id"]
        asha.send("delete", f"/connections/{number}/session")

        assert asha.post(self.path, {"brokerage": "paper"}).json()["session"]["state"] == "ACTIVE"

    def test_unknown_broker_is_told_what_there_is(self, asha):
        answer = asha.post(self.path, {"brokerage": "nobody", "api_url": "https://evil.example"})

        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (422, "broker_not_available")
        assert "paper" in error["detail"]["available"]

    @pytest.mark.parametrize("body", [{}, {"brokerage": 7}, {"brokerage": "paper", "api_key": 1}])
    def test_wrong_input(self, asha, body):
        assert asha.post(self.path, body).status_code == 400

    def test_users_do_not_share(self, asha, ravi):
        one, other = (c.post(self.path, {"brokerage": "paper"}).json() for c in (asha, ravi))
        assert one["id"] != other["id"]


def test_paper_orders_of_one_user_are_not_seen_by_another(asha, ravi, market):
    mine, theirs = asha.connect()["id"], ravi.connect()["id"]
    market.show(last=100)
    Paper(adapter_for(UUID(mine)), market).buy(1)

    assert PaperOrder.objects.count() == 1
    assert ravi.get(f"/connections/{theirs}/orders").json()["results"] == []
    assert ravi.get(f"/connections/{theirs}/holdings").json()["results"] == []
