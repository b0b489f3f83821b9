"""Order endpoints: place, modify, cancel in v3 and v2, slices, multi calls, books, trades."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import time
from decimal import Decimal
from typing import Any

from tests.emulators.core.accounts import Account
from tests.emulators.core.dialect import Call, Dialect, route
from tests.emulators.core.instruments import Instrument
from tests.emulators.core.messages import Request, Response
from tests.emulators.core.orders import CHANGEABLE, Order, Reason, Refusal, Ticket
from tests.emulators.upstox.words import (
    DEFAULT_PROTECTION,
    LATE,
    ORDER_TYPES,
    PRODUCTS,
    REFUSED,
    Wrong,
    history_row,
    key_of,
    order_row,
    our_product,
    success,
    trade_row,
)

MOST_SLICES = 25
MAX_TAG = 40
NIGHT = time(0), time(5, 30)  # India; the order and funds services are closed


def body_of(request: Request) -> dict[str, Any]:
    given = request.json
    if not isinstance(given, dict):
        raise Wrong("UDAPI100036", "Invalid Input")
    return given


def whole(form: dict[str, Any], name: str, default: int | None = None) -> int:
    value = form.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise Wrong("UDAPI100036", f"Invalid Input: {name}")
    return value


def price(form: dict[str, Any], name: str) -> Decimal | None:
    """Return a price of a body; None for 0."""
    value = form.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
        raise Wrong("UDAPI100036", f"Invalid Input: {name}")
    return Decimal(repr(value)) or None


def one_of(form: dict[str, Any], name: str, allowed: tuple[str, ...], code: str) -> str:
    value = form.get(name)
    if value not in allowed:
        raise Wrong(code, f"The '{name}' is invalid")
    return str(value)


class Orders(Dialect):
    """Order life of the emulated Upstox. ``night_closes``: the order service keeps its hours."""

    by_key: dict[str, Instrument]
    night_closes: bool

    def next_order_id(self) -> str:
        return f"{self.clock.local():%y%m%d}{self.next_number():09d}"

    def instrument(self, key: Any) -> Instrument:
        if not key:
            raise Wrong("UDAPI1026", "The 'instrument_token' is required")
        if not isinstance(key, str) or key not in self.by_key:
            raise Refusal(Reason.INSTRUMENT)
        return self.by_key[key]

    def in_service(self) -> None:
        if self.night_closes and NIGHT[0] <= self.clock.local().time() < NIGHT[1]:
            raise Wrong(
                "UDAPI100074",
                "Orders can be placed, modified and cancelled from 5:30 AM to 12:00 AM IST",
            )

    # --- Place ------------------------------------------------------------------------------------

    @route("POST", "/v3/order/place", group="order", fixed_ip=True)
    def place(self, call: Call) -> Response:
        numbers = self._place(call.account, body_of(call.request))
        return success({"order_ids": numbers}, metadata={"latency": 12})

    @route("POST", "/v2/order/place", group="order", fixed_ip=True)
    def place_v2(self, call: Call) -> Response:
        form = body_of(call.request)
        return success({"order_id": self._place(call.account, form | {"slice": False})[0]})

    @route("POST", "/v2/order/multi/place", group="order", fixed_ip=True)
    def place_many(self, call: Call) -> Response:
        listed = call.request.json
        if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
            raise Wrong("UDAPI100036", "Invalid Input")
        placed: list[dict[str, Any]] = []
        errors: list[dict[str, Any]] = []
        for form in listed:
            name = {"correlation_id": form.get("correlation_id")}
            try:
                numbers = self._place(call.account, form)
                placed += [{**name, "order_id": number} for number in numbers]
            except (Refusal, Wrong) as e:
                errors.append({**name, **_one_error(e)})
        status = "success" if not errors else "partial_success" if placed else "error"
        summary = {
            "total": len(listed),
            "success": len(listed) - len(errors),
            "error": len(errors),
            "payload_error": 0,
        }
        body = {"status": status, "data": placed, "errors": errors or None, "summary": summary}
        return Response.of(body)

    def _place(self, account: Account, form: dict[str, Any]) -> list[str]:
        self.in_service()
        ticket = self._ticket(form)
        parts, freeze = [ticket.quantity], ticket.instrument.freeze
        if form.get("slice") is True and freeze and ticket.quantity > freeze:
            parts = [freeze] * (ticket.quantity // freeze)
            parts += [ticket.quantity % freeze] if ticket.quantity % freeze else []
            if len(parts) > MOST_SLICES:
                raise Wrong("UDAPI1118", "Slicing would exceed the limit of orders")
        numbers = []
        with self._told_late():
            for part in parts:
                number = self.next_order_id()
                piece = replace(ticket, quantity=part)
                self.exchange.place(account, piece, id=number)
                numbers.append(number)
        return numbers

    @contextmanager
    def _told_late(self) -> Iterator[None]:
        """Take what the risk system and the exchange refuse, and tell it by the order's end: the
        exchange is shared with brokers that tell it at once.
        """
        with self.exchange.lock:
            before = self.exchange.reject_late
            self.exchange.reject_late = before | set(LATE)
            try:
                yield
            finally:
                self.exchange.reject_late = before

    def _ticket(self, form: dict[str, Any]) -> Ticket:
        instrument = self.instrument(form.get("instrument_token"))
        quantity, kind = whole(form, "quantity"), self._kind(form)
        if not quantity:
            raise Wrong("UDAPI1052", "The order quantity cannot be zero")
        product = one_of(form, "product", PRODUCTS, "UDAPI100036")
        tag = form.get("tag") or ""
        if not isinstance(tag, str) or len(tag) > MAX_TAG:
            raise Wrong("UDAPI100036", "Invalid Input: tag")
        if "is_amo" not in form:
            raise Wrong("UDAPI100036", "Invalid Input: is_amo")
        ticket = Ticket(
            instrument,
            one_of(form, "transaction_type", ("BUY", "SELL"), "UDAPI100036"),
            quantity,
            kind,
            our_product(product, instrument),
            self._validity(form),
            disclosed=whole(form, "disclosed_quantity"),
            tag=tag,
            # What the caller says of it does not count: the session decides.
            after_market=not self.exchange.market_open,
        )
        return self._priced(ticket, form)

    def _priced(self, ticket: Ticket, form: dict[str, Any]) -> Ticket:
        """Return the ticket with the prices of a body, and market protection."""
        limit, trigger = price(form, "price"), price(form, "trigger_price")
        if ticket.has_price and limit is None:
            raise Wrong("UDAPI1029", "The 'price' is required")
        if ticket.has_trigger and trigger is None:
            raise Wrong("UDAPI1036", "The 'trigger_price' is required")
        return replace(
            ticket,
            price=limit if ticket.has_price else None,
            trigger=trigger if ticket.has_trigger else None,
            protection=None if ticket.has_price else self._protection(form),
        )

    def _kind(self, form: dict[str, Any]) -> str:
        if not form.get("order_type"):
            raise Wrong("UDAPI1004", "Valid order type is required")
        return one_of(form, "order_type", ORDER_TYPES, "UDAPI1056")

    def _validity(self, form: dict[str, Any]) -> str:
        if not form.get("validity"):
            raise Wrong("UDAPI1007", "Validity is required")
        return one_of(form, "validity", ("DAY", "IOC"), "UDAPI1055")

    def _protection(self, form: dict[str, Any]) -> Decimal:
        value = form.get("market_protection", 0)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise Wrong("UDAPI1177", "Invalid market protection")
        if value == 0:
            raise Refusal(Reason.PROTECTION)
        if value == -1:
            return DEFAULT_PROTECTION
        if value > 25:
            raise Wrong("UDAPI1176", "The market protection cannot be above 25 percent")
        if value < 1:
            raise Wrong("UDAPI1177", "Invalid market protection")
        return Decimal(repr(value))

    # --- Modify, cancel ---------------------------------------------------------------------------

    @route("PUT", "/v3/order/modify", group="order", fixed_ip=True)
    def modify(self, call: Call) -> Response:
        return success({"order_id": self._modify(call)}, metadata={"latency": 12})

    @route("PUT", "/v2/order/modify", group="order", fixed_ip=True)
    def modify_v2(self, call: Call) -> Response:
        return success({"order_id": self._modify(call)})

    def _modify(self, call: Call) -> str:
        self.in_service()
        form = body_of(call.request)
        number = form.get("order_id")
        if not number:
            raise Wrong("UDAPI1003", "The 'order_id' is required")
        order = self.exchange.order(call.account, str(number))
        ticket = replace(
            order.ticket,
            quantity=whole(form, "quantity", order.quantity) or order.quantity,
            type=self._kind(form),
            validity=self._validity(form),
            disclosed=whole(form, "disclosed_quantity", order.disclosed),
        )
        self.exchange.modify(call.account, order.id, self._priced(ticket, form))
        return order.id

    @route("DELETE", "/v3/order/cancel", group="order", fixed_ip=True)
    def cancel(self, call: Call) -> Response:
        return success({"order_id": self._cancel(call)}, metadata={"latency": 12})

    @route("DELETE", "/v2/order/cancel", group="order", fixed_ip=True)
    def cancel_v2(self, call: Call) -> Response:
        return success({"order_id": self._cancel(call)})

    def _cancel(self, call: Call) -> str:
        self.in_service()
        number = call.request.query.get("order_id", "")
        if not number:
            raise Wrong("UDAPI1023", "The 'order_id' is required")
        if not number.isascii() or not number.replace("-", "").isalnum():
            raise Wrong("UDAPI1010", "The 'order_id' takes only letters, digits and '-'")
        try:
            return self.exchange.cancel(call.account, number).id
        except Refusal as refusal:
            if refusal.reason is Reason.FINAL:
                raise Wrong(
                    "UDAPI100040",
                    "Cancellation of an already cancelled, rejected or completed order is not "
                    "allowed",
                ) from None
            raise

    @route("DELETE", "/v2/order/multi/cancel", group="order", fixed_ip=True)
    def cancel_many(self, call: Call) -> Response:
        self.in_service()
        query = call.request.query
        numbers = [
            order.id
            for order in list(call.account.orders.values())
            if order.stage in CHANGEABLE
            and query.get("tag", order.ticket.tag) == order.ticket.tag
            and query.get("segment", "") in ("", key_of(order.instrument).split("|")[0])
        ]
        if not numbers:
            raise Wrong("UDAPI1109", "There are no open orders to cancel")
        for number in numbers:
            self.exchange.cancel(call.account, number)
        total = len(numbers)
        summary = {"total": total, "success": total, "error": 0}
        body = {"data": {"order_ids": numbers}, "errors": None, "summary": summary}
        return Response.of({"status": "success", **body})

    # --- Books ------------------------------------------------------------------------------------

    @route("GET", "/v2/order/retrieve-all", group="book")
    def book(self, call: Call) -> Response:
        return success([order_row(order, row) for order, row in call.book()])

    @route("GET", "/v2/order/details", group="details")
    def details(self, call: Call) -> Response:
        number = call.request.query.get("order_id", "")
        for order, row in call.book():
            if order.id == number:
                return success(order_row(order, row))
        raise Refusal(Reason.UNKNOWN_ORDER)

    @route("GET", "/v2/order/history", group="history")
    def history(self, call: Call) -> Response:
        """Answer every state of the orders with an id or a tag: of the tag alone, of all that
        carry it.
        """
        query = call.request.query
        if not query.get("order_id") and not query.get("tag"):
            raise Wrong("UDAPI1023", "The 'order_id' or the 'tag' is required")
        rows: list[dict[str, Any]] = []
        for order, last in call.book():
            if query.get("order_id", order.id) != order.id:
                continue
            if query.get("tag", order.ticket.tag) != order.ticket.tag:
                continue
            upto = order.rows[: order.rows.index(last) + 1]
            rows += [history_row(order, row) for row in upto]
        if not rows and query.get("order_id"):
            raise Refusal(Reason.UNKNOWN_ORDER)
        return success(rows)

    @route("GET", "/v2/order/trades/get-trades-for-day", group="trades")
    def trades(self, call: Call) -> Response:
        return success([trade_row(fill) for fill in call.trades()])

    @route("GET", "/v2/order/trades", group="trades")
    def trades_of(self, call: Call) -> Response:
        number = call.request.query.get("order_id", "")
        self.exchange.order(call.account, number)
        return success([trade_row(f) for f in call.trades() if f.order.id == number])

    @route("POST", "/v2/order/positions/exit", group="order", fixed_ip=True)
    def exit_all(self, call: Call) -> Response:
        """Close every open position that is not delivery, at the market."""
        self.in_service()
        numbers = []
        for position in list(call.account.positions.values()):
            if position.product == "CNC" or not position.quantity:
                continue
            side = "SELL" if position.quantity > 0 else "BUY"
            ticket = Ticket(
                position.instrument,
                side,
                abs(position.quantity),
                product=position.product,
                protection=DEFAULT_PROTECTION,
            )
            numbers.append(self.exchange.place(call.account, ticket, id=self.next_order_id()).id)
        if not numbers:
            raise Wrong("UDAPI1111", "There are no open positions to exit")
        total = len(numbers)
        summary = {"total": total, "success": total, "error": 0}
        return success({"order_ids": numbers}, errors=None, summary=summary)


def _one_error(e: Exception) -> dict[str, Any]:
    if isinstance(e, Wrong):
        code, message = e.code, e.message
    else:
        assert isinstance(e, Refusal)
        code, message = REFUSED.get(e.reason, ("UDAPI100036", "Invalid Input"))
    return {
        "error_code": code,
        "message": message,
        "property_path": None,
        "invalid_value": None,
    }


__all__ = ["Order", "Orders"]
