"""What is wrong is refused, in the one shape, with a documented status, and changes nothing.

The matrix is made from the API description: every operation with a body, with bodies that are no
JSON or no object, and with every field of the wrong kind.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps

from marketdata.services import watchlist_create
from tests.brokerages.test_webhooks import signature
from tests.contract.conftest import HTTP
from tests.contract.operations import FORM, METHODS, Operation, operations
from trading.models import Notification, Position

LIMIT = 64 * 1024
JSON = "application/json"
DEEP = b"[" * 30_000
HUGE = 10**400

RAW = {
    "cut off": b"{",
    "not JSON": b"{'a': 1}",
    "a word": b"hello",
    "nothing": b"",
    "two values": b"{} {}",
    "a comma too much": b'{"a": 1,}',
    "not UTF-8": b'{"symbol": "\xff\xfe"}',
    "UTF-16": json.dumps({"symbol": "NSE:RELIANCE"}).encode("utf-16"),
    "NaN": b'{"price": NaN}',
    "Infinity": b'{"price": -Infinity}',
    "deep": DEEP,
    "deep and closed": DEEP + b"]" * 30_000,
    "a NUL": b'{"symbol": "NSE:\\u0000RELIANCE", "name": "\\u0000", "email": "\\u0000"}',
    "a lone surrogate": b'{"symbol": "\\ud800", "name": "\\udfff", "email": "\\ud800"}',
}
# What is not an object; operations that take a list are asked with an object instead.
NOT_OBJECTS = [[], [1], [[]], "text", 1, 1.5, True, None]

AMOUNTS = [
    -1, "-1", "NaN", "Infinity", "-Infinity", "1e3", "1E3", 10**30, HUGE, "1" * 5000, "", " ",
    "1,000", "1.", ".5", "+5", "0x10", "١٢", "1.00001", True, [], {}, "1\u0000", "₹5",
]  # fmt: skip
# Written so in JSON, not as Python would.
RAW_AMOUNTS = [b"1e3", b"1E3", b"1e400", b"1e-400", b"NaN", b"Infinity", b"-0.05", b"1" * 5000]
WHOLES = [-1, 1.5, 10**30, HUGE, "many", "1e3", "", [], {}, "1\u0000", "١٢٣x"]
WORDS = ["", "MAYBE", 1, [], {}, "\u0000", "BUY\u0000", "x" * 5000]
IDS = ["", "1", "not-an-id", [], {}, "0198c0de", "\u0000", "g" * 36, -1, 1, 0, True, False]
TEXTS = [[], {}, [{}], 1, 0, True, "\u0000", "x" * 6000]


@pytest.fixture
def values(trader) -> dict[str, str]:
    """Objects of the trader's own, so that only the body can be wrong."""
    trader.placed(quantity=10)
    resting = trader.placed(order_type="LIMIT", price="2450.00")
    trade = trader.call(
        "POST",
        "/trade/trade",
        {
            "price": "100",
            "quantity": 1,
            "stock_ticker": "INFY",
            "type": "eq",
            "order_type": "buy",
            "buy_price": "100",
        },
    ).json()
    position = Position.objects.get()
    watchlist = watchlist_create(user_id=position.user_id, name="Mine", symbols=["NSE:RELIANCE"])
    return {
        "order_id": resting["id"],
        "position_id": str(position.pk),
        "trade_id": trade["id"],
        "notification_id": str(Notification.objects.latest("created_at").pk),
        "connection_id": trader.connection_id,
        "watchlist_id": str(watchlist.pk),
        "broker": "zerodha",
        "token": "none-that-any-connection-has",
        "symbol": "NSE:INFY",
    }


def row_counts() -> dict[str, int]:
    """Return how many rows every table of the user's has."""
    return {
        model._meta.label: model.objects.count()
        for app in ("accounts", "brokerages", "marketdata", "trading")
        for model in apps.get_app_config(app).get_models()
        if model.__name__ != "ThrottleCounter"
    }


def with_body() -> Iterator[Operation]:
    return (operation for operation in operations() if operation.content_types)


