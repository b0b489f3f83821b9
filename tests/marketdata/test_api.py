"""Instruments, candles, the calendar and watchlists through the front door."""

from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import uuid4

import pytest
import time_machine
from django.test import Client

from marketdata import selectors
from marketdata.models import TradingSession, Watchlist
from marketdata.quotes import candles_latest
from marketdata.services import instruments_load

pytestmark = pytest.mark.usefixtures("market")


def send(api, method, path, body=None):
    return getattr(api, method)(f"/api/v1/{path}", body, content_type="application/json")


# instruments


def test_search(api):
    answer = api.get("/api/v1/instruments", {"q": "reliance"})

    (first,) = answer.json()["results"]
    assert first["symbol"] == "NSE:RELIANCE"
    assert (first["isin"], first["tick_size"], first["lot_size"]) == ("INE002A01018", "0.10", 1)
    assert first["industry"] == "Oil Gas & Consumable Fuels"
    assert answer.json()["next"] is None


def test_search_by_pages(api):
    seen: list[str] = []
    asked = {"q": "nifty", "exchange": "NFO", "kind": "PE", "limit": 30}
    for _ in range(4):
        page = api.get("/api/v1/instruments", asked).json()
        seen += [row["symbol"] for row in page["results"]]
        asked["cursor"] = page["next"]
    assert len(set(seen)) == len(seen) == 120


@pytest.mark.parametrize(
    "query",
    [
        {"limit": 0},
        {"limit": 101},
        {"limit": "x"},
        {"exchange": "NYSE"},
        {"kind": "XX"},
        {"q": "a\0b"},
        {"q": "x" * 61},
        {"cursor": "garbage"},
        {"cursor": "bzk5OTk5OTk5OQ=="},
    ],
)
def test_bad_searches(api, query):
    answer = api.get("/api/v1/instruments", query)

    assert answer.status_code == 400
    assert next(iter(query)) in answer.json()["error"]["detail"]


def test_read_one(api):
    assert api.get("/api/v1/instruments/NSE:M%26M").json()["trading_symbol"] == "M&M"
    index = api.get("/api/v1/instruments/NSE:NIFTY%2050").json()
    assert (index["kind"], index["is_tradable"]) == ("INDEX", False)
    for key in ("NSE:NOTHING", "RELIANCE", "NSE:A%00B", "%27"):
        answer = api.get(f"/api/v1/instruments/{key}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_instrument")


def test_an_expired_contract_can_be_read(api):
    instruments_load(datetime(2026, 11, 23, 6, tzinfo=UTC))
    instruments_load(datetime(2026, 11, 24, 6, tzinfo=UTC))

    body = api.get("/api/v1/instruments/NFO:NIFTY26NOVFUT").json()

    assert (body["is_active"], body["is_tradable"], body["expiry"]) == (False, False, "2026-11-23")


@pytest.mark.parametrize("interval", ["1m", "5m", "15m", "1h", "1d"])
def test_candles(api, interval):
    body = api.get(
        "/api/v1/instruments/NSE:INFY/candles", {"interval": interval, "limit": 30}
    ).json()

    assert (body["interval"], body["source"], body["simulated"]) == (interval, "simulated", True)
    assert len(body["results"]) == 30
    starts = [candle["start"] for candle in body["results"]]
    assert starts == sorted(starts)
    for candle in body["results"]:
        low, high = Decimal(candle["low"]), Decimal(candle["high"])
        assert low <= Decimal(candle["open"]) <= high
        assert low <= Decimal(candle["close"]) <= high


def test_candles_by_exchange_hours_reach_over_the_weekend(settings):
    settings.SIMULATED_SESSION = "exchange"
    monday_morning = datetime(2026, 11, 23, 3, 50, tzinfo=UTC)  # 09:20 in India
    with time_machine.travel(monday_morning, tick=False):
        candles = candles_latest(selectors.ref_by_key("NSE:INFY"), "5m", 100)

    assert len(candles) == 100
    assert candles[-1].start == datetime(2026, 11, 23, 3, 45, tzinfo=UTC)
    assert candles[-2].start == datetime(2026, 11, 20, 9, 40, tzinfo=UTC)  # Friday, 15:10


