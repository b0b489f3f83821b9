"""Prices through the user's own broker: marked as the broker's, partial where it must be, and never
mixed with simulated ones.
"""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client

from accounts.models import User
from brokerages.errors import OutcomeUnknown, PermissionDenied, RateLimited, SessionExpired
from brokerages.services import connection_create, connection_update, session_open
from brokerages.types import Candle, CandleInterval, QuoteDepth
from marketdata import broker_prices, quotes, selectors
from marketdata.instrument_sync import records_load
from marketdata.master import COLUMNS
from tests.marketdata import fake_broker
from tests.marketdata.conftest import signed_up
from tests.marketdata.fake_broker import NAME, share

RELIANCE, INFY = share("RELIANCE", "2885", "INE002A01018"), share("INFY", "1594", "INE009A01021")
NEWCO = share("NEWCO", "99999")
ITEM = {"exchange_token": "2885", "exchange": "NSE", "instrument_type": "EQ"}


@pytest.fixture
def world(market: None, monkeypatch: pytest.MonkeyPatch) -> fake_broker.World:
    broker_prices.forget()
    quotes._of_brokers.clear()
    world = fake_broker.registered(monkeypatch)()
    world.prices = {"RELIANCE-EQ": Decimal("1500.25"), "NEWCO-EQ": Decimal("7.10")}
    return world


@pytest.fixture
def broker(api: Client, world: fake_broker.World) -> Any:
    user = User.objects.get(email="trader@example.com")
    made = connection_create(user_id=user.pk, broker=NAME, credentials={"api_key": "k"})
    session_open(user_id=user.pk, connection_id=made.pk, grant="g")
    records_load(NAME, [RELIANCE, INFY, NEWCO])
    return made


def ask(client: Client, path: str, body: Any, query: str = "") -> Any:
    return client.post(f"/api/v1/{path}{query}", json.dumps(body), content_type="application/json")


def test_default_connection_gives_the_prices(api, broker, world):
    answer = ask(api, "ltp-quote", [ITEM])

    assert answer.status_code == 200
    quote = answer.json()["data"]["2885"]
    assert (quote["last_price"], quote["source"], quote["simulated"]) == ("1500.25", NAME, False)
    assert quote["age_ms"] < 5000
    assert world.asked("fetch_quotes") == [(["RELIANCE-EQ"], QuoteDepth.LTP)]


@pytest.mark.parametrize(
    ("path", "depth"),
    [("ohlc-quote", QuoteDepth.OHLC), ("full-mkt-quote", QuoteDepth.FULL)],
)
def test_depth_is_the_one_asked(api, broker, world, path, depth):
    quote = ask(api, path, [ITEM], f"?broker_type={NAME}").json()["data"]["2885"]

    assert quote["open"] == "1499.25"
    assert [d for _, d in world.asked("fetch_quotes")] == [depth]


def test_paper_stays_simulated_and_says_so(api, broker, world):
    quote = ask(api, "ltp-quote", [ITEM], "?broker_type=paper").json()["data"]["2885"]

    assert (quote["source"], quote["simulated"]) == ("simulated", True)
    assert not world.asked("fetch_quotes")


def test_data_source_of_the_connection_decides(api, broker, world):
    connection_update(user_id=broker.user_id, connection_id=broker.pk, data_source="simulated")

    quote = ask(api, "ltp-quote", [ITEM]).json()["data"]["2885"]

    assert (quote["source"], quote["simulated"]) == ("simulated", True)
    connection_update(user_id=broker.user_id, connection_id=broker.pk, data_source="broker")
    assert ask(api, "ltp-quote", [ITEM]).json()["data"]["2885"]["source"] == NAME


def test_each_instrument_has_its_own_error(api, broker, world):
    world.bad_symbols = {"INFY-EQ"}
    asked = [
        {"symbol": "NSE:RELIANCE"}, {"symbol": "NSE:INFY"}, {"symbol": "NSE:NEWCO"},
        {"symbol": "NSE:TCS"}, {"symbol": "NSE:NOSUCH"},
    ]  # fmt: skip

    data = ask(api, "full-mkt-quote", asked).json()["data"]

    assert data["NSE:RELIANCE"]["last_price"] == "1500.25"
    assert data["NSE:NEWCO"]["last_price"] == "7.10"
    assert data["NSE:INFY"]["error"] == {"code": "bad_key", "message": "Invalid instrument key."}
    assert data["NSE:TCS"]["error"]["code"] == "instrument_not_at_broker"
    assert data["NSE:NOSUCH"]["error"]["code"] == "unknown_instrument"


