"""What the paper broker does with an order: types, products, refusals, partial fills."""

from __future__ import annotations

from decimal import Decimal

import pytest

from brokerages.errors import (
    InsufficientFunds,
    InsufficientHoldings,
    InvalidOrder,
    MarketClosed,
    NotSupported,
    OrderNotFound,
    Refused,
)
from brokerages.models import PaperFill, PaperOrder
from brokerages.types import OrderType, Product, ReportedStatus, Side, Validity
from tests.brokerages.conftest import CALL, FUTURE, INDEX, REQUEST, levels, tagged

pytestmark = pytest.mark.django_db

S = ReportedStatus


def fills(ack) -> list[tuple[int, Decimal]]:
    return [(fill.quantity, fill.price) for fill in ack.fills]


class TestMarket:
    def test_buy_walks_the_book_and_becomes_a_holding(self, paper, market):
        market.show(last=100, asks=levels((100.5, 5), (101, 20)))

        ack = paper.buy(10)

        assert ack.report.status is S.FILLED
        assert fills(ack) == [(5, Decimal("100.5")), (5, Decimal(101))]
        assert ack.report.average_price == Decimal("100.75")
        assert paper.holding == 10
        assert paper.available == Decimal(100_000) - Decimal("1007.50")
        assert paper.used == 0

    def test_remainder_waits_for_the_next_book(self, paper, market):
        market.show(last=100, asks=levels((100.5, 4)))

        ack = paper.buy(10)
        assert (ack.report.status, ack.report.filled_quantity) == (S.PARTIALLY_FILLED, 4)
        assert paper.advance() == []  # the same book is used up

        market.show(last=101, asks=levels((101, 100)))
        (event,) = paper.advance()
        assert (event.report.status, event.report.filled_quantity) == (S.FILLED, 10)
        assert fills(event) == [(6, Decimal(101))]
        assert paper.available == Decimal(100_000) - 4 * Decimal("100.5") - 6 * 101
        assert paper.used == 0

    def test_empty_side_rests_inside_the_circuits(self, paper, market):
        market.show(last=110, asks=(), upper_circuit=Decimal(110))

        assert paper.buy(1).report.status is S.OPEN

    def test_slippage_is_worse_by_whole_ticks(self, paper, market, settings):
        settings.PAPER_SLIPPAGE_BPS = "10"
        market.show(last=100, asks=levels((100, 100)), bids=levels((99.9, 100)))

        assert fills(paper.buy(10)) == [(10, Decimal("100.10"))]
        assert fills(paper.sell(10)) == [(10, Decimal("99.80"))]
        assert fills(paper.buy(10, 100)) == [(10, Decimal(100))]  # a limit is a limit

    def test_slippage_stops_at_the_circuit(self, paper, market, settings):
        settings.PAPER_SLIPPAGE_BPS = "5000"
        market.show(last=100, asks=levels((100, 100)), upper_circuit=Decimal(110))

        assert fills(paper.buy(1)) == [(1, Decimal(110))]

    def test_source_without_a_book_fills_at_the_last_price(self, paper, market):
        market.show(last=100, asks=(), bids=())

        assert fills(paper.buy(900)) == [(900, Decimal(100))]


class TestLimit:
    def test_fills_at_the_book_never_worse_than_the_limit(self, paper, market):
        market.show(last=100, asks=levels((100, 3), (101, 3), (102, 3)))

        ack = paper.buy(9, 101)

        assert fills(ack) == [(3, Decimal(100)), (3, Decimal(101))]
        assert ack.report.status is S.PARTIALLY_FILLED
        assert paper.used == 3 * 101

    def test_rests_blocks_and_fills_later(self, paper, market):
        market.show(last=100)
        ack = paper.buy(10, 99)
        assert (ack.report.status, paper.used) == (S.OPEN, 990)

        market.show(last=98.5)  # sellers at 99
        (event,) = paper.advance()

        assert (event.report.status, fills(event)) == (S.FILLED, [(10, Decimal(99))])
        assert (paper.used, paper.available) == (0, 100_000 - 990)

    def test_better_fill_gives_back_the_difference(self, paper, market):
        market.show(last=100, asks=levels((95, 100)))
        paper.buy(10, 99)
        assert (paper.used, paper.available) == (0, 100_000 - 950)

    def test_ioc_cancels_the_rest(self, paper, market):
        market.show(last=100, asks=levels((100, 3)))

        ack = paper.buy(9, 100, validity=Validity.IOC)

        assert (ack.report.status, ack.report.filled_quantity) == (S.CANCELLED, 3)
        assert (paper.used, paper.holding) == (0, 3)

    def test_ioc_that_cannot_fill_is_cancelled_at_once(self, paper, market):
        market.show(last=100)
        ack = paper.buy(9, 90, validity=Validity.IOC)
        assert (ack.report.status, ack.fills, paper.used) == (S.CANCELLED, (), 0)


