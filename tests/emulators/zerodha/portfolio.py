"""Holdings, positions, conversion, funds, margins and charges."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from tests.emulators.core import accounts
from tests.emulators.core.accounts import Account, Holding, Position
from tests.emulators.core.dialect import Call, Dialect, route
from tests.emulators.core.instruments import Instrument
from tests.emulators.core.messages import Response
from tests.emulators.core.orders import Ticket
from tests.emulators.zerodha.orders import one_of, price, whole
from tests.emulators.zerodha.words import BadInput, number, stamp, success, token_of

ZERO = Decimal(0)
PRODUCTS = ("CNC", "MIS", "NRML", "MTF")


class Portfolio(Dialect):
    """What an account of the emulated Kite holds."""

    # --- Holdings ---------------------------------------------------------------------------------

    @route("GET", "/portfolio/holdings", group="other")
    def holdings(self, call: Call) -> Response:
        return success([self._holding(h) for h in call.account.holdings.values()])

    @route("GET", "/portfolio/holdings/compact", group="other")
    def compact_holdings(self, call: Call) -> Response:
        names = ("exchange", "tradingsymbol", "instrument_token", "t1_quantity", "quantity")
        rows = [self._holding(h) for h in call.account.holdings.values()]
        return success([{name: row[name] for name in names} for row in rows])

    @route("GET", "/portfolio/holdings/summary", group="other")
    def holdings_summary(self, call: Call) -> Response:
        rows = [self._holding(h) for h in call.account.holdings.values()]
        units = [row["quantity"] + row["t1_quantity"] for row in rows]
        cost = sum((u * r["average_price"] for u, r in zip(units, rows, strict=True)), ZERO)
        value = sum((u * r["last_price"] for u, r in zip(units, rows, strict=True)), ZERO)
        today = sum((u * r["day_change"] for u, r in zip(units, rows, strict=True)), ZERO)
        before = value - today
        return success(
            {
                "total_pnl": number(value - cost),
                "total_pnl_percent": number((value - cost) / cost * 100 if cost else ZERO),
                "today_pnl": number(today),
                "today_pnl_percent": number(today / before * 100 if before else ZERO),
                "invested_amount": number(cost),
                "current_value": number(value),
            }
        )

    @route("GET", "/portfolio/holdings/auctions", group="other")
    def auctions(self, call: Call) -> Response:
        return success([])

    @route("POST", "/portfolio/holdings/authorise", group="other")
    def authorise(self, call: Call) -> Response:
        for holding in call.account.holdings.values():
            holding.authorised = True
        return success({"request_id": f"authorise{self.next_number()}"})

    def _holding(self, holding: Holding) -> dict[str, Any]:
        instrument = holding.instrument
        book = self.exchange.book(instrument)
        units = holding.quantity + holding.t1
        change = book.last - book.close
        return {
            "tradingsymbol": instrument.symbol,
            "exchange": instrument.exchange,
            "instrument_token": token_of(instrument),
            "isin": instrument.isin,
            "product": "CNC",
            "price": 0,
            "quantity": holding.quantity,
            "used_quantity": holding.used,
            "t1_quantity": holding.t1,
            "realised_quantity": holding.quantity,
            "authorised_quantity": holding.quantity if holding.authorised else 0,
            "authorised_date": stamp(self.clock.now()),
            "authorisation": {},
            "opening_quantity": units,
            "short_quantity": 0,
            "collateral_quantity": 0,
            "collateral_type": "",
            "discrepancy": False,
            "average_price": number(holding.average),
            "last_price": number(book.last),
            "close_price": number(book.close),
            "pnl": number((book.last - holding.average) * units),
            "day_change": number(change),
            "day_change_percentage": number(change / book.close * 100),
            "mtf": {
                "quantity": holding.mtf,
                "used_quantity": 0,
                "average_price": 0,
                "value": 0,
                "initial_margin": 0,
            },
        }

    # --- Positions --------------------------------------------------------------------------------

    @route("GET", "/portfolio/positions", group="other")
    def positions(self, call: Call) -> Response:
        every = list(call.account.positions.values())
        today = [p for p in every if p.buy_quantity or p.sell_quantity]
        return success(
            {
                "net": [self._position(p, carried=True) for p in every],
                "day": [self._position(p, carried=False) for p in today],
            }
        )

    def _position(self, position: Position, *, carried: bool) -> dict[str, Any]:
        """Return a row of ``net`` (with what was carried) or ``day`` (without)."""
        instrument = position.instrument
        book = self.exchange.book(instrument)
        overnight = position.overnight if carried else 0
        bought, buy_value = position.buy_quantity, position.buy_value
        sold, sell_value = position.sell_quantity, position.sell_value
        day_bought, day_buy_value, day_sold, day_sell_value = bought, buy_value, sold, sell_value
        buy_m2m, sell_m2m = buy_value, sell_value
        if overnight > 0:
            bought += overnight
            buy_value += overnight * position.overnight_price
            buy_m2m += overnight * book.close
        elif overnight < 0:
            sold -= overnight
            sell_value -= overnight * position.overnight_price
            sell_m2m -= overnight * book.close
        quantity = bought - sold
        value = sell_value - buy_value
        pnl = value + quantity * book.last
        if carried:
            average = position.average
        else:
            average = (buy_value / bought if quantity > 0 else sell_value / sold) if quantity else 0
        return {
            "tradingsymbol": instrument.symbol,
            "exchange": instrument.exchange,
            "instrument_token": token_of(instrument),
            "product": position.product,
            "quantity": quantity,
            "overnight_quantity": overnight,
            "multiplier": 1,
            "average_price": number(Decimal(average)),
            "close_price": number(book.close if carried and overnight else ZERO),
            "last_price": number(book.last),
            "value": number(value),
            "pnl": number(pnl),
            "m2m": number(sell_m2m - buy_m2m + quantity * book.last),
            "unrealised": number(pnl),
            "realised": 0,
            "buy_quantity": bought,
            "buy_price": number(buy_value / bought if bought else ZERO),
            "buy_value": number(buy_value),
            "buy_m2m": number(buy_m2m),
            "sell_quantity": sold,
            "sell_price": number(sell_value / sold if sold else ZERO),
            "sell_value": number(sell_value),
            "sell_m2m": number(sell_m2m),
            "day_buy_quantity": day_bought,
            "day_buy_price": number(day_buy_value / day_bought if day_bought else ZERO),
            "day_buy_value": number(day_buy_value),
            "day_sell_quantity": day_sold,
            "day_sell_price": number(day_sell_value / day_sold if day_sold else ZERO),
            "day_sell_value": number(day_sell_value),
        }

    @route("PUT", "/portfolio/positions", group="other", fixed_ip=True)
    def convert(self, call: Call) -> Response:
        form = call.request.form
        instrument = self.exchange.find(f"{form.get('exchange')}:{form.get('tradingsymbol')}")
        one_of(form, "position_type", ("day", "overnight"))
        self.exchange.convert(
            call.account,
            instrument,
            one_of(form, "transaction_type", ("BUY", "SELL")),
            whole(form, "quantity"),
            old=one_of(form, "old_product", PRODUCTS),
            new=one_of(form, "new_product", PRODUCTS),
        )
        return success(True)

    # --- Funds ------------------------------------------------------------------------------------

    @route("GET", "/user/margins", group="other")
    def margins(self, call: Call) -> Response:
        commodity = self._margin(Account("", cash=ZERO, opening_cash=ZERO))
        return success({"equity": self._margin(call.account), "commodity": commodity})

    @route("GET", "/user/margins/{segment}", group="other")
    def segment_margins(self, call: Call) -> Response:
        segment = one_of(call.params, "segment", ("equity", "commodity"))
        empty = Account("", cash=ZERO, opening_cash=ZERO)
        return success(self._margin(call.account if segment == "equity" else empty))

    def _margin(self, account: Account) -> dict[str, Any]:
        net = account.available
        premium = sum((p.cost for p in account.positions.values() if p.instrument.is_option), ZERO)
        return {
            "enabled": True,
            "net": number(net),
            "available": {
                "adhoc_margin": 0,
                "cash": number(account.opening_cash),
                "opening_balance": number(account.opening_cash),
                "live_balance": number(net),
                "collateral": 0,
                "intraday_payin": 0,
            },
            "utilised": {
                "debits": number(account.opening_cash - net),
                "exposure": 0,
                "m2m_realised": number(sum((p.realised for p in account.positions.values()), ZERO)),
                "m2m_unrealised": 0,
                "option_premium": number(premium),
                "payout": 0,
                "span": number(account.margin),
                "holding_sales": 0,
                "turnover": 0,
                "liquid_collateral": 0,
                "stock_collateral": 0,
                "delivery": 0,
            },
        }

    # --- What orders would need and cost ----------------------------------------------------------

    @route("POST", "/margins/orders", group="other")
    def order_margins(self, call: Call) -> Response:
        return success([self._required(row) for row in self._rows(call)])

    @route("POST", "/margins/basket", group="other")
    def basket_margins(self, call: Call) -> Response:
        rows = [self._required(row) for row in self._rows(call)]
        # Legs of one underlying that face each other are margined as the dearer one.
        sides: dict[str, Decimal] = {"BUY": ZERO, "SELL": ZERO}
        for given, row in zip(self._rows(call), rows, strict=True):
            sides[given["transaction_type"]] += row["span"] + row["exposure"]
        hedged = min(sides.values())
        whole_sum, after = self._sum(rows), self._sum(rows)
        after["span"] -= hedged
        after["total"] -= hedged
        costs = whole_sum.pop("charges")
        after.pop("charges")
        compact = call.request.query.get("mode") == "compact"
        return success(
            {
                "initial": whole_sum,
                "final": after,
                "orders": [{"total": row["total"]} for row in rows] if compact else rows,
                "charges": costs,
            }
        )

    @route("POST", "/charges/orders", group="other")
    def contract_note(self, call: Call) -> Response:
        told = []
        for row in self._rows(call):
            instrument, ticket = self._margin_ticket(row)
            at = price(row, "average_price") or self.exchange.book(instrument).last
            told.append(
                {
                    "transaction_type": ticket.side,
                    "tradingsymbol": instrument.symbol,
                    "exchange": instrument.exchange,
                    "variety": row.get("variety", "regular"),
                    "product": ticket.product,
                    "order_type": ticket.type,
                    "quantity": ticket.quantity,
                    "price": at,
                    "charges": self._charges(ticket, at),
                }
            )
        return success(told)

    def _rows(self, call: Call) -> list[dict[str, Any]]:
        rows = call.request.json
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise BadInput("Invalid input: a list of orders is needed.")
        return rows

    def _margin_ticket(self, row: dict[str, Any]) -> tuple[Instrument, Ticket]:
        instrument = self.exchange.find(f"{row.get('exchange')}:{row.get('tradingsymbol')}")
        ticket = Ticket(
            instrument,
            one_of(row, "transaction_type", ("BUY", "SELL")),
            whole(row, "quantity"),
            one_of(row, "order_type", ("MARKET", "LIMIT", "SL", "SL-M")),
            one_of(row, "product", ("CNC", "MIS", "NRML", "MTF")),
            price=price(row, "price"),
            trigger=price(row, "trigger_price"),
        )
        return instrument, ticket

    def _required(self, row: dict[str, Any]) -> dict[str, Any]:
        instrument, ticket = self._margin_ticket(row)
        at = ticket.price or self.exchange.book(instrument).last
        total = self.exchange.required(ticket)
        spread = instrument.is_derivative and not (instrument.is_option and ticket.side == "BUY")
        premium = total if instrument.is_option and ticket.side == "BUY" else ZERO
        span = accounts.paise(total * Decimal("0.75")) if spread else ZERO
        return {
            "type": "equity",
            "tradingsymbol": instrument.symbol,
            "exchange": instrument.exchange,
            "span": span,
            "exposure": total - span if spread else ZERO,
            "option_premium": premium,
            "additional": 0,
            "bo": 0,
            "cash": 0,
            "var": ZERO if instrument.is_derivative else total,
            "pnl": {"realised": 0, "unrealised": 0},
            "leverage": 5 if ticket.product == "MIS" and not instrument.is_derivative else 1,
            "charges": self._charges(ticket, at),
            "total": total,
        }

    def _charges(self, ticket: Ticket, at: Decimal) -> dict[str, Any]:
        cost = accounts.charges(ticket.instrument, ticket.side, ticket.product, ticket.quantity, at)
        return {
            "transaction_tax": cost.stt,
            "transaction_tax_type": "stt" if cost.stt else "",
            "exchange_turnover_charge": cost.exchange,
            "sebi_turnover_charge": cost.sebi,
            "brokerage": cost.brokerage,
            "stamp_duty": cost.stamp,
            "gst": {"igst": cost.gst, "cgst": 0, "sgst": 0, "total": cost.gst},
            "total": cost.total,
        }

    def _sum(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        names = ("span", "exposure", "option_premium", "var", "total")
        told: dict[str, Any] = {
            "type": "",
            "tradingsymbol": "",
            "exchange": "",
            "additional": 0,
            "bo": 0,
            "cash": 0,
            "pnl": {"realised": 0, "unrealised": 0},
            "leverage": 0,
        }
        told |= {name: sum((Decimal(row[name]) for row in rows), ZERO) for name in names}
        parts = [row["charges"] for row in rows]
        costs = {
            name: sum((part[name] for part in parts), ZERO)
            for name in (
                "transaction_tax",
                "exchange_turnover_charge",
                "sebi_turnover_charge",
                "brokerage",
                "stamp_duty",
                "total",
            )
        }
        tax = sum((part["gst"]["total"] for part in parts), ZERO)
        costs |= {
            "transaction_tax_type": "stt" if costs["transaction_tax"] else "",
            "gst": {"igst": tax, "cgst": 0, "sgst": 0, "total": tax},
        }
        return told | {"charges": costs}
