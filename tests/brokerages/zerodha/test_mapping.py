"""Kite's words and payloads, without a network."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from brokerages.adapters.zerodha import books, mapping, portfolio, sessions, values
from brokerages.errors import InvalidOrder, NotSupported, Refused
from brokerages.types import (
    Exchange,
    OrderChange,
    OrderType,
    PositionConversion,
    Product,
    ReportedStatus,
    Side,
    Validity,
)
from tests.brokerages.zerodha.conftest import FUTURE, PAYLOADS, SHARE, TAG, limit, order, payload

S = ReportedStatus
NOW = datetime(2026, 11, 23, 5, 0, tzinfo=UTC)


# --- Numbers and times ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (Decimal("99725.05000000002"), "99725.05"),
        (1456.3500000000001, "1456.35"),
        (1573, "1573.00"),
        ("0.0025", "0.0025"),
        (Decimal("1401.2857142857142"), "1401.2857"),
        (0.1 + 0.2, "0.30"),
    ],
)
def test_prices_lose_float_noise_and_nothing_else(given, wanted):
    price = values.price(given)
    assert isinstance(price, Decimal)
    assert str(price) == wanted


@pytest.mark.parametrize(
    "given", [None, True, "x", "NaN", "Infinity", float("nan"), "1e400", Decimal("1e16"), [], {}]
)
def test_what_is_no_number_is_refused(given):
    with pytest.raises(ValueError):
        values.exact(given)


def test_money_is_never_rounded_in_favour():
    assert values.money_down(Decimal("99725.059")) == Decimal("99725.05")
    assert values.money_down(Decimal("99725.04999999998")) == Decimal("99725.05")
    assert values.money_up(Decimal("14563.5010")) == Decimal("14563.51")
    assert values.money_up(Decimal("14563.500000000002")) == Decimal("14563.50")


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("2026-11-23 09:15:03", datetime(2026, 11, 23, 3, 45, 3, tzinfo=UTC)),
        (datetime(2026, 11, 23, 0, 0), datetime(2026, 11, 22, 18, 30, tzinfo=UTC)),
        ("2026-11-23T09:15:00+0530", datetime(2026, 11, 23, 3, 45, tzinfo=UTC)),
        (None, None),
        ("", None),
    ],
)
def test_times_of_india_become_utc(given, wanted):
    assert values.moment(given) == wanted


# --- Orders out -----------------------------------------------------------------------------------


def test_market_order_carries_protection_and_no_price():
    form = mapping.order_form(order(price=Decimal(5)))
    assert form == {
        "variety": "regular",
        "exchange": "NSE",
        "tradingsymbol": "RELIANCE",
        "transaction_type": "BUY",
        "quantity": 10,
        "product": "CNC",
        "order_type": "MARKET",
        "validity": "DAY",
        "tag": TAG,
        "market_protection": "-1",
    }


@pytest.mark.parametrize("product", list(Product))
@pytest.mark.parametrize("validity", list(Validity))
@pytest.mark.parametrize("side", list(Side))
def test_every_word_is_the_fields_own(product, validity, side):
    form = mapping.order_form(limit("95", product=product, validity=validity, side=side))
    assert (form["product"], form["validity"], form["transaction_type"]) == (
        product.value, validity.value, side.value,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        (OrderType.MARKET, {"market_protection": "-1"}),
        (OrderType.LIMIT, {"price": "95.05"}),
        (OrderType.SL, {"price": "95.05", "trigger_price": "96"}),
        (OrderType.SL_M, {"trigger_price": "96", "market_protection": "-1"}),
    ],
)
def test_each_type_carries_its_prices_alone(kind, wanted):
    form = mapping.order_form(
        order(order_type=kind, price=Decimal("95.0500"), trigger_price=Decimal("96.00"))
    )
    names = ("price", "trigger_price", "market_protection")
    assert {name: form[name] for name in names if name in form} == wanted


@pytest.mark.parametrize("price", ["1E+3", "1000", "1000.000"])
def test_prices_are_written_out(price):
    assert mapping.order_form(limit(price))["price"] == "1000"


def test_protection_of_a_request_is_kept():
    assert (
        mapping.order_form(order(market_protection=Decimal("2.50")))["market_protection"] == "2.5"
    )
    assert "market_protection" not in mapping.order_form(limit("5", market_protection=Decimal(2)))


@pytest.mark.parametrize("percent", [0, -1, 101])
def test_no_protection_is_refused_before_it_is_sent(percent):
    with pytest.raises(InvalidOrder):
        mapping.order_form(order(market_protection=Decimal(percent)))


@pytest.mark.parametrize("kind", [OrderType.LIMIT, OrderType.SL, OrderType.SL_M])
def test_a_missing_price_is_refused_before_it_is_sent(kind):
    with pytest.raises(InvalidOrder):
        mapping.order_form(order(order_type=kind))


@pytest.mark.parametrize(
    ("instrument", "quantity", "legs", "leg_quantity"),
    [(SHARE, 1000, 3, 334), (SHARE, 10, 2, 5), (FUTURE, 650, 4, 195), (FUTURE, 130, 2, 65)],
)
def test_iceberg_legs_cover_the_quantity_in_whole_lots(instrument, quantity, legs, leg_quantity):
    form = mapping.order_form(
        limit("95", instrument=instrument, quantity=quantity, iceberg_legs=legs)
    )
    assert (form["variety"], form["iceberg_legs"]) == ("iceberg", legs)
    assert form["iceberg_quantity"] == leg_quantity
    assert leg_quantity * (legs - 1) < quantity <= leg_quantity * legs


@pytest.mark.parametrize(("quantity", "legs"), [(10, 1), (65 * 2, 3), (4, 5), (6, 5)])
def test_parts_that_cannot_be_are_refused_before_they_are_sent(quantity, legs):
    instrument = FUTURE if quantity % 65 == 0 else SHARE
    with pytest.raises(InvalidOrder):
        mapping.order_form(limit("95", instrument=instrument, quantity=quantity, iceberg_legs=legs))


def test_varieties():
    assert mapping.variety_of(order()) == "regular"
    assert mapping.variety_of(order(after_market=True)) == "amo"
    assert mapping.variety_of(order(iceberg_legs=2)) == "iceberg"
    with pytest.raises(NotSupported):
        mapping.variety_of(order(after_market=True, iceberg_legs=2))


@pytest.mark.parametrize("exchange", [Exchange.MCX, Exchange.CDS])
def test_exchanges_that_count_lots_are_not_traded(exchange):
    with pytest.raises(Refused):
        mapping.order_form(order(instrument=replace(SHARE, exchange=exchange)))


def test_brokers_own_symbol_goes_first():
    share = replace(SHARE, symbol="RELINFRA", broker_symbol="RELINFRA-BE")
    assert mapping.order_form(order(instrument=share))["tradingsymbol"] == "RELINFRA-BE"


def test_change_states_all_terms_and_keeps_the_variety():
    change = OrderChange(20, OrderType.SL_M, Validity.DAY, None, Decimal("96.50"))
    assert mapping.change_form(change, order(after_market=True)) == {
        "variety": "amo",
        "quantity": 20,
        "order_type": "SL-M",
        "validity": "DAY",
        "trigger_price": "96.5",
        "market_protection": "-1",
    }


def test_change_can_take_disclosure_away():
    change = OrderChange(20, OrderType.LIMIT, Validity.DAY, Decimal(95))
    form = mapping.change_form(change, limit("95", disclosed_quantity=5))
    assert form["disclosed_quantity"] == 0


@pytest.mark.parametrize(("overnight", "word"), [(False, "day"), (True, "overnight")])
def test_conversion(overnight, word):
    conversion = PositionConversion(SHARE, Side.BUY, 5, Product.MIS, Product.CNC, overnight)
    assert mapping.conversion_form(conversion) == {
        "exchange": "NSE",
        "tradingsymbol": "RELIANCE",
        "transaction_type": "BUY",
        "position_type": word,
        "quantity": 5,
        "old_product": "MIS",
        "new_product": "CNC",
    }


# --- Orders in ------------------------------------------------------------------------------------

WORDS = {
    "PUT ORDER REQ RECEIVED": S.RECEIVED,
    "VALIDATION PENDING": S.RECEIVED,
    "OPEN PENDING": S.RECEIVED,
    "OPEN": S.OPEN,
    "TRIGGER PENDING": S.TRIGGER_PENDING,
    "AMO REQ RECEIVED": S.OPEN,
    "MODIFY AMO REQ RECEIVED": S.OPEN,
    "MODIFY VALIDATION PENDING": S.OPEN,
    "MODIFY PENDING": S.OPEN,
    "MODIFIED": S.OPEN,
    "NOT MODIFIED": S.OPEN,
    "CANCEL PENDING": S.PENDING_CANCEL,
    "NOT CANCELLED": S.OPEN,
    "UPDATE": S.OPEN,
    "COMPLETE": S.FILLED,
    "CANCELLED": S.CANCELLED,
    "CANCELLED AMO": S.CANCELLED,
    "REJECTED": S.REJECTED,
    "REJECTED BY EXCHANGE": S.REJECTED,
    "LAPSED": S.EXPIRED,
    "PARTIALLY FILLED": S.UNKNOWN,
    "EXPIRED": S.UNKNOWN,
    "": S.UNKNOWN,
    None: S.UNKNOWN,
    7: S.UNKNOWN,
}


@pytest.mark.parametrize(("word", "status"), WORDS.items())
def test_status_words(word, status):
    row = {"status": word, "order_type": "LIMIT", "filled_quantity": 0, "quantity": 10}
    assert mapping.status_of(row) is status


@pytest.mark.parametrize(
    ("word", "status"),
    [(w, S.PARTIALLY_FILLED if s is S.OPEN else s) for w, s in WORDS.items()],
)
def test_status_words_of_an_order_filled_in_part(word, status):
    row = {"status": word, "order_type": "LIMIT", "filled_quantity": 4, "quantity": 10}
    assert mapping.status_of(row) is status


@pytest.mark.parametrize("kind", ["SL", "SL-M"])
@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("UPDATE", S.UNKNOWN),  # it does not say whether the trigger was reached
        ("MODIFY PENDING", S.UNKNOWN),
        ("NOT MODIFIED", S.UNKNOWN),
        ("NOT CANCELLED", S.UNKNOWN),
        ("OPEN", S.OPEN),
        ("TRIGGER PENDING", S.TRIGGER_PENDING),
        ("AMO REQ RECEIVED", S.TRIGGER_PENDING),
    ],
)
def test_words_that_hide_a_trigger(kind, word, status):
    row = {"status": word, "order_type": kind, "filled_quantity": 0, "quantity": 10}
    assert mapping.status_of(row) is status


def reports():
    book = books.order_book(payload("orders.json"), NOW)
    return {report.client_order_id: report for report in book.reports}


def test_book_has_every_order_but_those_counted_in_lots():
    assert [tag[-1] for tag in reports()] == ["1", "2", "3", "4", "r", "6", "8"]


def test_protected_market_order_has_no_limit_of_ours():
    report = reports()["ABCDEFGHJK0000000001"]
    assert (report.status, report.quantity, report.filled_quantity) == (S.FILLED, 10, 10)
    assert report.price is None
    assert str(report.average_price) == "1456.35"
    assert report.reported_at == datetime(2026, 11, 23, 3, 45, 3, tzinfo=UTC)
    assert report.exchange_order_id == "1100000000000101"


def test_part_fill_and_a_tag_that_is_only_among_the_tags():
    report = reports()["ABCDEFGHJK0000000002"]
    assert (report.status, report.filled_quantity) == (S.PARTIALLY_FILLED, 25)
    assert (report.price, report.average_price) == (Decimal("3120.05"), Decimal("3120.05"))


def test_waiting_stop():
    report = reports()["ABCDEFGHJK0000000003"]
    assert report.status is S.TRIGGER_PENDING
    assert (report.price, report.trigger_price) == (Decimal(24700), Decimal("24710.5"))
    assert report.average_price is None


def test_rejection_keeps_the_brokers_words():
    report = reports()["ABCDEFGHJK0000000004"]
    assert report.status is S.REJECTED
    assert report.message.startswith("Insufficient funds. Required margin is 1200.00")
    assert report.exchange_order_id == ""


def test_cancelled_order_keeps_what_filled_whatever_the_other_columns_say():
    report = reports()["my own order"]
    assert (report.status, report.filled_quantity, report.quantity) == (S.CANCELLED, 4, 5)


def test_unknown_word_changes_nothing_even_with_fills():
    report = reports()["ABCDEFGHJK0000000008"]
    assert (report.status, report.filled_quantity) == (S.UNKNOWN, 3)


def test_history_of_an_order():
    statuses = [mapping.status_of(row) for row in payload("history.json")]
    assert statuses == [S.RECEIVED] * 3 + [S.OPEN] * 4 + [S.PARTIALLY_FILLED]


def test_slices_are_orders_of_their_own_and_system_tags_are_nobodys():
    book = books.order_book(payload("autoslice.json"), NOW)
    assert [(r.client_order_id, r.status) for r in book.reports] == [("", S.FILLED), ("", S.OPEN)]


def test_order_is_found_by_its_tag_wherever_it_is():
    book = books.order_book(payload("orders.json"), NOW)
    found = book.find_tagged("ABCDEFGHJK0000000002")
    assert found is not None
    assert found.broker_order_id == "1926112300000000002"
    mine = book.find_tagged("my own order")
    assert mine is not None
    assert mine.client_order_id == "my own order"


@pytest.mark.parametrize("tag", ["", "ABCDEFGHJK0000000009", "mktp:2.00", "ABCDEFGHJK000000000"])
def test_other_tags_find_nothing(tag):
    assert books.order_book(payload("orders.json"), NOW).find_tagged(tag) is None


@pytest.mark.parametrize(
    "damage",
    [
        {"order_id": None},
        {"order_id": ""},
        {"quantity": "ten"},
        {"filled_quantity": 1.5},
        {"order_timestamp": "yesterday"},
    ],
)
def test_row_that_makes_no_sense_hides_nothing_else_and_is_counted(damage):
    rows = payload("orders.json")
    rows[0] |= damage
    book = books.order_book(rows, NOW)
    assert (len(book.reports), book.unread) == (6, 1)


@pytest.mark.parametrize("rows", [None, {}, "", 5, [1], [{}], [None, {}], [{"exchange": "NSE"}]])
def test_what_is_no_book_at_all(rows):
    with pytest.raises(ValueError):
        books.order_book(rows, NOW)


def test_empty_book():
    book = books.order_book([], NOW)
    assert (book.reports, book.unread) == ((), 0)


def test_iceberg_with_a_leg_that_cannot_be_read_is_counted():
    rows = payload("iceberg.json") + payload("orders.json")
    rows[0]["meta"]["iceberg"]["leg"] = "second"
    book = books.order_book(rows, NOW)
    assert book.unread == 1
    assert book.find_tagged("ABCDEFGHJK0000000030") is None


def test_iceberg_is_one_order():
    book = books.order_book(payload("iceberg.json"), NOW)
    (report,) = book.reports
    assert report.broker_order_id == "1926112300000000031"  # what the placement returned
    assert (report.quantity, report.filled_quantity) == (1000, 500)
    assert report.status is S.PARTIALLY_FILLED
    assert report.average_price == Decimal("1449.80")
    assert book.live_legs == {"1926112300000000031": "1926112300000000032"}


@pytest.mark.parametrize(
    ("second", "filled", "status"),
    [
        ({"status": "COMPLETE", "filled_quantity": 400}, 800, S.PARTIALLY_FILLED),  # a third comes
        ({"status": "CANCELLED", "filled_quantity": 100}, 500, S.CANCELLED),
        ({"status": "REJECTED", "filled_quantity": 0}, 400, S.REJECTED),
        ({"status": "CANCEL PENDING", "filled_quantity": 0}, 400, S.PENDING_CANCEL),
        ({"status": "OPEN PENDING", "filled_quantity": 0}, 400, S.RECEIVED),
        ({"status": "COMPLETE", "filled_quantity": 600}, 1000, S.FILLED),
    ],
)
def test_iceberg_ends_when_its_legs_do(second, filled, status):
    rows = payload("iceberg.json")
    rows[0] |= second
    (report,) = books.order_book(rows, NOW).reports
    assert (report.filled_quantity, report.status) == (filled, status)


def test_fills():
    rows = payload("orders.json") + payload("iceberg.json")
    owners = books.order_book(rows, NOW).owners
    read, unread = values.each(payload("trades.json"), mapping.fill_report)
    fills = books.fills_of_orders(read, owners)

    assert unread == 0
    assert [(f.fill_id, f.quantity, str(f.price)) for f in fills] == [
        ("75894751", 4, "1456.30"), ("75894752", 6, "1456.3833"), ("75894760", 100, "1449.00"),
    ]  # fmt: skip
    assert fills[0].client_order_id == fills[1].client_order_id == "ABCDEFGHJK0000000001"
    assert fills[1].filled_at == datetime(2026, 11, 23, 3, 45, 3, tzinfo=UTC)
    # a leg's fill is the iceberg's
    assert fills[2].broker_order_id == "1926112300000000031"
    assert fills[2].client_order_id == "ABCDEFGHJK0000000030"


def test_fill_of_an_order_that_is_not_in_the_book_stays_its_own():
    read = mapping.fill_report(payload("trades.json")[0])
    assert read is not None
    (fill,) = books.fills_of_orders([read], {})
    assert (fill.broker_order_id, fill.client_order_id) == ("1926112300000000001", "")


@pytest.mark.parametrize(
    "damage",
    [
        {"fill_timestamp": None, "exchange_timestamp": None},
        {"transaction_type": "HOLD"},
        {"quantity": None},
        {"average_price": "NaN"},
        {"trade_id": ""},
    ],
)
def test_trade_that_makes_no_sense_hides_nothing_else(damage):
    rows = payload("trades.json")
    rows[0] |= damage
    fills, unread = values.each(rows, mapping.fill_report)
    assert ([fill.fill_id for fill in fills], unread) == (["75894752", "75894760"], 1)


# --- Portfolio and money --------------------------------------------------------------------------


def test_positions():
    (short, flat, lots), unread = portfolio.position_reports(payload("positions.json"))
    assert unread == 0
    assert (short.quantity, short.average_price, short.unrealised) == (
        -20, Decimal("825.45"), Decimal("27.00"),
    )  # fmt: skip
    assert (flat.product, flat.quantity) == (Product.CNC, 0)
    assert (flat.realised, flat.unrealised) == (Decimal(801), Decimal(0))
    assert (lots.exchange, lots.quantity) == (Exchange.MCX, 200)


def test_position_that_makes_no_sense_hides_nothing_else():
    data = payload("positions.json")
    data["net"][0]["quantity"] = "some"
    reports, unread = portfolio.position_reports(data)
    assert ([report.quantity for report in reports], unread) == ([0, 200], 1)


def test_holdings():
    (share, margin), _ = portfolio.holding_reports(payload("holdings.json"))
    assert (share.quantity, share.t1_quantity, str(share.average_price)) == (10, 2, "1401.2857")
    assert (margin.symbol, margin.quantity, margin.average_price) == (
        "SBIN",
        100,
        Decimal("810.55"),
    )


def test_funds():
    funds = portfolio.funds(payload("margins_equity.json"))
    assert (str(funds.available), str(funds.used)) == ("99725.05", "145706.55")
    assert funds.total == funds.available + funds.used


def test_profile():
    profile = portfolio.profile(payload("profile.json"))
    assert (profile.broker_user_id, profile.name) == ("AB1234", "Asha Rao")
    assert profile.exchanges == frozenset(Exchange)  # MF and BCD have no word of ours


def test_margins():
    margin = portfolio.margin_of_order(payload("order_margins.json"))
    assert (str(margin.required), str(margin.charges)) == ("14563.50", "17.30")
    basket = portfolio.margin_of_basket(payload("basket_margins.json"))
    assert (str(basket.required), str(basket.charges)) == ("61234.25", "25.35")


def test_margin_question_names_no_tag():
    row = portfolio.margin_order(limit("95.5"))
    assert (row["price"], row["trigger_price"]) == (Decimal("95.5"), 0)
    assert "tag" not in row
    assert row["variety"] == "regular"


# --- Sessions and postbacks -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "end"),
    [
        ("2026-11-23T10:30:00+05:30", "2026-11-24T06:00:00+05:30"),
        ("2026-11-23T05:59:59+05:30", "2026-11-23T06:00:00+05:30"),
        ("2026-11-23T06:00:00+05:30", "2026-11-24T06:00:00+05:30"),
        ("2026-11-23T23:00:00+00:00", "2026-11-24T06:00:00+05:30"),  # already the 24th in India
    ],
)
def test_session_ends_at_six_in_india(now, end):
    assert sessions.session_end(datetime.fromisoformat(now)) == datetime.fromisoformat(end)


SECRET = "kiteemulatedsecret00000000000001"


def postback(secret: str = SECRET) -> bytes:
    text = (PAYLOADS / "postback.json").read_text(encoding="utf-8")
    row = json.loads(text)
    named = row["order_id"] + row["order_timestamp"] + secret
    return text.replace("@CHECKSUM@", hashlib.sha256(named.encode()).hexdigest()).encode()


def test_genuine_postback_names_its_order():
    assert sessions.postback_is_genuine(postback(), SECRET)
    (hint,) = sessions.postback_hints(postback())
    assert hint.broker_order_id == "1926112300000000001"
    assert hint.client_order_id == "ABCDEFGHJK0000000001"


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b"{}", b"\xff\xfe", b"[" * 100_000,
        b'{"order_id": 1, "order_timestamp": "2026-11-23 09:15:03", "checksum": "x"}',
        b'{"order_id": "1", "order_timestamp": null, "checksum": null}',
        '{"order_id": "1", "order_timestamp": "t", "checksum": "é"}'.encode(),
        b'{"order_id": "\\ud800", "order_timestamp": "t", "checksum": "x"}',
        postback("another secret"),
        postback().replace(b"09:15:03", b"09:15:04"),
        postback().replace(b"1926112300000000001", b"1926112300000000002"),
        postback().replace(b'"checksum"', b'"other"'),
    ],
)  # fmt: skip
def test_forged_and_broken_postbacks(body):
    assert sessions.postback_is_genuine(body, SECRET) is False


def test_without_a_secret_nothing_is_genuine():
    assert sessions.postback_is_genuine(postback(""), "") is False


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"{}", b'{"order_id": ""}', b"\xff", b"[" * 100_000]
)
def test_what_is_no_postback(body):
    with pytest.raises(ValueError):
        sessions.postback_hints(body)


def test_deliveries_are_told_apart_by_what_they_say():
    first = sessions.postback_hints(postback())[0].dedupe_key
    assert sessions.postback_hints(postback())[0].dedupe_key == first
    later = postback().replace(b'"filled_quantity": 10', b'"filled_quantity": 9')
    assert sessions.postback_hints(later)[0].dedupe_key != first
