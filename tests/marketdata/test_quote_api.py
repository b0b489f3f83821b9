"""Quotes through the front door."""

from datetime import datetime
from decimal import Decimal

import pytest
from django.test import Client

from marketdata import selectors

pytestmark = pytest.mark.usefixtures("market")
RELIANCE = {"exchange_token": "2885", "exchange": "NSE", "instrument_type": "EQ"}


def ask(api, path, body, query=""):
    return api.post(f"/api/v1/{path}{query}", body, content_type="application/json")


def test_ltp_by_exchange_token(api):
    answer = ask(api, "ltp-quote", [RELIANCE, {**RELIANCE, "exchange_token": 1594}])

    assert answer.status_code == 200
    assert answer["Content-Type"] == "application/json"
    body = answer.json()
    assert body["status"] == "success"
    assert list(body["data"]) == ["2885", "1594"]
    quote = body["data"]["2885"]
    assert (quote["symbol"], quote["exchange_token"]) == ("NSE:RELIANCE", "2885")
    assert isinstance(quote["last_price"], str)
    assert Decimal(quote["last_price"]) > 0
    assert (quote["source"], quote["simulated"], quote["stale"]) == ("simulated", True, False)
    assert 0 <= quote["age_ms"] < 2000
    assert datetime.fromisoformat(quote["at"]).tzinfo


def test_ohlc_and_full_by_symbol(api):
    ohlc = ask(api, "ohlc-quote", [{"symbol": "NSE:INFY"}]).json()["data"]["NSE:INFY"]
    full = ask(api, "full-mkt-quote", [{"symbol": "NSE:INFY"}]).json()["data"]["NSE:INFY"]

    assert Decimal(ohlc["low"]) <= Decimal(ohlc["last_price"]) <= Decimal(ohlc["high"])
    assert "depth" not in ohlc
    assert len(full["depth"]["buy"]) == len(full["depth"]["sell"]) == 5
    assert Decimal(full["depth"]["buy"][0]["price"]) < Decimal(full["depth"]["sell"][0]["price"])
    assert Decimal(full["lower_circuit"]) < Decimal(full["upper_circuit"])
    change = Decimal(full["last_price"]) - Decimal(full["previous_close"])
    assert Decimal(full["change"]) == change


def test_the_example_of_the_source_system(api):
    """Tokens that are not in the list have an error of their own; the answer is still one."""
    body = [
        {"exchange_token": "21195", "exchange": "NSE", "instrument_type": "EQ"},
        {"exchange_token": "9305", "exchange": "NSE", "instrument_type": "FUTIDX"},
        RELIANCE,
    ]
    for path in ("ltp-quote", "ohlc-quote", "full-mkt-quote"):
        data = ask(api, path, body).json()["data"]
        assert data["21195"]["error"]["code"] == "unknown_instrument"
        assert data["9305"]["error"]["code"] == "unknown_instrument"
        assert "last_price" in data["2885"]


def test_derivatives_of_nse_are_found_on_nfo(api):
    future = next(
        x.ref
        for x in selectors.listings_active()
        if x.ref.symbol.endswith("FUT") and x.ref.underlying == "NIFTY"
    )
    item = {"exchange_token": future.exchange_token, "instrument_type": "FUTIDX"}

    for exchange in ("NSE", "NFO", "nfo"):
        data = ask(api, "ltp-quote", [{**item, "exchange": exchange}]).json()["data"]
        assert data[future.exchange_token]["symbol"] == future.key


def test_quotes_by_symbols(api):
    answer = api.get("/api/v1/quotes", {"symbols": "NSE:RELIANCE, NSE:M&M,NSE:NIFTY 50,NSE:NO"})

    data = answer.json()["data"]
    assert list(data) == ["NSE:RELIANCE", "NSE:M&M", "NSE:NIFTY 50", "NSE:NO"]
    assert data["NSE:NIFTY 50"]["depth"] == {"buy": [], "sell": []}
    assert data["NSE:NO"]["error"]["code"] == "unknown_instrument"


def test_named_broker(api):
    assert ask(api, "ltp-quote", [RELIANCE], "?broker_type=paper").status_code == 200
    assert ask(api, "ltp-quote", [RELIANCE], "?broker_type=nobody").status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        "text",
        None,
        5,
        [5],
        [{}],
        [None],
        [RELIANCE] * 501,
        [{"symbol": 5}],
        [{"symbol": ["NSE:INFY"]}],
        [{"exchange_token": "2885"}],
        [{**RELIANCE, "exchange": "NYSE"}],
        [{**RELIANCE, "exchange": 7}],
        [{**RELIANCE, "exchange_token": 28.5}],
        [{**RELIANCE, "exchange_token": True}],
        [{**RELIANCE, "instrument_type": "SPACESHIP"}],
        [{**RELIANCE, "symbol": "NSE:RELIANCE"}],
        [{"exchange_token": "1", "exchange": "BSE"}, {"exchange_token": "1", "exchange": "NSE"}],
    ],
)
def test_bad_bodies(api, body):
    for path in ("ltp-quote", "ohlc-quote", "full-mkt-quote"):
        answer = ask(api, path, body)
        assert answer.status_code == 400
        assert set(answer.json()["error"]) == {"code", "message", "detail"}


def test_bad_json_nul_and_other_types(api):
    for text in (b"{", b'[{"symbol": "\\u0000"}]', b"\xff\xfe", b"[NaN]"):
        answer = api.post("/api/v1/ltp-quote", text, content_type="application/json")
        assert answer.status_code == 400
    answer = api.post("/api/v1/ltp-quote", b"a=1", content_type="application/x-www-form-urlencoded")
    assert answer.status_code == 415
    big = api.post("/api/v1/ltp-quote", [{"symbol": "x" * 70_000}], content_type="application/json")
    assert big.status_code == 413


@pytest.mark.parametrize("symbols", [None, "", ",,", ",".join(f"NSE:X{n}" for n in range(501))])
def test_bad_symbol_lists(api, symbols):
    query = {} if symbols is None else {"symbols": symbols}

    assert api.get("/api/v1/quotes", query).status_code == 400


def test_five_hundred_at_once(api):
    keys = [x.key for x in selectors.listings_active()][:500]

    answer = ask(api, "ltp-quote", [{"symbol": key} for key in keys])

    assert answer.status_code == 200
    assert sum("last_price" in quote for quote in answer.json()["data"].values()) == 500


@pytest.mark.parametrize("path", ["ltp-quote", "ohlc-quote", "full-mkt-quote"])
def test_quotes_need_a_sign_in(db, path):
    answer = ask(Client(), path, [RELIANCE])

    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "not_authenticated"


def test_no_query_beside_the_sign_in(api, django_assert_num_queries):
    ask(api, "full-mkt-quote", [RELIANCE])

    with django_assert_num_queries(1):  # who is asking
        ask(api, "full-mkt-quote", [RELIANCE])
