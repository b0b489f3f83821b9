"""Positions, holdings, conversion, funds, margins and charges."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from tests.emulators.core import accounts
from tests.emulators.core.accounts import Holding, Position
from tests.emulators.core.dialect import Call, Dialect, route
from tests.emulators.core.instruments import Instrument
from tests.emulators.core.messages import Response
from tests.emulators.core.orders import Ticket
from tests.emulators.upstox.orders import NIGHT, body_of, one_of, whole
from tests.emulators.upstox.words import (
    PRODUCTS,
    Wrong,
    key_of,
    number,
    our_product,
    product_word,
    success,
)

ZERO = Decimal(0)
MOST_MARGINS = 20


class Portfolio(Dialect):
    """What an account of the emulated Upstox holds."""

    night_closes: bool

    def instrument(self, key: Any) -> Instrument:
        raise NotImplementedError

    # --- Positions and holdings -------------------------------------------------------------------

    @route("GET", "/v2/portfolio/short-term-positions", group="positions")
    def positions(self, call: Call) -> Response:
        every = call.account.positions.values()
        return success([self._position(p) for p in every if p.product != "MTF"])

    @route("GET", "/v3/portfolio/mtf-positions", group="mtf")
    def mtf_positions(self, call: Call) -> Response:
        every = call.account.positions.values()
        return success([self._position(p) for p in every if p.product == "MTF"])

    def _position(self, position: Position) -> dict[str, Any]:
        instrument = position.instrument
        book = self.exchange.book(instrument)
        bought, sold = position.buy_quantity, position.sell_quantity
        held, carried = position.overnight, position.overnight_price
        buy_value = position.buy_value + (held * carried if held > 0 else ZERO)
        sell_value = position.sell_value + (-held * carried if held < 0 else ZERO)
        quantity = position.quantity
        unrealised = quantity * (book.last - position.average)
        return {
            "exchange": instrument.exchange,
            "multiplier": 1,
            "value": number(abs(position.cost)),
            "pnl": number(unrealised + position.realised),
            "product": product_word(position.product),
            "instrument_token": key_of(instrument),
            "average_price": number(position.average),
            "buy_value": number(buy_value),
            "sell_value": number(sell_value),
            "overnight_quantity": held,
            "day_buy_value": number(position.buy_value),
            "day_buy_price": number(position.buy_value / bought if bought else ZERO),
            "day_buy_quantity": bought,
            "day_sell_value": number(position.sell_value),
            "day_sell_price": number(position.sell_value / sold if sold else ZERO),
            "day_sell_quantity": sold,
            "overnight_buy_amount": number(held * carried if held > 0 else ZERO),
            "overnight_buy_quantity": max(held, 0),
            "overnight_sell_amount": number(-held * carried if held < 0 else ZERO),
            "overnight_sell_quantity": max(-held, 0),
            "quantity": quantity,
            "last_price": number(book.last),
            "unrealised": number(unrealised),
            "realised": number(position.realised),
            "tradingsymbol": instrument.symbol,
            "trading_symbol": instrument.symbol,
            "close_price": number(book.close),
            "buy_price": number(buy_value / (bought + max(held, 0)) if buy_value else ZERO),
            "sell_price": number(sell_value / (sold + max(-held, 0)) if sell_value else ZERO),
        }

    @route("GET", "/v2/portfolio/long-term-holdings", group="holdings")
    def holdings(self, call: Call) -> Response:
        return success([self._holding(h) for h in call.account.holdings.values()])

    def _holding(self, holding: Holding) -> dict[str, Any]:
        instrument = holding.instrument
        book = self.exchange.book(instrument)
        units, change = holding.quantity + holding.t1, book.last - book.close
        return {
            "isin": instrument.isin,
            "cnc_used_quantity": holding.used,
            "collateral_type": "WC",
            "company_name": instrument.name,
            "haircut": Decimal("0.2"),
            "product": "D",
            "quantity": units,
            "tradingsymbol": instrument.symbol,
            "trading_symbol": instrument.symbol,
            "last_price": number(book.last),
            "close_price": number(book.close),
            "pnl": number((book.last - holding.average) * units),
            "day_change": number(change),
            "day_change_percentage": number(change / book.close * 100),
            "instrument_token": key_of(instrument),
            "average_price": number(holding.average),
            "collateral_quantity": 0,
            "collateral_update_quantity": 0,
            "t1_quantity": holding.t1,
            "exchange": instrument.exchange,
        }

    @route("PUT", "/v2/portfolio/convert-position", group="convert")
    def convert(self, call: Call) -> Response:
        form = body_of(call.request)
        instrument = self.instrument(form.get("instrument_token"))
        old, new = (
            our_product(one_of(form, name, PRODUCTS, "UDAPI100036"), instrument)
            for name in ("old_product", "new_product")
        )
        side = one_of(form, "transaction_type", ("BUY", "SELL"), "UDAPI100036")
        self.exchange.convert(
            call.account, instrument, side, whole(form, "quantity"), old=old, new=new
        )
        return success({"status": "complete"})

    # --- Money ------------------------------------------------------------------------------------

    def _funds_open(self) -> None:
        if self.night_closes and NIGHT[0] <= self.clock.local().time() < NIGHT[1]:
            raise Wrong(
                "UDAPI100072",
                "The Funds service is accessible from 5:30 AM to 12:00 AM IST",
                status=423,
            )

    @route("GET", "/v3/user/get-funds-and-margin", group="funds")
    def funds(self, call: Call) -> Response:
        self._funds_open()
        account = call.account
        none = number(ZERO)
        used = {
            "total": number(account.used),
            "mtf": none,
            "loss": {"total": none, "realised": none, "unrealised": none},
            "span_exposure": none,
            "cash_margin_var_elm": number(account.used),
            "premium_present": none,
            "delivery_margin": {"total": none, "equity": none, "fo_settlement": none},
        }
        cash = {
            "opening_balance": number(account.opening_cash),
            "added_today": none,
            "withdrawn_today": none,
            "amount_from_stock_sale": none,
            "unpaid_charges": number(account.charges_due),
        }
        pledge = {"total": none, "equity": none, "mutual_funds": none}
        return success(
            {
                "available_to_trade": {
                    "total": number(account.available),
                    "cash_available_to_trade": {
                        "total": number(account.available),
                        "cash": cash,
                        "margin_used": used,
                    },
                    "pledge_available_to_trade": {
                        "total": none,
                        "margin_from_pledge": pledge,
                        "margin_used": {"total": none},
                    },
                },
                "unavailable_to_trade": {
                    "cash_unavailable_to_trade": {
                        "unsettled_profit": {"todays_profit": none, "previous_days": none}
                    },
                    "pledge_unavailable_to_trade": {"equity": none, "mutual_funds": none},
                },
            }
        )

    @route("GET", "/v2/user/get-funds-and-margin", group="funds")
    def funds_v2(self, call: Call) -> Response:
        self._funds_open()
        names = (
            "used_margin",
            "payin_amount",
            "span_margin",
            "adhoc_margin",
            "notional_cash",
            "available_margin",
            "exposure_margin",
        )
        empty = {name: number(ZERO) for name in names}
        equity = empty | {
            "used_margin": number(call.account.used),
            "available_margin": number(call.account.available),
        }
        return success({"equity": equity, "commodity": empty})

    # --- Charges ----------------------------------------------------------------------------------

    @route("POST", "/v2/charges/margin", group="margin")
    def margin(self, call: Call) -> Response:
        legs = body_of(call.request).get("instruments")
        if not isinstance(legs, list) or not 0 < len(legs) <= MOST_MARGINS:
            raise Wrong("UDAPI100036", "Invalid Input: instruments")
        rows = [self._margin_row(leg) for leg in legs]
        total = sum((row["total_margin"] for row in rows), ZERO)
        return success({"margins": rows, "required_margin": total, "final_margin": total})

    def _margin_row(self, leg: dict[str, Any]) -> dict[str, Any]:
        instrument = self.instrument(leg.get("instrument_key"))
        product = one_of(leg, "product", PRODUCTS, "UDAPI100036")
        level = Decimal(repr(leg["price"])) if leg.get("price") else None
        ticket = Ticket(
            instrument,
            one_of(leg, "transaction_type", ("BUY", "SELL"), "UDAPI100036"),
            whole(leg, "quantity"),
            "LIMIT" if level else "MARKET",
            our_product(product, instrument),
            price=level,
        )
        needed = number(self.exchange.required(ticket))
        none = number(ZERO)
        return {
            "equity_margin": none if instrument.is_derivative else needed,
            "span_margin": needed if instrument.is_derivative else none,
            "exposure_margin": none,
            "net_buy_premium": none,
            "additional_margin": none,
            "tender_margin": none,
            "total_margin": needed,
        }

    @route("GET", "/v2/charges/brokerage", group="brokerage")
    def brokerage(self, call: Call) -> Response:
        query = call.request.query
        instrument = self.instrument(query.get("instrument_token"))
        product = one_of(query, "product", PRODUCTS, "UDAPI100036")
        part = accounts.charges(
            instrument,
            one_of(query, "transaction_type", ("BUY", "SELL"), "UDAPI100036"),
            our_product(product, instrument),
            int(query["quantity"]),
            Decimal(query["price"]),
        )
        taxes = {"gst": part.gst, "stt": part.stt, "stamp_duty": part.stamp}
        other = {"transaction": part.exchange, "clearing": ZERO, "sebi_turnover": part.sebi}
        return success(
            {
                "charges": {
                    "total": part.total,
                    "brokerage": part.brokerage,
                    "taxes": taxes,
                    "otherTaxes": other,
                    "dpPlan": {"name": "FLAT_DP", "min_expense": Decimal("18.5")},
                }
            }
        )
