"""Payloads ↔ our values: every word, exact numbers, and nothing guessed."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from brokerages.adapters.upstox import mapping, portfolio, values
from brokerages.errors import InvalidOrder, NotSupported, OverFreeze
from brokerages.types import (
    Exchange,
    OrderChange,
    OrderHint,
    OrderType,
    PositionConversion,
    Product,
    ReportedStatus,
    Side,
    Validity,
)
from tests.brokerages.upstox.conftest import (
    FUTURE,
    INDEX,
    PAYLOADS,
    SHARE,
    TAG,
    data,
    order,
    payload,
)

S = ReportedStatus
NOW = datetime(2026, 11, 23, 5, 30, tzinfo=UTC)
D = Decimal


def row(**fields):
    return data("orders")[0] | fields


# --- Requests -------------------------------------------------------------------------------------


def test_limit_order():
    assert mapping.build_order(order(price="95.05", disclosed_quantity=2)) == {
        "instrument_token": "NSE_EQ|INE002A01018",
        "transaction_type": "BUY",
        "quantity": 10,
        "product": "D",
        "validity": "DAY",
        "order_type": "LIMIT",
        "price": D("95.05"),
        "trigger_price": 0,
        "disclosed_quantity": 2,
        "is_amo": False,
        "tag": TAG,
        "slice": False,
    }


@pytest.mark.parametrize(
    ("terms", "price", "trigger", "protection"),
    [
        ({"order_type": OrderType.MARKET, "price": None}, 0, 0, -1),
        ({"order_type": OrderType.MARKET, "price": None, "market_protection": 2.5}, 0, 0, D("2.5")),
        ({"order_type": OrderType.SL_M, "price": None, "trigger_price": 99}, 0, 99, -1),
        ({"order_type": OrderType.SL, "price": 106, "trigger_price": 105}, 106, 105, None),
        ({"order_type": OrderType.LIMIT, "trigger_price": 105}, 95, 0, None),
    ],
)
def test_prices_and_protection_go_with_the_type(terms, price, trigger, protection):
    body = mapping.build_order(order(**terms))
    assert (body["price"], body["trigger_price"]) == (price, trigger)
    assert body.get("market_protection") == protection


@pytest.mark.parametrize("percent", [0, "0.5", "25.5", -1])
def test_protection_that_the_broker_does_not_take(percent):
    with pytest.raises(InvalidOrder):
        mapping.build_order(
            order(order_type=OrderType.MARKET, price=None, market_protection=percent)
        )


@pytest.mark.parametrize(
    ("product", "instrument", "word"),
    [
        (Product.CNC, SHARE, "D"),
        (Product.MIS, SHARE, "I"),
        (Product.MTF, SHARE, "MTF"),
        (Product.NRML, FUTURE, "D"),
        (Product.MIS, FUTURE, "I"),
    ],
)
def test_products(product, instrument, word):
    assert mapping.build_order(order(product=product, instrument=instrument))["product"] == word
    assert mapping.product_of(word, mapping.instrument_key(instrument)) is product


@pytest.mark.parametrize(
    ("product", "instrument"),
    [(Product.CNC, FUTURE), (Product.MTF, FUTURE), (Product.NRML, SHARE)],
)
def test_product_that_would_become_another_is_refused(product, instrument):
    with pytest.raises(InvalidOrder):
        mapping.build_order(order(product=product, instrument=instrument))


def test_instrument_keys():
    assert mapping.instrument_key(SHARE) == "NSE_EQ|INE002A01018"
    assert mapping.instrument_key(replace(SHARE, exchange=Exchange.BSE)) == "BSE_EQ|INE002A01018"
    assert mapping.instrument_key(FUTURE) == "NSE_FO|53001"
    assert mapping.instrument_key(INDEX) == "NSE_INDEX|Nifty 50"
    for unknown in (
        replace(SHARE, isin=""),
        replace(FUTURE, broker_token=""),
        replace(INDEX, symbol="NIFTY OF NOTHING"),
    ):
        with pytest.raises(NotSupported):
            mapping.instrument_key(unknown)


def test_order_above_the_freeze_quantity_is_split_by_the_broker():
    request = order(instrument=FUTURE, product=Product.NRML, quantity=1820)
    body = mapping.build_order(request)
    assert body["slice"] is True
    assert body["tag"] == TAG + "SLICED"
    assert len(body["tag"]) <= 40
    assert mapping.build_order(replace(request, quantity=1755))["slice"] is False
    with pytest.raises(OverFreeze):
        mapping.build_order(replace(request, quantity=1755 * 25 + 65))


def test_change():
    change = OrderChange(20, OrderType.LIMIT, Validity.DAY, D("96.05"), None, 5)
    assert mapping.build_change("7", change, order()) == {
        "order_id": "7",
        "quantity": 20,
        "validity": "DAY",
        "order_type": "LIMIT",
        "price": D("96.05"),
        "trigger_price": 0,
        "disclosed_quantity": 5,
    }
    to_market = OrderChange(20, OrderType.MARKET, Validity.DAY)
    assert mapping.build_change("7", to_market, order())["market_protection"] == -1


def test_order_is_not_raised_above_the_freeze_quantity():
    change = OrderChange(1820, OrderType.LIMIT, Validity.DAY, D(95))
    with pytest.raises(OverFreeze):
        mapping.build_change("7", change, order(instrument=FUTURE, product=Product.NRML))


def test_conversion_and_margin():
    conversion = PositionConversion(SHARE, Side.BUY, 5, Product.MIS, Product.CNC)
    body = mapping.build_conversion(conversion)
    assert (body["old_product"], body["new_product"], body["quantity"]) == ("I", "D", 5)
    first, second = mapping.build_margin(
        [order(), order(order_type=OrderType.MARKET, price=None, side=Side.SELL)]
    )["instruments"]
    assert first["price"] == 95
    assert "price" not in second
    assert second["transaction_type"] == "SELL"


# --- Orders ---------------------------------------------------------------------------------------

OFFICIAL = {
    "put order req received": S.RECEIVED,
    "validation pending": S.RECEIVED,
    "open pending": S.RECEIVED,
    "after market order req received": S.RECEIVED,
    "modify after market order req received": S.RECEIVED,
    "open": S.OPEN,
    "trigger pending": S.TRIGGER_PENDING,
    "modify validation pending": S.OPEN,
    "modify pending": S.OPEN,
    "modified": S.OPEN,
    "not modified": S.OPEN,
    "cancel pending": S.PENDING_CANCEL,
    "not cancelled": S.OPEN,
    "complete": S.FILLED,
    "cancelled": S.CANCELLED,
    "cancelled after market order": S.CANCELLED,
    "rejected": S.REJECTED,
}


@pytest.mark.parametrize(("word", "status"), OFFICIAL.items())
def test_each_of_the_17_statuses(word, status):
    assert len(OFFICIAL) == 17
    assert mapping.parse_order(row(status=word), NOW).status is status


@pytest.mark.parametrize("word", ["OPEN", "Complete", "expired", "open ", "partially filled"])
def test_unknown_status_is_not_guessed(word):
    assert mapping.parse_order(row(status=word), NOW).status is S.UNKNOWN


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("open", S.PARTIALLY_FILLED),
        ("modified", S.PARTIALLY_FILLED),
        ("not cancelled", S.PARTIALLY_FILLED),
        ("cancel pending", S.PENDING_CANCEL),
        ("cancelled", S.CANCELLED),
        ("complete", S.FILLED),
    ],
)
def test_partial_fill_is_a_live_order_with_something_filled(word, status):
    report = mapping.parse_order(row(status=word, filled_quantity=4, average_price=D("95.5")), NOW)
    assert (report.status, report.filled_quantity, report.average_price) == (status, 4, D("95.5"))


@pytest.mark.parametrize("word", ["modified", "not modified", "modify pending", "not cancelled"])
def test_stop_between_two_requests_may_or_may_not_be_triggered(word):
    stop = row(status=word, order_type="SL", trigger_price=D("99.5"))
    assert mapping.parse_order(stop, NOW).status is S.UNKNOWN
    resting = mapping.parse_order(stop | {"status": "trigger pending"}, NOW)
    assert (resting.status, resting.trigger_price) == (S.TRIGGER_PENDING, D("99.5"))


def test_row_of_the_book():
    report = mapping.parse_order(row(), NOW)
    assert report.broker_order_id == "261123025554312"
    assert report.client_order_id == TAG
    assert report.exchange_order_id == "1300000025660919"
    assert (report.quantity, report.price, report.trigger_price) == (10, D("1402.35"), None)
    assert report.average_price is None
    assert report.reported_at == datetime(2026, 11, 23, 5, 2, 15, tzinfo=UTC)


def test_row_without_times_is_of_now():
    bare = row(order_timestamp=None, exchange_timestamp="")
    assert mapping.parse_order(bare, NOW).reported_at == NOW


@pytest.mark.parametrize(
    "broken",
    [
        {"order_id": None},
        {"status": None},
        {"quantity": D("1.5")},
        {"filled_quantity": "many"},
        {"average_price": True, "filled_quantity": 1},
        {"order_timestamp": "yesterday"},
    ],
    ids=str,
)
def test_unreadable_row(broken):
    with pytest.raises(ValueError):
        mapping.parse_order(row(**broken), NOW)


def test_book():
    reports, unread = mapping.parse_book(data("orders"), NOW)
    assert unread == 0
    assert [(r.broker_order_id, r.status) for r in reports] == [
        ("261123025554312", S.OPEN),
        ("261123025554313", S.FILLED),
        ("261123025554314", S.REJECTED),
        ("261123025554316", S.PARTIALLY_FILLED),
    ]
    rejected = reports[2]
    assert rejected.message == "Insufficient funds to place the order"  # on one line
    sliced = reports[3]
    assert sliced.client_order_id == "SLICEDTAG00000000001"
    assert (sliced.quantity, sliced.filled_quantity) == (1820, 1755)
    assert sliced.average_price == D("24850.1")
    assert sliced.raw == {"slices": ["261123025554316", "261123025554317"]}


def test_row_that_cannot_be_read_hides_no_other():
    rows = data("orders")
    broken = [rows[0] | {"quantity": "x"}, *rows[1:3], rows[3] | {"status": None}, rows[4]]
    reports, unread = mapping.parse_book(broken, NOW)
    assert [r.broker_order_id for r in reports] == ["261123025554313", "261123025554314"]
    assert unread == 2  # half of a sliced order is no report of it
    trades = data("trades")
    fills, unread = mapping.parse_trades([trades[0] | {"quantity": "x"}, *trades[1:]], rows)
    assert ([f.fill_id for f in fills], unread) == (["50091503"], 1)
    holdings, unread = portfolio.parse_holdings([*data("holdings"), {"exchange": "NSE"}])
    assert (len(holdings), unread) == (1, 1)


def slices(*states):
    """Return reports of slices: (status, filled, price) of 10 units each."""
    return [
        mapping.parse_order(
            row(order_id=str(n), status=word, filled_quantity=filled, average_price=D(price)), NOW
        )
        for n, (word, filled, price) in enumerate(states, 1)
    ]


@pytest.mark.parametrize(
    ("states", "status", "filled"),
    [
        ([("complete", 10, 1), ("complete", 10, 3)], S.FILLED, 20),
        ([("complete", 10, 1), ("open", 0, 0)], S.PARTIALLY_FILLED, 10),
        ([("open", 0, 0), ("open", 0, 0)], S.OPEN, 0),
        ([("open", 0, 0), ("open pending", 0, 0)], S.OPEN, 0),
        ([("trigger pending", 0, 0), ("trigger pending", 0, 0)], S.TRIGGER_PENDING, 0),
        ([("rejected", 0, 0), ("rejected", 0, 0)], S.REJECTED, 0),
        ([("complete", 10, 1), ("rejected", 0, 0)], S.CANCELLED, 10),
        ([("cancelled", 4, 1), ("complete", 10, 1)], S.CANCELLED, 14),
        ([("rejected", 0, 0), ("open", 0, 0)], S.OPEN, 0),
        ([("open", 0, 0), ("news to us", 0, 0)], S.UNKNOWN, 0),
    ],
)
def test_slices_are_one_order(states, status, filled):
    merged = mapping.merge(slices(*states))
    assert (merged.status, merged.filled_quantity, merged.quantity) == (status, filled, 20)
    assert merged.broker_order_id == "1"


def test_average_of_slices_is_weighed():
    merged = mapping.merge(slices(("complete", 10, 1), ("cancelled", 5, "2.5")))
    assert merged.average_price == D("1.5")


def test_history_tells_the_last_state():
    report = mapping.parse_history(data("history"), NOW)
    assert report is not None
    assert (report.status, report.filled_quantity) == (S.PARTIALLY_FILLED, 5)
    assert (report.quantity, report.price) == (20, D("1403.0"))


def test_history_newest_first_is_read_alike():
    newest_first = data("history")[::-1]
    assert mapping.parse_history(newest_first, NOW) == mapping.parse_history(data("history"), NOW)


def test_end_in_the_same_second_is_the_end():
    rows = data("history")
    ended = {**rows[-1], "status": "cancelled"}
    report = mapping.parse_history([ended, *rows], NOW)
    assert report is not None
    assert report.status is S.CANCELLED


def test_history_of_nothing():
    assert mapping.parse_history([], NOW) is None
    assert mapping.parse_history(None, NOW) is None


def test_trades_take_their_tags_from_the_book():
    fills, unread = mapping.parse_trades(data("trades"), data("orders"))
    assert unread == 0
    assert [(f.fill_id, f.broker_order_id, f.client_order_id) for f in fills] == [
        ("50091503", "261123025554316", "SLICEDTAG00000000001"),  # of the second slice
        ("50091502", "261123025554312", TAG),
    ]
    sliced, plain = fills
    assert (sliced.side, sliced.exchange, sliced.quantity) == (Side.SELL, Exchange.NFO, 1755)
    assert (plain.price, plain.filled_at) == (
        D("1402.9"),
        datetime(2026, 11, 23, 5, 3, 2, tzinfo=UTC),
    )


# --- Updates --------------------------------------------------------------------------------------


def test_update_of_the_stream_is_a_report():
    report = mapping.parse_update(payload("update"), NOW)
    assert (report.status, report.filled_quantity) == (S.PARTIALLY_FILLED, 4)
    assert report.client_order_id == TAG


def test_update_that_cannot_be_read_still_names_its_order():
    assert mapping.parse_update(payload("update") | {"quantity": "x"}, NOW) == OrderHint(
        "261123025554312"
    )


def test_update_of_a_slice_is_a_hint():
    sliced = payload("update") | {"tag": TAG + "SLICED", "status": "complete"}
    assert mapping.parse_update(sliced, NOW) == OrderHint("", TAG)


@pytest.mark.parametrize("kind", ["position", "holding", "gtt_order"])
def test_other_updates_are_of_no_order(kind):
    assert mapping.parse_update({"update_type": kind}, NOW) is None


def test_postback_is_a_hint_with_a_key_of_its_own():
    body = (PAYLOADS / "update.json").read_bytes()
    (hint,) = mapping.parse_postback(body)
    assert (hint.broker_order_id, hint.client_order_id) == ("261123025554312", TAG)
    (other,) = mapping.parse_postback(body.replace(b'"open"', b'"complete"'))
    assert hint.dedupe_key != other.dedupe_key
    assert mapping.parse_postback(b'{"update_type": "gtt_order", "gtt_order_id": "GTT-1"}') == []
    with pytest.raises(ValueError):
        mapping.parse_postback(b'{"update_type": "news", "order_id": "1"}')


# --- Portfolio ------------------------------------------------------------------------------------


def test_positions():
    (share, option, delivered), unread = portfolio.parse_positions(data("positions"))
    assert unread == 0
    assert (share.symbol, share.product, share.quantity) == ("RELIANCE", Product.MIS, 10)
    assert (share.average_price, share.unrealised) == (D("103.05"), D("42.45"))
    assert (option.symbol, option.product, option.quantity) == (
        "NIFTY26NOV24800CE",
        Product.NRML,
        -65,
    )
    assert option.realised == D("-20.5")
    assert delivered.product is Product.CNC
    (mtf,), _ = portfolio.parse_positions(data("mtf_positions"))
    assert (mtf.symbol, mtf.product, mtf.quantity) == ("INFY", Product.MTF, 7)


def test_holdings():
    (holding,), _ = portfolio.parse_holdings(data("holdings"))
    assert (holding.symbol, holding.isin, holding.quantity) == ("YESBANK", "INE528G01035", 36)
    assert (holding.t1_quantity, holding.average_price) == (6, D("18.75"))


def test_funds():
    funds = portfolio.parse_funds(data("funds"))
    assert (funds.available, funds.used) == (D("15507.46"), D("592.54"))
    assert funds.total == D("16100.00")


def test_profile():
    profile = portfolio.parse_profile(data("profile"))
    assert (profile.broker_user_id, profile.name) == ("4CAB12", "ASHA RAO")
    assert profile.exchanges == frozenset(Exchange)


def test_margin_and_charges():
    assert portfolio.parse_margin(data("margin")) == D("98000.25")
    assert portfolio.parse_charges(data("brokerage")) == D("46.61")


# --- Sessions -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("opened", "ends"),
    [
        ((2026, 11, 24, 20, 0), (2026, 11, 25, 3, 30)),
        ((2026, 11, 25, 2, 30), (2026, 11, 25, 3, 30)),
        ((2026, 11, 25, 3, 30), (2026, 11, 26, 3, 30)),
        ((2026, 12, 31, 23, 59), (2027, 1, 1, 3, 30)),
    ],
)
def test_session_ends_at_half_past_three(opened, ends):
    at = datetime(*opened, tzinfo=values.IST)
    assert values.session_end(at.astimezone(UTC)) == datetime(*ends, tzinfo=values.IST)


def test_token():
    token = portfolio.parse_token(payload("token"), NOW)
    assert token.broker_user_id == "4CAB12"
    assert token.secrets["access_token"].startswith("eyJ")
    assert token.expires_at == NOW


CREDENTIALS = {"api_key": "615b1297-d443-3b39-ba19-1927fbcdddc7", "api_secret": "s"}


def notice(**fields):
    return json.dumps({**json.loads((PAYLOADS / "notice.json").read_bytes()), **fields}).encode()


def test_notice_of_an_approved_session():
    token = portfolio.parse_session_notice(notice(), CREDENTIALS)
    assert token.broker_user_id == "4CAB12"
    assert token.expires_at == datetime(2026, 11, 24, 3, 30, tzinfo=values.IST)
    assert token.secrets["access_token"].startswith("eyJ")


@pytest.mark.parametrize(
    "fields",
    [
        {"client_id": "another"},
        {"client_id": None},
        {"message_type": "order"},
        {"access_token": ""},
        {"access_token": "line\nbreak"},
        {"access_token": "é"},
        {"access_token": "a" * 5000},
        {"access_token": {"a": 1}},
        {"expires_at": None},
        {"expires_at": "soon"},
        {"expires_at": "9" * 30},
    ],
    ids=lambda fields: "-".join(fields),
)
def test_what_is_no_notice(fields):
    with pytest.raises(ValueError):
        portfolio.parse_session_notice(notice(**fields), CREDENTIALS)


def test_notice_without_credentials():
    with pytest.raises(ValueError):
        portfolio.parse_session_notice(notice(client_id=""), {})


# --- Numbers and times ----------------------------------------------------------------------------


def test_numbers_are_as_they_were_written():
    read = values.read_json('{"a": 0.1, "b": 1e2, "c": 12345678901234567890.05}')
    assert read == {"a": D("0.1"), "b": D("100"), "c": D("12345678901234567890.05")}
    with pytest.raises(ValueError):
        values.read_json("[NaN]")
    with pytest.raises(ValueError):
        values.read_json("[" * 100_000)


def test_doubles_are_read_by_their_shortest_form():
    assert values.decimal(2419.35) == D("2419.35")
    assert str(values.decimal(100.0)) == "100"
    for wrong in (float("nan"), float("inf"), True, None, "x", []):
        with pytest.raises(ValueError):
            values.decimal(wrong)


def test_days_of_milliseconds_are_india_s():
    assert values.date_of_millis(1795544999000) == date(2026, 11, 24)
    assert values.date_of_millis("1795544999000") == date(2026, 11, 24)