@pytest.mark.parametrize("query", [{"interval": "2m"}, {"limit": 401}, {"limit": -1}])
def test_bad_candles(api, query):
    assert api.get("/api/v1/instruments/NSE:INFY/candles", query).status_code == 400
    assert api.get("/api/v1/instruments/NSE:NO/candles").status_code == 404


# derivatives


def test_expiries(api):
    index = api.get("/api/v1/instruments/NSE:NIFTY%2050/expiries").json()
    assert index["symbol"] == "NSE:NIFTY 50"
    assert len(index["results"]) == 4
    future = selectors.instrument_search("NIFTY", exchange="NFO", kind="FUT")[0]
    by_future = api.get(f"/api/v1/instruments/{future.key}/expiries").json()
    assert by_future["results"] == sorted(by_future["results"])
    assert api.get("/api/v1/instruments/NSE:INFY/expiries").json()["results"] == []
    assert api.get("/api/v1/instruments/NSE:NO/expiries").status_code == 404


def test_option_chain(api):
    path = "/api/v1/instruments/NSE:NIFTY%2050/option-chain"
    last = api.get("/api/v1/instruments/NSE:NIFTY%2050/expiries").json()["results"][-1]

    whole = api.get(path, {"expiry": last}).json()
    strikes = [Decimal(row["strike"]) for row in whole["results"]]
    assert strikes == sorted(strikes)
    assert len(strikes) > 15
    assert whole["lot_size"] == 65
    for row in whole["results"]:
        assert row["call"]["symbol"].endswith("CE")
        assert row["put"]["symbol"].endswith("PE")
        assert row["call"]["simulated"] is True
        assert Decimal(row["put"]["last_price"]) >= Decimal("0.05")
    calls = [Decimal(row["call"]["last_price"]) for row in whole["results"]]
    assert calls == sorted(calls, reverse=True)

    near = api.get(path, {"strikes": 2}).json()
    assert near["expiry"] < last
    assert len(near["results"]) <= 4


def test_no_option_chain(api):
    path = "/api/v1/instruments/{}/option-chain"
    assert api.get(path.format("NSE:INFY")).status_code == 404
    assert api.get(path.format("NSE:NO")).status_code == 404
    nifty = path.format("NSE:NIFTY%2050")
    assert api.get(nifty, {"expiry": "2020-01-01"}).json()["error"]["code"] == "unknown_expiry"
    for query in ({"expiry": "soon"}, {"strikes": 0}, {"strikes": "x"}):
        assert api.get(nifty, query).status_code == 400


# calendar


def test_calendar(api, settings):
    body = api.get("/api/v1/calendar").json()
    assert body["always_open"] is True
    assert all(group["is_open"] for group in body["groups"])

    settings.SIMULATED_SESSION = "exchange"
    body = api.get("/api/v1/calendar").json()
    groups = {group["group"]: group for group in body["groups"]}
    assert body["always_open"] is False
    assert groups["EQUITY"]["known_until"] == "2026-12-31"
    assert groups["CURRENCY"]["is_open"] is False
    assert groups["CURRENCY"]["next_session"] is None


def test_an_added_session_counts_at_once(api, settings):
    settings.SIMULATED_SESSION = "exchange"
    TradingSession.objects.create(
        group="ALL", phase="CLOSED", valid_from=date(2026, 1, 1), valid_to=date(2030, 1, 1),
        weekdays="1234567", special=True, source="test",
    )  # fmt: skip

    body = api.get("/api/v1/calendar").json()

    groups = {group["group"]: group for group in body["groups"]}
    assert groups["EQUITY"]["today"] == []


# watchlists