class Asker:
    """Sends bad requests and collects what is wrong with the answers."""

    def __init__(self, trader: Any, values: dict[str, str]) -> None:
        self.trader, self.values = trader, values
        self.wrong: list[str] = []
        self.asked = 0

    def ask(
        self,
        operation: Operation,
        body: bytes,
        what: str,
        expected: set[int],
        content_type: str = JSON,
    ) -> None:
        headers = {
            "Authorization": f"Bearer {self.trader.token}",
            "Idempotency-Key": f"k{self.asked}",
        }
        if operation.is_signed:
            headers["X-Broker-Signature"] = signature(body)
        response = HTTP.generic(
            operation.method, operation.at(self.values), body, content_type, headers=headers
        )
        self.asked += 1
        fits = response.status_code in expected and response.status_code in operation.statuses
        if not fits or not one_shape(response):
            self.wrong.append(
                f"{operation}, {what}: {response.status_code} {response.content[:160]!r}"
            )


def one_shape(response: Any) -> bool:
    """Whether an error has the one shape."""
    try:
        body = json.loads(response.content)
    except ValueError:
        return False
    error = body.get("error", {}) if isinstance(body, dict) else {}
    return (
        list(body) == ["error"]
        and list(error) == ["code", "message", "detail"]
        and isinstance(error["code"], str)
        and isinstance(error["message"], str)
        and isinstance(error["detail"], dict)
        and bool(error["code"] and error["message"])
        and bool(response["X-Request-ID"])
        and "Traceback" not in error["message"]
    )


@pytest.fixture
def asker(trader, values) -> Iterator[Asker]:
    asker = Asker(trader, values)
    before = row_counts()
    yield asker
    assert asker.asked > 0
    assert not asker.wrong, "\n".join(["", *asker.wrong])
    assert row_counts() == before


# --- Bodies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", RAW)
def test_bodies_that_cannot_be_read(asker, what):
    for operation in with_body():
        if what != "nothing" or operation.body.get("required"):
            # Django's client names no content type for an empty body.
            asker.ask(operation, RAW[what], what, {400, 415} if what == "nothing" else {400})


def test_bodies_of_the_wrong_kind(asker):
    for operation in with_body():
        wrong = [{}, {"a": 1}] if operation.body.get("type") == "array" else NOT_OBJECTS
        for body in wrong:
            asker.ask(operation, _json(body), repr(body), {400})


def test_bodies_over_the_limit(asker):
    for operation in with_body():
        body = b'{"padding": "' + b"x" * LIMIT + b'"}'
        asker.ask(operation, body, "too large", {413})


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/xml", "multipart/form-data; boundary=x", ""]
)
def test_bodies_of_another_content_type(asker, content_type):
    for operation in with_body():
        if not operation.is_signed:  # whatever a sender calls it: the signature is of the bytes
            asker.ask(operation, _json(operation.example), content_type, {415}, content_type)


def test_forms_only_where_they_are_documented(asker):
    for operation in with_body():
        if FORM not in operation.content_types and not operation.is_signed:
            asker.ask(operation, b"a=1", FORM, {415}, FORM)


# --- Fields ---------------------------------------------------------------------------------------


def bad_values(schema: dict[str, Any]) -> list[Any]:
    """Return values that a field of this schema must refuse."""
    if "oneOf" in schema or "allOf" in schema:
        parts = schema.get("oneOf", schema.get("allOf", []))
        if any(part.get("type") == "number" for part in parts):
            return AMOUNTS
        if any(part.get("type") == "integer" for part in parts):
            return [[], {}, True, "x" * 100, "\u0000"]
        return bad_values(next((part for part in parts if "enum" in part), {"type": "string"}))
    if "enum" in schema:
        return WORDS
    if schema.get("type") == "integer":
        return WHOLES
    if schema.get("type") == "boolean":
        return ["maybe", 7, [], {}]
    if schema.get("format") == "uuid":
        return IDS
    if schema.get("type") == "array":
        return [1, "x", {}, [[]], [{}], ["\u0000"]]
    if schema.get("type") == "object":
        return [[], 1, "x", {"a": {}}]
    return TEXTS