class TestStop:
    def test_stop_limit_waits_for_the_last_price(self, paper, market):
        market.show(last=100)
        ack = paper.buy(10, 106, trigger=105)
        assert (ack.report.status, paper.used) == (S.TRIGGER_PENDING, 1060)

        market.show(last=104.95, asks=levels((105, 100)))
        assert paper.advance() == []
        market.show(last=105, asks=levels((105.5, 4)))
        (event,) = paper.advance()

        assert (event.report.status, fills(event)) == (S.PARTIALLY_FILLED, [(4, Decimal("105.5"))])
        market.show(last=104, asks=levels((104.5, 100)))
        (event,) = paper.advance()  # once hit, it stays an ordinary order
        assert event.report.status is S.FILLED

    def test_stop_limit_hit_but_out_of_reach_rests(self, paper, market):
        market.show(last=100)
        paper.buy(10, 105, trigger=105)

        market.show(last=107)
        (event,) = paper.advance()

        assert (event.report.status, event.fills) == (S.OPEN, ())

    def test_stop_market_sells_a_holding(self, paper, market):
        market.show(last=100)
        paper.buy(10)
        ack = paper.sell(10, trigger=95)
        assert (ack.report.status, paper.used) == (S.TRIGGER_PENDING, 0)

        market.show(last=94)
        (event,) = paper.advance()

        assert (event.report.status, fills(event)) == (S.FILLED, [(10, Decimal("93.5"))])
        assert paper.holding == 0

    def test_stop_market_after_a_jump_pays_from_the_cash(self, paper, market):
        market.show(last=100)
        paper.buy(100, trigger=105)
        market.show(last=200, asks=levels((200, 1000)))
        paper.advance()
        assert (paper.holding, paper.available, paper.used) == (100, 80_000, 0)

    def test_stop_market_that_the_cash_cannot_pay_is_cut(self, paper, market):
        market.show(last=100)
        paper.buy(900, trigger=105)
        market.show(last=200, asks=levels((200, 1000)))

        (event,) = paper.advance()

        assert (event.report.status, event.report.filled_quantity) == (S.CANCELLED, 500)
        assert "nsufficient funds" in event.report.message
        assert (paper.available, paper.used) == (0, 0)

    @pytest.mark.parametrize(("side", "trigger"), [("buy", 100), ("buy", 99), ("sell", 101)])
    def test_trigger_that_the_market_has_passed(self, paper, market, side, trigger):
        market.show(last=100)
        with pytest.raises(InvalidOrder, match="trigger price"):
            getattr(paper, side)(1, trigger=trigger, product=Product.MIS)

    def test_price_on_the_wrong_side_of_the_trigger(self, paper, market):
        market.show(last=100)
        with pytest.raises(InvalidOrder, match="below its trigger"):
            paper.buy(1, 104, trigger=105)


class TestDelivery:
    def test_bought_today_can_be_sold_today(self, paper, market):
        market.show(last=100)
        paper.buy(10)
        market.show(last=110)

        assert paper.sell(10).report.status is S.FILLED
        assert paper.holding == 0
        assert paper.available == 100_000 + 10 * (Decimal("109.5") - Decimal("100.5"))

    def test_no_short_sale(self, paper, market):
        market.show(last=100)
        paper.buy(10)

        with pytest.raises(InsufficientHoldings, match="10 can be sold, 11"):
            paper.sell(11)
        assert paper.holding == 10

    def test_shares_promised_to_an_open_sale_are_not_sold_twice(self, paper, market):
        market.show(last=100)
        paper.buy(10)
        first = paper.sell(6, 120)

        with pytest.raises(InsufficientHoldings, match="4 can be sold"):
            paper.sell(5)
        paper.adapter.cancel_order(first.broker_order_id, REQUEST)
        assert paper.sell(10).report.status is S.FILLED

    def test_not_enough_cash(self, paper, market):
        market.show(last=100)
        with pytest.raises(InsufficientFunds, match=r"100500\.00 needed, ₹100000\.00"):
            paper.buy(1000)
        with pytest.raises(InsufficientFunds):
            paper.buy(1001, 100)
        assert paper.available == 100_000

    def test_market_order_deeper_than_the_cash_takes_nothing(self, paper, market):
        market.show(last=100, asks=levels((100, 500), (500, 500)))
        with pytest.raises(InsufficientFunds, match="prices in the book"):
            paper.buy(1000)
        assert (paper.available, paper.holding) == (100_000, 0)
        assert fills(paper.buy(500)) == [(500, Decimal(100))]  # the book was not used up

    def test_margin_trading_blocks_a_quarter(self, paper, market):
        market.show(last=100, asks=levels((100, 5000)), bids=levels((110, 5000)))
        paper.buy(1000, product=Product.MTF)
        assert (paper.used, paper.available) == (25_000, 75_000)
        with pytest.raises(InsufficientHoldings):
            paper.sell(1001, product=Product.MTF)
        paper.sell(1000, product=Product.MTF)
        assert (paper.used, paper.available) == (0, 110_000)