def test_the_life_of_a_watchlist(api):
    made = send(api, "post", "watchlists", {"name": "Oil", "symbols": ["NSE:ONGC", "NSE:RELIANCE"]})
    assert made.status_code == 201
    path = f"watchlists/{made.json()['id']}"
    assert made.json()["symbols"] == ["NSE:ONGC", "NSE:RELIANCE"]

    put = send(api, "put", f"{path}/items/NSE:M%26M", {})
    assert put.json()["symbols"] == ["NSE:ONGC", "NSE:RELIANCE", "NSE:M&M"]
    moved = send(api, "put", f"{path}/items/NSE:M%26M", {"position": 0})
    assert moved.json()["symbols"][0] == "NSE:M&M"
    assert send(api, "delete", f"{path}/items/NSE:ONGC").status_code == 204
    assert send(api, "delete", f"{path}/items/NSE:ONGC").status_code == 204
    renamed = send(api, "patch", path, {"name": "Energy", "position": 7})
    assert (renamed.json()["name"], renamed.json()["position"]) == ("Energy", 7)
    assert api.get(f"/api/v1/{path}").json()["symbols"] == ["NSE:M&M", "NSE:RELIANCE"]
    assert [x["name"] for x in api.get("/api/v1/watchlists").json()["results"]] == ["Energy"]
    assert send(api, "delete", path).status_code == 204
    assert api.get(f"/api/v1/{path}").status_code == 404


def test_watchlist_conflicts_and_limits(api, monkeypatch):
    send(api, "post", "watchlists", {"name": "One"})
    assert send(api, "post", "watchlists", {"name": "One"}).status_code == 409
    other = send(api, "post", "watchlists", {"name": "Two"}).json()["id"]
    answer = send(api, "patch", f"watchlists/{other}", {"name": "One"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "watchlist_exists")

    monkeypatch.setattr("marketdata.services.MAX_WATCHLIST_ITEMS", 1)
    monkeypatch.setattr("marketdata.services.MAX_WATCHLISTS", 2)
    assert send(api, "put", f"watchlists/{other}/items/NSE:INFY", {}).status_code == 200
    answer = send(api, "put", f"watchlists/{other}/items/NSE:TCS", {})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "limit_reached")
    assert send(api, "post", "watchlists", {"name": "Three"}).status_code == 409


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": ""},
        {"name": "  "},
        {"name": 5},
        {"name": "x" * 61},
        {"name": None},
        {"name": "x", "symbols": "NSE:INFY"},
        {"name": "x", "symbols": [5]},
        {"name": "x", "symbols": ["NSE:NOTHING"]},
        {"name": "x", "symbols": ["NSE:INFY"] * 251},
        [],
        "text",
    ],
)
def test_bad_watchlists(api, body):
    assert send(api, "post", "watchlists", body).status_code == 400
    assert not Watchlist.objects.exists()


def test_watchlists_of_others_look_absent(api, other_api):
    path = f"watchlists/{send(api, 'post', 'watchlists', {'name': 'Mine'}).json()['id']}"
    unknown = f"watchlists/{uuid4()}"

    for method, rest, body in [
        ("get", "", None),
        ("patch", "", {"name": "Yours"}),
        ("delete", "", None),
        ("put", "/items/NSE:INFY", {}),
        ("delete", "/items/NSE:INFY", None),
    ]:
        theirs = send(other_api, method, path + rest, body)
        absent = send(other_api, method, unknown + rest, body)
        assert theirs.status_code == absent.status_code == 404
        assert theirs.json() == absent.json()
    assert other_api.get("/api/v1/watchlists").json()["results"] == []
    assert send(other_api, "post", "watchlists", {"name": "Mine"}).status_code == 201
    assert api.get(f"/api/v1/{path}").json()["name"] == "Mine"


def test_unknown_symbols_on_watchlists(api):
    path = f"watchlists/{send(api, 'post', 'watchlists', {'name': 'Mine'}).json()['id']}"

    assert send(api, "put", f"{path}/items/NSE:NOTHING", {}).status_code == 404
    assert send(api, "delete", f"{path}/items/NSE:NOTHING").status_code == 204
    for body in ({"position": -1}, {"position": "1"}, {"position": True}, []):
        assert send(api, "put", f"{path}/items/NSE:INFY", body).status_code == 400


@pytest.mark.parametrize(
    "path",
    ["instruments", "instruments/NSE:INFY", "instruments/NSE:INFY/candles", "calendar",
     "watchlists", "quotes?symbols=NSE:INFY"],
)  # fmt: skip
def test_everything_needs_a_sign_in(path):
    assert Client().get(f"/api/v1/{path}").status_code == 401