def test_fields_of_the_wrong_kind(asker):
    for operation in with_body():
        if operation.body.get("type") == "array":
            continue
        right = operation.example or {}
        for field, schema in operation.body["properties"].items():
            for value in bad_values(schema):
                body = {**right, field: value}
                asker.ask(operation, _json(body), f"{field}={str(value)[:40]!r}", {400})


def test_amounts_are_read_as_they_are_written(asker):
    for operation in with_body():
        for field, schema in operation.body.get("properties", {}).items():
            if bad_values(schema) is not AMOUNTS:
                continue
            rest = _json({k: v for k, v in (operation.example or {}).items() if k != field})
            for amount in RAW_AMOUNTS:
                body = rest.rstrip(b"}") + b', "%b": %b}' % (field.encode(), amount)
                asker.ask(operation, body, f"{field}={amount[:20]!r}", {400})


def test_missing_fields(asker):
    for operation in with_body():
        for field in operation.body.get("required", ()):
            body = {k: v for k, v in operation.example.items() if k != field}
            asker.ask(operation, _json(body), f"without {field}", {400})


def test_list_items_of_the_wrong_kind(asker):
    for operation in with_body():
        if operation.body.get("type") != "array":
            continue
        for item in [1, "x", [], None, {}, {"symbol": 1}, {"exchange_token": []}, {"symbol": []}]:
            asker.ask(operation, _json([item]), repr(item), {400})


# --- Orders ---------------------------------------------------------------------------------------

DENIED = [
    ("tick_size", {"order_type": "LIMIT", "price": "2450.03"}),
    ("price_band", {"order_type": "LIMIT", "price": "9999999.90"}),
    ("invalid_price", {"order_type": "LIMIT", "price": "0"}),
    ("price_required", {"order_type": "LIMIT"}),
    ("price_not_allowed", {"price": "2450.00"}),
    ("trigger_price_required", {"order_type": "SL-M"}),
    ("trigger_price_not_allowed", {"trigger_price": "2450.00"}),
    ("product_not_allowed", {"product": "NRML"}),
    ("not_tradable", {"symbol": "NSE:NIFTY 50"}),
    ("disclosed_quantity", {"disclosed_quantity": 11}),
]
INVALID = [
    ("quantity", {"quantity": 0}),
    ("quantity", {"quantity": -10}),
    ("quantity", {"quantity": 10_000_001}),
    ("quantity", {"quantity": 1.5}),
    ("quantity", {"quantity": "10"}),
    ("quantity", {"quantity": True}),
    ("quantity", {"quantity": HUGE}),
    ("symbol", {"symbol": "NSE:NOSUCH"}),
    ("symbol", {"symbol": ""}),
    ("symbol", {"symbol": ":"}),
    ("symbol", {"symbol": "NSE:RELIANCE'; DROP TABLE trading_order; --"}),
    ("symbol", {"symbol": "x" * 1000}),
    ("side", {"side": "buy"}),
    ("validity", {"validity": "GTC"}),
    ("price", {"order_type": "LIMIT", "price": "2450.00001"}),
    ("price", {"order_type": "LIMIT", "price": "1e3"}),
    ("price", {"order_type": "LIMIT", "price": -2450}),
    ("client_order_id", {"client_order_id": "with a space"}),
    ("client_order_id", {"client_order_id": "x" * 65}),
    ("connection_id", {"connection_id": "mine"}),
    ("user_id", {"user_id": "0198c0de-0000-7000-8000-000000000001"}),
    ("status", {"status": "FILLED"}),
]


@pytest.mark.parametrize(("code", "terms"), DENIED)
def test_orders_against_the_rules(trader, code, terms):
    before = row_counts()

    response = trader.place(**terms)

    assert (response.status_code, response.json()["error"]["code"]) == (422, code)
    assert one_shape(response)
    assert row_counts() == before


@pytest.mark.parametrize(("field", "terms"), INVALID)
def test_orders_that_cannot_be_read(trader, field, terms):
    before = row_counts()

    response = trader.place(**terms)

    assert response.status_code == 400
    assert list(response.json()["error"]["detail"]) == [field]
    assert one_shape(response)
    assert row_counts() == before


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 65, "ключ", "a\tb", "k;drop"])
def test_idempotency_keys(trader, key):
    before = row_counts()

    body = {"symbol": "NSE:RELIANCE", "side": "BUY", "quantity": 1}
    response = trader.call("POST", "/orders", body, **{"Idempotency-Key": key})

    assert (response.status_code, one_shape(response)) == (400, True)
    assert row_counts() == before