def test_missing_price_is_not_filled_with_a_simulated_one(api, broker, world):
    data = ask(api, "ltp-quote", [{"symbol": "NSE:INFY"}]).json()["data"]

    assert data["NSE:INFY"]["error"]["code"] == "no_quote"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (SessionExpired("Token is over.", broker=NAME, code="TokenException"), 409, None),
        (PermissionDenied("No market data plan.", broker=NAME, code="perm"), 422, "perm"),
        (RateLimited("slow", broker=NAME, code="paced", retry_after=2), 503, "paced"),
        (OutcomeUnknown("no answer", broker=NAME, code="timeout"), 502, "timeout"),
    ],
)
def test_broker_that_gives_nothing(api, broker, world, error, status, code):  # noqa: PLR0917
    world.fail["fetch_quotes"] = error

    answer = ask(api, "ltp-quote", [ITEM, {"symbol": "NSE:INFY"}])

    assert answer.status_code == status
    body = answer.json()["error"]
    assert body["code"] == (code or "TokenException")
    assert body["detail"].get("advice", "") == error.advice
    assert len(world.asked("fetch_quotes")) == 1


def test_broker_without_a_connection(api, world):
    answer = ask(api, "ltp-quote", [ITEM], f"?broker_type={NAME}")

    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "no_connection"


def test_other_users_session_is_not_used(broker, other_api, world):
    quote = ask(other_api, "ltp-quote", [ITEM]).json()["data"]["2885"]

    assert quote["simulated"]
    assert ask(other_api, "ltp-quote", [ITEM], f"?broker_type={NAME}").status_code == 409
    assert not world.asked("fetch_quotes")


def test_list_that_is_not_loaded(api, world):
    user = User.objects.get(email="trader@example.com")
    made = connection_create(user_id=user.pk, broker=NAME, credentials={"api_key": "k"})
    session_open(user_id=user.pk, connection_id=made.pk, grant="g")

    data = ask(api, "ltp-quote", [ITEM]).json()["data"]

    assert data["2885"]["error"]["code"] == "instruments_not_loaded"


def test_platforms_choice_costs_no_query_twice(api, world, django_assert_max_num_queries):
    ask(api, "ltp-quote", [ITEM])
    with django_assert_max_num_queries(1):  # the sign-in
        ask(api, "ltp-quote", [ITEM])


def test_quotes_by_symbol_come_from_the_broker_too(api, broker):
    answer = api.get("/api/v1/quotes?symbols=NSE:RELIANCE").json()

    assert answer["data"]["NSE:RELIANCE"]["source"] == NAME


# --- Orders are checked by the broker's own prices ------------------------------------------------


def test_full_quotes_back_the_orders_check(api, broker, world):
    world.bands["RELIANCE-EQ"] = (Decimal(1400), Decimal(1600))
    ref = selectors.ref_by_key("NSE:RELIANCE")
    assert quotes.quote_for_order(NAME, ref) is None
    assert quotes.quote_for_order("paper", ref).simulated

    ask(api, "full-mkt-quote", [ITEM])

    quote = quotes.quote_for_order(NAME, ref)
    assert (quote.source, quote.upper_circuit) == (NAME, Decimal(1600))
    assert quotes.quote_for_order("paper", ref).simulated


def test_page_asks_for_what_was_not_asked_for_lately(broker, world):
    one, other = (selectors.ref_by_key(key).id for key in ("NSE:RELIANCE", "NSE:NEWCO"))
    broker_prices.quotes_shown(broker.pk, NAME, [other])
    broker_prices.forget()  # NEWCO's quote stays in the cache and grows old there
    world.prices["NEWCO-EQ"] = Decimal("8.20")
    broker_prices.quotes_shown(broker.pk, NAME, [one])

    shown = broker_prices.quotes_shown(broker.pk, NAME, [one, other])
    again = broker_prices.quotes_shown(broker.pk, NAME, [one, other])

    assert shown[other].last_price == again[other].last_price == Decimal("8.20")
    assert [symbols for symbols, _ in world.asked("fetch_quotes")] == [
        ["NEWCO-EQ"], ["RELIANCE-EQ"], ["NEWCO-EQ"],
    ]  # fmt: skip


def test_instrument_without_a_quote_is_not_asked_for_each_time(broker, world):
    infy = selectors.ref_by_key("NSE:INFY").id

    assert broker_prices.quotes_shown(broker.pk, NAME, [infy]) == {}
    assert broker_prices.quotes_shown(broker.pk, NAME, [infy]) == {}

    assert len(world.asked("fetch_quotes")) == 1


def test_what_was_asked_for_is_remembered_within_bounds(broker, world, monkeypatch):
    monkeypatch.setattr(broker_prices, "MOST_REMEMBERED", 2)

    for key in ("NSE:RELIANCE", "NSE:NEWCO", "NSE:INFY"):
        broker_prices.quotes_shown(broker.pk, NAME, [selectors.ref_by_key(key).id])

    assert len(broker_prices._shown_until) <= 2


def test_old_quote_backs_no_check(api, broker, world):
    world.quoted_ago = timedelta(seconds=30)

    quote = ask(api, "full-mkt-quote", [ITEM]).json()["data"]["2885"]

    assert quote["stale"]
    assert quote["age_ms"] >= 30_000
    assert quotes.quote_for_order(NAME, selectors.ref_by_key("NSE:RELIANCE")) is None


