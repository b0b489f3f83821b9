"""The client: details, money, margins, positions, holdings."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from tests.emulators.core.accounts import charges, settles_in_cash
from tests.emulators.core.dialect import Call, route
from tests.emulators.core.messages import Response
from tests.emulators.core.orders import Reason, Refusal, Ticket
from tests.emulators.groww.orders import Orders
from tests.emulators.groww.words import ORDER_TYPES, position_row, rupees, success, symbol, venue

ZERO = Decimal(0)
COMMODITY = (
    "commodity_span_margin", "commodity_exposure_margin", "commodity_tender_margin",
    "commodity_special_margin", "commodity_additional_margin", "commodity_unrealised_m2m",
    "commodity_realised_m2m",
)  # fmt: skip


class Portfolio(Orders):
    @route("GET", "/v1/changelog", open=True)
    def changelog(self, call: Call) -> Response:
        return Response.of({"info": [], "warning": []})

    @route("GET", "/v1/user/detail", group="other")
    def user(self, call: Call) -> Response:
        return success(
            {
                "vendor_user_id": f"6c2f-{call.account.user_id}",
                "ucc": call.account.user_id,
                "nse_enabled": True,
                "bse_enabled": True,
                "ddpi_enabled": False,
                "active_segments": ["CASH", "FNO"],
            }
        )

    @route("GET", "/v1/holdings/user", group="other")
    def holdings(self, call: Call) -> Response:
        rows = [
            {
                "isin": holding.instrument.isin,
                "trading_symbol": symbol(holding.instrument),
                "quantity": float(holding.quantity),
                "average_price": rupees(holding.average),
                "pledge_quantity": 0,
                "demat_locked_quantity": 0,
                "groww_locked_quantity": 0,
                "repledge_quantity": 0,
                "t1_quantity": holding.t1,
                "demat_free_quantity": holding.quantity,
                "corporate_action_additional_quantity": 0,
                "active_demat_transfer_quantity": 0,
                "tradable_exchanges": [venue(holding.instrument)[0]],
            }
            for holding in call.account.holdings.values()
        ]
        return success({"holdings": rows})

    @route("GET", "/v1/positions/user", group="other")
    def positions(self, call: Call) -> Response:
        segment = call.request.query.get("segment")
        rows = self._positions(call)
        return success({"positions": [r for r in rows if segment in (None, r["segment"])]})

    @route("GET", "/v1/positions/trading-symbol", group="other")
    def position(self, call: Call) -> Response:
        query = call.request.query
        asked = query["trading_symbol"], query["segment"]
        rows = self._positions(call)
        return success(
            {"positions": [r for r in rows if (r["trading_symbol"], r["segment"]) == asked]}
        )

    @route("GET", "/v1/margins/detail/user", group="other")
    def margins(self, call: Call) -> Response:
        account = call.account
        contracts = sum(
            (p.margin() for p in account.positions.values() if p.instrument.is_derivative), ZERO
        )
        used, free = account.used, account.available
        return success(
            {
                "clear_cash": account.cash,
                "net_margin_used": used,
                "brokerage_and_charges": account.charges_due,
                "collateral_used": 0,
                "collateral_available": 0,
                "adhoc_margin": 0,
                "fno_margin_details": {
                    "net_fno_margin_used": contracts,
                    "span_margin_used": contracts,
                    "exposure_margin_used": 0,
                    "future_balance_available": free,
                    "option_buy_balance_available": free,
                    "option_sell_balance_available": free,
                },
                "equity_margin_details": {
                    "net_equity_margin_used": used - contracts,
                    "cnc_margin_used": 0,
                    "mis_margin_used": used - contracts,
                    "cnc_balance_available": free,
                    "mis_balance_available": free,
                },
                "commodity_margin_details": dict.fromkeys(COMMODITY, 0),
            }
        )

    @route("POST", "/v1/margins/detail/orders", group="other")
    def order_margins(self, call: Call) -> Response:
        segment, orders = call.request.query["segment"], call.request.json
        if segment == "CASH" and len(orders) != 1:
            raise Refusal(Reason.TERMS, "Only one order is allowed for CASH")
        required = premium = fees = ZERO
        product = ""
        for body in orders:
            instrument = self.listed(body["exchange"], segment, body["trading_symbol"])
            product, price = body["product"], Decimal(str(body["price"]))
            ticket = Ticket(
                instrument, body["transaction_type"], int(body["quantity"]),
                ORDER_TYPES[body["order_type"]], product, price=price or None,
            )  # fmt: skip
            needed = self.exchange.required(ticket)
            if instrument.is_option and settles_in_cash(instrument, product):
                premium += needed
            required += needed
            fees += charges(instrument, ticket.side, product, ticket.quantity, price).total
        return success(
            {
                "exposure_required": 0,
                "span_required": required if segment == "FNO" else 0,
                "option_buy_premium": premium,
                "brokerage_and_charges": fees,
                "total_requirement": required + fees,
                "cash_cnc_margin_required": required if product == "CNC" else 0,
                "cash_mis_margin_required": required if product == "MIS" else 0,
                "physical_delivery_margin_requirement": 0,
            }
        )

    def _positions(self, call: Call) -> list[dict[str, Any]]:
        unit = 100 if self.levers.positions_in_paise else 1
        return [position_row(position, unit) for position in call.account.positions.values()]
