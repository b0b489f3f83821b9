"""Orders, their trades, and the books."""

from __future__ import annotations

import re
from dataclasses import replace
from decimal import Decimal
from typing import Any

from tests.emulators.core.dialect import Call, route
from tests.emulators.core.instruments import Instrument
from tests.emulators.core.messages import Response
from tests.emulators.core.orders import Order, Reason, Refusal, Row, Stage, Ticket
from tests.emulators.groww.sessions import Sessions
from tests.emulators.groww.words import (
    ORDER_TYPES,
    PRODUCTS,
    order_row,
    status_of,
    success,
    symbol,
    trade_row,
    venue,
)

REFERENCE = re.compile(r"(?=.{8,20}\Z)[A-Za-z0-9]+(-[A-Za-z0-9]+){0,2}")


class Orders(Sessions):
    by_words: dict[tuple[str, str, str], Instrument]
    references: dict[tuple[str, str], str]  # user, reference → order id; never forgotten

    def listed(self, exchange: str, segment: str, name: str) -> Instrument:
        """Return an instrument by Groww's words."""
        listed = self.exchange.instruments.values()
        if len(self.by_words) != len(listed):
            self.by_words = {(*venue(one), symbol(one)): one for one in listed}
        try:
            return self.by_words[exchange, segment, name]
        except KeyError:
            raise Refusal(Reason.INSTRUMENT) from None

    @route("POST", "/v1/order/create", group="order", fixed_ip=True)
    def create(self, call: Call) -> Response:
        body = call.request.json
        instrument = self.listed(body["exchange"], body["segment"], body["trading_symbol"])
        reference = body["order_reference_id"]
        if not isinstance(reference, str) or not REFERENCE.fullmatch(reference):
            raise Refusal(Reason.TERMS, "Invalid order reference id")
        known = call.account.user_id, reference
        if known in self.references:
            raise Refusal(Reason.DUPLICATE)
        if body["product"] not in PRODUCTS:
            raise Refusal(Reason.TERMS, "Invalid product")
        if body["validity"] != "DAY":
            raise Refusal(Reason.TERMS, "Invalid validity")
        if body["transaction_type"] not in ("BUY", "SELL"):
            raise Refusal(Reason.TERMS, "Invalid transaction type")
        ticket = Ticket(
            instrument,
            body["transaction_type"],
            _units(body["quantity"]),
            product=body["product"],
            tag=reference,
            **_terms(body),
        )
        number = self.next_number()
        order = self.exchange.place(
            call.account, ticket, id=f"GMK{number:05d}RDT{number * 7919 % 1_000_000:06d}CC"
        )
        self.references[known] = order.id
        rejected = order.stage is Stage.REJECTED
        return success(
            {
                "groww_order_id": order.id,
                "order_status": "REJECTED" if rejected else "OPEN",
                "order_reference_id": reference,
                "remark": order.message if rejected else "Order placed successfully",
            }
        )

    @route("POST", "/v1/order/modify", group="order", fixed_ip=True)
    def modify(self, call: Call) -> Response:
        body = call.request.json
        order = self._order(call, body["groww_order_id"], body["segment"])
        ticket = replace(order.ticket, quantity=_units(body["quantity"]), **_terms(body))
        self.exchange.modify(call.account, order.id, ticket)
        return success({"groww_order_id": order.id, "order_status": "OPEN"})

    @route("POST", "/v1/order/cancel", group="order", fixed_ip=True)
    def cancel(self, call: Call) -> Response:
        body = call.request.json
        order = self._order(call, body["groww_order_id"], body["segment"])
        self.exchange.cancel(call.account, order.id)
        ended = order.stage is Stage.CANCELLED
        return success(
            {"groww_order_id": order.id, "order_status": "CANCELLED" if ended else "OPEN"}
        )

    @route("GET", "/v1/order/status/{id}", group="other")
    def status(self, call: Call) -> Response:
        return success(self._short(*self._shown(call, call.params["id"])))

    @route("GET", "/v1/order/status/reference/{reference}", group="other")
    def status_by_reference(self, call: Call) -> Response:
        known = call.account.user_id, call.params["reference"]
        return success(self._short(*self._shown(call, self.references.get(known, ""))))

    @route("GET", "/v1/order/detail/{id}", group="other")
    def detail(self, call: Call) -> Response:
        order, row = self._shown(call, call.params["id"])
        return success(order_row(order, row, self.clock.now()))

    @route("GET", "/v1/order/list", group="other")
    def order_list(self, call: Call) -> Response:
        """Newest first; all segments where none is asked for."""
        segment = call.request.query.get("segment")
        rows = [
            order_row(order, row, self.clock.now())
            for order, row in reversed(call.book())
            if segment in (None, venue(order.instrument)[1])
        ]
        return success({"order_list": _page(call, rows, 100)})

    @route("GET", "/v1/order/trades/{id}", group="other")
    def trades(self, call: Call) -> Response:
        order, _ = self._shown(call, call.params["id"])
        if order.instrument.is_derivative and not self.levers.trades_of_contracts:
            return Response.of({"message": "Not Found"}, 404)
        rows = [trade_row(fill) for fill in call.trades() if fill.order is order]
        return success({"trade_list": _page(call, rows, 50)})

    def _order(self, call: Call, number: str, segment: str) -> Order:
        order = self.exchange.order(call.account, number)
        if venue(order.instrument)[1] != segment:
            raise Refusal(Reason.UNKNOWN_ORDER)
        return order

    def _shown(self, call: Call, number: str) -> tuple[Order, Row]:
        self._order(call, number, call.request.query["segment"])
        for order, row in call.book():
            if order.id == number:
                return order, row
        raise Refusal(Reason.UNKNOWN_ORDER)

    def _short(self, order: Order, row: Row) -> dict[str, Any]:
        return {
            "groww_order_id": order.id,
            "order_status": status_of(order, row, self.clock.now()),
            "remark": row.message,
            "filled_quantity": row.filled,
            "order_reference_id": order.ticket.tag,
        }


def _terms(body: dict[str, Any]) -> dict[str, Any]:
    kind = ORDER_TYPES[body["order_type"]]
    price = _price(body.get("price")) if kind in ("LIMIT", "SL") else None
    trigger = _price(body.get("trigger_price")) if kind.startswith("SL") else None
    return {"type": kind, "price": price, "trigger": trigger}


def _price(value: Any) -> Decimal | None:
    return None if value is None else Decimal(str(value))


def _units(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise Refusal(Reason.TERMS, "Invalid quantity")
    return value


def _page(call: Call, rows: list[Any], most: int) -> list[Any]:
    query = call.request.query
    page, size = int(query.get("page", 0)), int(query.get("page_size", 25))
    if page < 0 or not 1 <= size <= most:
        raise Refusal(Reason.TERMS, "Invalid page or page size")
    return rows[page * size : (page + 1) * size]