# --- History --------------------------------------------------------------------------------------

MONTH = {
    "exchange": "NSE",
    "exchange_token": "2885",
    "instrument_type": "EQ",
    "interval": "day",
    "from_date": "2025-01-01",
    "to_date": "2025-01-29",
}


def test_candles_of_the_broker(api, broker, world):
    start = datetime(2025, 1, 1, 18, 30, tzinfo=UTC)
    world.candles = [
        Candle(start, Decimal("10.5"), Decimal(12), Decimal(9), Decimal(11), 100, 7),
        Candle(start + timedelta(days=60), *[Decimal(1)] * 4),
    ]

    answer = ask(api, "historical-data", MONTH)

    assert answer.json() == [
        {
            "datetime": "2025-01-02T00:00:00+05:30", "open": "10.5", "high": "12", "low": "9",
            "close": "11", "volume": 100, "oi": 7,
        }
    ]  # fmt: skip
    assert (answer["X-Data-Source"], answer["X-Data-Simulated"]) == (NAME, "false")
    ((token, interval, begin, end),) = world.asked("fetch_candles")
    assert (token, interval) == ("t2885", CandleInterval.DAY)
    assert begin == datetime(2024, 12, 31, 18, 30, tzinfo=UTC)
    assert end == datetime(2025, 1, 29, 18, 30, tzinfo=UTC)


def test_platforms_own_candles_are_marked(api, market):
    answer = ask(api, "historical-data", MONTH)

    assert answer.status_code == 200
    assert (answer["X-Data-Source"], answer["X-Data-Simulated"]) == ("simulated", "true")
    rows = answer.json()
    assert len(rows) == 29
    assert list(rows[0]) == ["datetime", "open", "high", "low", "close", "volume", "oi"]
    assert rows[0]["datetime"] == "2025-01-01T00:00:00+05:30"


@pytest.mark.parametrize(
    "change",
    [
        {"interval": "fortnight"},
        {"from_date": "2025-02-01"},
        {"from_date": "01-01-2025"},
        {"from_date": "0001-01-01"},
        {"to_date": "9999-12-31"},
        {"to_date": "9999-12-31T23:59:59-23:59"},
        {"interval": "minute", "from_date": "2010-01-01"},
        {"exchange": "LSE"},
        {"exchange_token": None},
        {"interval": None},
        {"more": 1},
    ],
)
def test_bad_history_requests(api, market, change):
    assert ask(api, "historical-data", MONTH | change).status_code == 400


def test_history_of_what_is_not_there(api, market):
    answer = ask(api, "historical-data", MONTH | {"exchange_token": "4711"})

    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_instrument")


def test_interval_that_the_broker_lacks(api, broker):
    answer = ask(api, "historical-data", MONTH | {"interval": "week"})

    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "interval_not_supported"
    assert "1m, 5m, 1d" in answer.json()["error"]["message"]


# --- Master data ----------------------------------------------------------------------------------


def body_of(answer: Any) -> bytes:
    return b"".join(answer.streaming_content)


def test_master_data_of_the_default_broker(api, broker):
    answer = api.get("/api/v1/master-data")

    body = json.loads(body_of(answer))
    assert body["status"] == "success"
    assert [row["symbol"] for row in body["data"]] == ["NSE:INFY", "NSE:RELIANCE", "NSE:NEWCO"]
    assert body["data"][1]["broker_symbol"] == "RELIANCE-EQ"
    assert tuple(body["data"][0]) == COLUMNS


def test_master_data_as_csv(api, broker):
    answer = api.get(f"/api/v1/master-data?broker_type={NAME}", headers={"Accept": "text/csv"})

    assert answer["Content-Type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(body_of(answer).decode())))
    assert {row["broker_token"] for row in rows} == {"t2885", "t1594", "t99999"}


def test_master_data_in_parts(api, broker, monkeypatch):
    monkeypatch.setattr("marketdata.master.PART", 1)

    assert len(json.loads(body_of(api.get("/api/v1/master-data")))["data"]) == 3


def test_master_data_of_paper_is_what_comes_with_the_platform(api, broker):
    body = json.loads(body_of(api.get("/api/v1/master-data?broker_type=paper")))

    symbols = {row["symbol"] for row in body["data"]}
    assert "NSE:RELIANCE" in symbols
    assert "NSE:NEWCO" not in symbols


def test_master_data_before_the_first_list(api, world):
    answer = api.get(f"/api/v1/master-data?broker_type={NAME}", headers={"Accept": "text/csv"})

    assert (answer.status_code, answer["Content-Type"]) == (409, "application/json")
    assert answer.json()["error"]["code"] == "instruments_not_loaded"


def test_nobody_reads_without_signing_in(db):
    assert Client().get("/api/v1/master-data").status_code == 401
    assert ask(Client(), "historical-data", MONTH).status_code == 401
    assert signed_up("new@example.com").get("/api/v1/master-data").status_code == 200