# --- Queries, paths and methods -------------------------------------------------------------------

QUERIES = {
    "limit": ["0", "-1", "501", "x", "1e2", "9" * 400],
    "cursor": ["x", "'", "9" * 400, "\x00", "-1", "%"],
    "status": ["x", "FILLED'--", "\x00"],
    "symbol": ["NSE:NOSUCH", "\x00", "x" * 1000],
    "connection_id": ["x", "1", "\x00"],
    "order_id": ["x", "1", "\x00"],
}


@pytest.mark.parametrize("path", ["/orders", "/fills", "/trades", "/notifications", "/audit"])
def test_bad_queries(trader, path):
    operation = next(o for o in operations() if str(o) == f"GET /api/v1{path}")
    before, wrong = row_counts(), []
    for name in set(QUERIES) & set(operation.queries):
        for value in QUERIES[name]:
            response = HTTP.get(
                f"/api/v1{path}",
                {name: value},
                headers={"Authorization": f"Bearer {trader.token}"},
            )
            if response.status_code != 400 or not one_shape(response):
                wrong.append(f"{name}={value!r}: {response.status_code} {response.content[:120]!r}")

    assert not wrong, "\n".join(["", *wrong])
    assert row_counts() == before


@pytest.mark.parametrize(
    "path",
    [
        "/orders/1",
        "/orders/not-an-id",
        "/orders/0198c0de-0000-7000-8000-000000000001/",
        "/orders/%00",
        "/orders/../orders",
        "/instruments/%ff%fe",
        "/instruments/NSE:%00",
        "/audit/99999999999999999999",
        "/nothing",
        "/orders/0198c0de-0000-7000-8000-000000000001",
    ],
)
def test_addresses_of_nothing(trader, path):
    response = HTTP.get(f"/api/v1{path}", headers={"Authorization": f"Bearer {trader.token}"})

    assert response.status_code in (301, 404)
    assert response.status_code == 301 or one_shape(response)


def test_other_methods(trader, values):
    methods: dict[str, set[str]] = {}
    for operation in operations():
        methods.setdefault(operation.path, set()).add(operation.method)
    filled = {**values, "entry_id": "1", "session_id": values["order_id"], "key": "NSE:RELIANCE"}
    wrong, before = [], row_counts()

    for path, documented in methods.items():
        for method in {name.upper() for name in METHODS} - documented:
            response = HTTP.generic(
                method,
                path.format_map(filled),
                b"{}",
                JSON,
                headers={"Authorization": f"Bearer {trader.token}"},
            )
            allowed = {name.strip() for name in response.get("Allow", "").split(",")}
            if response.status_code != 405 or not one_shape(response) or not documented <= allowed:
                wrong.append(f"{method} {path}: {response.status_code}")

    assert not wrong, "\n".join(["", *wrong])
    assert row_counts() == before


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer x",
        "Bearer a.b.c",
        "Bearer " + "x" * 5000,
        "Basic dXNlcjpwYXNz",
        "Token x",
        "Bearer é.é.é",
        "Bearer eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJzdWIiOiIxIn0.",
    ],
)
def test_sign_ins_that_are_none(trader, authorization):
    before = row_counts()
    body = _json({"symbol": "NSE:RELIANCE", "side": "BUY", "quantity": 1})

    response = HTTP.post(
        "/api/v1/orders",
        body,
        JSON,
        headers={"Authorization": authorization, "Idempotency-Key": "k"},
    )

    assert (response.status_code, one_shape(response)) == (401, True)
    assert response["WWW-Authenticate"].startswith("Bearer")
    assert row_counts() == before


def test_nothing_was_forgotten():
    """Every operation that takes a body is covered, and has an example to go wrong from."""
    assert [str(o) for o in with_body() if o.example is None] == []
    assert len(list(with_body())) > 20


def _json(value: Any) -> bytes:
    """Return JSON; lone surrogates and NUL as escapes, as clients send them."""
    return json.dumps(value).encode()