class TestMargin:
    def test_intraday_long_blocks_a_fifth_and_settles(self, paper, market):
        market.show(last=100, asks=levels((100, 9999)), bids=levels((99, 9999)))
        paper.buy(1000, product=Product.MIS)
        assert (paper.position(), paper.used, paper.available) == (1000, 20_000, 80_000)

        paper.sell(400, product=Product.MIS)
        assert (paper.position(), paper.used, paper.available) == (600, 12_000, 87_600)
        paper.sell(600, product=Product.MIS)
        assert (paper.position(), paper.used, paper.available) == (0, 0, 99_000)
        (report,) = paper.adapter.fetch_positions()
        assert report.realised == -1000

    def test_closing_needs_no_margin_even_with_no_cash(self, paper, market):
        market.show(last=100, asks=levels((100, 9999)), bids=levels((100, 9999)))
        paper.buy(5000, product=Product.MIS)
        assert paper.available == 0
        assert paper.sell(2000, 101, product=Product.MIS).report.status is S.OPEN
        assert paper.sell(3000, product=Product.MIS).report.status is S.FILLED
        with pytest.raises(InsufficientFunds):  # the rest of the position is promised already
            paper.sell(4000, product=Product.MIS)

    def test_short_and_turn_around(self, paper, market):
        market.show(last=100, asks=levels((100, 9999)), bids=levels((100, 9999)))
        paper.sell(100, product=Product.MIS)
        assert (paper.position(), paper.used) == (-100, 2000)

        market.show(last=90, asks=levels((90, 9999)), bids=levels((90, 9999)))
        paper.buy(150, product=Product.MIS)

        assert (paper.position(), paper.used) == (50, 900)
        assert paper.available == 100_000 + 1000 - 900

    def test_block_of_a_resting_order_is_its_own(self, paper, market):
        market.show(last=100, asks=levels((100, 9999)), bids=levels((100, 9999)))
        resting = paper.buy(100, 90, product=Product.MIS)
        paper.buy(10, product=Product.MIS)
        paper.sell(10, product=Product.MIS)
        assert paper.used == 1800
        paper.adapter.cancel_order(resting.broker_order_id, REQUEST)
        assert (paper.used, paper.available) == (0, 100_000)

    def test_loss_beyond_the_cash_is_owed(self, paper, market):
        market.show(last=100, bids=levels((100, 9999)))
        paper.sell(5000, product=Product.MIS)  # all of the cash is margin
        market.show(last=200, asks=levels((200, 9999)))

        paper.buy(5000, product=Product.MIS)

        assert paper.available == -400_000
        with pytest.raises(InsufficientFunds):
            paper.buy(1)

    def test_future_blocks_twelve_percent_in_lots(self, paper, market):
        market.show(FUTURE, last=1000, asks=levels((1000, 9999)))
        paper.buy(65, instrument=FUTURE, product=Product.NRML)
        assert paper.used == Decimal("7800.00")

    def test_option_buyer_pays_the_premium(self, paper, market):
        market.show(CALL, last=100, asks=levels((100, 9999)), bids=levels((150, 9999)))
        paper.buy(65, instrument=CALL, product=Product.NRML)
        assert (paper.used, paper.available) == (6500, 93_500)
        paper.sell(65, instrument=CALL, product=Product.NRML)
        assert (paper.used, paper.available) == (0, 103_250)

    def test_option_seller_blocks_margin_on_the_strike(self, paper, market, settings):
        market.show(CALL, last=100, bids=levels((100, 9999)))
        with pytest.raises(InsufficientFunds):  # 65 × 26,000 × 12 % = 202,800
            paper.sell(65, instrument=CALL, product=Product.NRML)


class TestRefusals:
    @pytest.mark.parametrize(
        ("terms", "code"),
        [
            ({"quantity": 0}, "quantity"),
            ({"quantity": -5}, "quantity"),
            ({"quantity": 10**12}, "quantity"),
            ({"price": 100.03}, "tick_size"),
            ({"price": 0}, "price"),
            ({"price": -1}, "price"),
            ({"price": "NaN"}, "price"),
            ({"order_type": OrderType.LIMIT}, "price"),
            ({"order_type": OrderType.SL_M}, "trigger_price"),
            ({"instrument": FUTURE, "quantity": 64, "product": Product.NRML}, "lot_size"),
            ({"instrument": FUTURE, "quantity": 1820, "product": Product.NRML}, "freeze_quantity"),
            ({"instrument": FUTURE, "quantity": 65}, "product"),
            ({"product": Product.NRML}, "product"),
            ({"instrument": INDEX}, "not_tradable"),
            ({"disclosed_quantity": 2}, "disclosed_quantity"),
            ({"tag": ""}, "client_order_id"),
            ({"tag": "x" * 41}, "client_order_id"),
        ],
    )
    def test_terms_that_can_never_be_right_leave_nothing(self, paper, market, terms, code):
        market.show(last=100)
        market.show(FUTURE, last=100)
        with pytest.raises(InvalidOrder) as raised:
            paper.buy(terms.pop("quantity", 1), **terms)
        assert raised.value.code == code
        assert not PaperOrder.objects.exists()

    def test_after_market_orders(self, paper, market):
        with pytest.raises(NotSupported):
            paper.buy(1, after_market=True)

    @pytest.mark.parametrize("price", [89, 111])
    def test_outside_the_circuits(self, paper, market, price):
        market.show(last=100, lower_circuit=Decimal(90), upper_circuit=Decimal(110))
        with pytest.raises(InvalidOrder, match="circuit limits 90 and 110"):
            paper.buy(1, price)

    def test_closed_market_and_no_data(self, paper, market):
        with pytest.raises(MarketClosed, match="no market data"):
            paper.buy(1)
        market.show(last=100)
        market.open = False
        with pytest.raises(MarketClosed, match="market is closed"):
            paper.buy(1)

    def test_refused_order_stands_in_the_book_and_is_refused_again(self, paper, market):
        market.show(last=100)
        request = paper.request(Side.BUY, 5000, tag="ONCE")
        for _ in range(2):
            with pytest.raises(InsufficientFunds):
                paper.adapter.place_order(request)

        report = paper.adapter.find_order(tagged("ONCE"))
        assert report.status is S.REJECTED
        assert "Insufficient funds" in report.message
        assert (paper.used, PaperOrder.objects.count()) == (0, 1)

    def test_simulated_rejections_are_the_same_each_time(self, make_paper, market, settings):
        settings.PAPER_REJECT_RATE = "0.5"
        market.show(last=100)

        def rejected(paper) -> list[str]:
            outcome = []
            for number in range(40):
                try:
                    outcome.append(paper.buy(1, tag=f"LUCK{number}").report.status.value)
                except Refused as e:
                    outcome.append(e.code)
            return outcome

        first, second = rejected(make_paper()), rejected(make_paper())
        assert first == second
        assert set(first) == {"FILLED", "simulated_rejection"}
        assert 10 < first.count("FILLED") < 30

    def test_repeated_tag_is_the_same_order(self, paper, market):
        market.show(last=100)
        first = paper.buy(3, tag="SAME")
        again = paper.buy(3, tag="SAME")
        assert again == first
        assert (PaperOrder.objects.count(), PaperFill.objects.count(), paper.holding) == (1, 1, 3)

    def test_same_tag_of_two_users(self, make_paper, market):
        market.show(last=100)
        one, other = make_paper(), make_paper()
        a, b = one.buy(1, tag="SAME"), other.buy(2, tag="SAME")
        assert a.broker_order_id != b.broker_order_id
        assert one.adapter.find_order(tagged("SAME")).filled_quantity == 1
        with pytest.raises(OrderNotFound):
            other.adapter.cancel_order(a.broker_order_id, REQUEST)


class TestReports:
    def test_orders_fills_and_find(self, paper, market):
        market.show(last=100)
        a, b = paper.buy(1, tag="A"), paper.buy(1, 90, tag="B")
        assert [r.client_order_id for r in paper.adapter.fetch_orders()] == ["A", "B"]
        assert paper.adapter.find_order(tagged("A")) == a.report
        assert paper.adapter.find_order(tagged("none")) is None
        assert paper.adapter.fetch_fills() == list(a.fills)
        assert b.report.status is S.OPEN

    def test_fill_ids_are_unique(self, make_paper, market):
        market.show(last=100, asks=levels((100, 1), (101, 1), (102, 1)))
        acks = [make_paper().buy(2), make_paper().buy(1)]
        ids = [fill.fill_id for ack in acks for fill in ack.fills]
        assert len(set(ids)) == 3

    def test_estimate_equals_what_is_blocked(self, paper, market):
        market.show(last=100)
        request = paper.request(Side.BUY, 7, 90, product=Product.MIS)
        estimate = paper.adapter.estimate_margin([request]).required
        paper.adapter.place_order(request)
        assert paper.used == estimate == 126

    def test_unrealised_profit(self, paper, market):
        market.show(last=100, asks=levels((100, 100)))
        paper.buy(10, product=Product.MIS)
        market.show(last=103)
        (report,) = paper.adapter.fetch_positions()
        assert (report.unrealised, report.average_price) == (30, 100)
