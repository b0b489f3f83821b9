"""Order endpoints: varieties, autoslice, cover and iceberg legs, books, trades, GTT."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from tests.emulators.core.accounts import Account
from tests.emulators.core.dialect import Call, Dialect, route
from tests.emulators.core.exchange import OrderEvent
from tests.emulators.core.instruments import Instrument
from tests.emulators.core.messages import Response
from tests.emulators.core.orders import Fill, Order, Reason, Refusal, Stage, Ticket
from tests.emulators.zerodha.words import (
    AUTOMATIC_PROTECTION,
    BadInput,
    error,
    number,
    order_row,
    refusal_text,
    stamp,
    success,
    token_of,
)

VARIETIES = ("regular", "amo", "co", "iceberg", "auction")
MAX_CHANGES = 25
MAX_TAG = 20
GTT_LIFE = timedelta(days=365)


def whole(form: dict[str, Any], name: str, default: int | None = None) -> int:
    if name not in form and default is not None:
        return default
    try:
        return int(form[name])
    except (KeyError, ValueError, TypeError):
        raise BadInput(f"Invalid `{name}`.") from None


def price(form: dict[str, Any], name: str) -> Decimal | None:
    """Return a price of a form; None where it is absent, empty or 0."""
    text = str(form.get(name) or "").strip()
    if not text:
        return None
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise BadInput(f"Invalid `{name}`.") from None
    if not value.is_finite() or value < 0:
        raise BadInput(f"Invalid `{name}`.")
    return value or None


def one_of(form: dict[str, Any], name: str, allowed: tuple[str, ...]) -> str:
    value = form.get(name, "")
    if value not in allowed:
        raise BadInput(f"Invalid `{name}`.")
    return str(value)


class Orders(Dialect):
    """Order life of the emulated Kite."""

    gtts: dict[int, dict[str, Any]]

    def api_key_of(self, request: Any) -> str:
        raise NotImplementedError

    def next_order_id(self) -> str:
        """Return a 19-digit number, the form of Kite's order ids."""
        return f"19{self.clock.local():%y%m%d}{self.next_number():011d}"

    # --- Place, modify, cancel --------------------------------------------------------------------

    @route("POST", "/orders/{variety}", group="order", fixed_ip=True)
    def place(self, call: Call) -> Response:
        form, variety = call.request.form, call.params["variety"]
        if variety not in VARIETIES:
            raise BadInput("Invalid `variety`.")
        extra = {"variety": variety, "api_key": self.api_key_of(call.request)}
        ticket = self._ticket(form, variety, extra)
        freeze = ticket.instrument.freeze
        if form.get("autoslice") == "true" and freeze and ticket.quantity > freeze:
            return self._place_slices(call.account, ticket, freeze)
        if variety == "iceberg":
            ticket = self._iceberg(ticket, form)
        order = self.exchange.place(call.account, ticket, id=self.next_order_id())
        return success({"order_id": order.id})

    @route("PUT", "/orders/{variety}/{order_id}", group="order", fixed_ip=True)
    def modify(self, call: Call) -> Response:
        form, order = call.request.form, self._order(call)
        ticket = replace(
            order.ticket,
            quantity=order.quantity,
            type=order.type,
            price=order.price,
            trigger=order.trigger,
            validity=order.validity,
            disclosed=order.disclosed,
        )
        if "order_type" in form:
            types = ("MARKET", "LIMIT", "SL", "SL-M")
            ticket = replace(ticket, type=one_of(form, "order_type", types))
        if "validity" in form:
            ticket = replace(ticket, validity=one_of(form, "validity", ("DAY", "IOC")))
        if "quantity" in form:
            ticket = replace(ticket, quantity=whole(form, "quantity"))
        if "disclosed_quantity" in form:
            ticket = replace(ticket, disclosed=whole(form, "disclosed_quantity"))
        if "price" in form:
            ticket = replace(ticket, price=price(form, "price"))
        if "trigger_price" in form:
            ticket = replace(ticket, trigger=price(form, "trigger_price"))
        ticket = replace(
            ticket,
            price=ticket.price if ticket.has_price else None,
            trigger=ticket.trigger if ticket.has_trigger else None,
            protection=None if ticket.has_price else self._protection(form, ticket),
        )
        self.exchange.modify(call.account, order.id, ticket, max_changes=MAX_CHANGES)
        return success({"order_id": order.id})

    @route("DELETE", "/orders/{variety}/{order_id}", group="order", fixed_ip=True)
    def cancel(self, call: Call) -> Response:
        order = self._order(call)
        if order.ticket.extra.get("parent") and call.params["variety"] == "co":
            # The exit of a cover order: its stop becomes a market order.
            ticket = replace(
                order.ticket,
                type="MARKET",
                trigger=None,
                price=None,
                protection=AUTOMATIC_PROTECTION,
            )
            self.exchange.modify(call.account, order.id, ticket)
        else:
            self.exchange.cancel(call.account, order.id)
        return success({"order_id": order.id})

    def _order(self, call: Call) -> Order:
        order = self.exchange.order(call.account, call.params["order_id"])
        if order.ticket.extra["variety"] != call.params["variety"]:
            raise Refusal(Reason.UNKNOWN_ORDER)
        return order

    def _ticket(self, form: dict[str, Any], variety: str, extra: dict[str, Any]) -> Ticket:
        instrument = self.exchange.find(f"{form.get('exchange')}:{form.get('tradingsymbol')}")
        product = one_of(form, "product", ("CNC", "MIS", "NRML", "MTF", "CO"))
        if variety == "co" or product == "CO":
            extra["product"], product = "CO", "MIS"
        validity = one_of(form, "validity", ("DAY", "IOC", "TTL")) if "validity" in form else "DAY"
        tag = form.get("tag", "")
        if len(tag) > MAX_TAG or (not tag.isalnum() and tag):
            raise BadInput("Invalid `tag`. It is alphanumeric, and at most 20 characters long.")
        ticket = Ticket(
            instrument,
            one_of(form, "transaction_type", ("BUY", "SELL")),
            whole(form, "quantity"),
            one_of(form, "order_type", ("MARKET", "LIMIT", "SL", "SL-M")),
            product,
            "DAY" if validity == "TTL" else validity,
            disclosed=whole(form, "disclosed_quantity", 0),
            tag=tag,
            after_market=variety == "amo",
            extra=extra,
        )
        if validity == "TTL":
            minutes = whole(form, "validity_ttl")
            if minutes <= 0:
                raise BadInput("Invalid `validity_ttl`.")
            extra |= {"validity": "TTL", "ttl": minutes}
            ends = self.clock.now() + timedelta(minutes=minutes)
            ticket = replace(ticket, ends_at=ends)
        if instrument.exchange == "MCX" and ticket.validity == "IOC":
            raise BadInput("Invalid `validity`.")
        if variety == "co":
            extra["stop"] = price(form, "trigger_price")
            if extra["stop"] is None:
                raise BadInput("Invalid `trigger_price`.")
        return replace(
            ticket,
            price=price(form, "price") if ticket.has_price else None,
            trigger=price(form, "trigger_price") if ticket.has_trigger else None,
            protection=None if ticket.has_price else self._protection(form, ticket),
        )

    def _protection(self, form: dict[str, Any], ticket: Ticket) -> Decimal:
        try:
            value = Decimal(form.get("market_protection") or 0)
        except InvalidOperation:
            raise BadInput("Invalid `market_protection`.") from None
        if value == -1:
            return AUTOMATIC_PROTECTION
        if value == 0:
            raise Refusal(Reason.PROTECTION)
        if not 0 < value <= 100:
            raise BadInput("Invalid `market_protection`.")
        return value

    def _place_slices(self, account: Account, ticket: Ticket, freeze: int) -> Response:
        """Place a quantity above the freeze quantity in parts; the first part is the parent."""
        size = freeze - freeze % ticket.instrument.lot
        sizes = [size] * (ticket.quantity // size)
        sizes += [ticket.quantity % size] if ticket.quantity % size else []
        first = replace(ticket, quantity=sizes[0], extra={**ticket.extra, "tags": ("autoslice",)})
        parent = self.exchange.place(account, first, id=self.next_order_id())
        children: list[dict[str, Any]] = []
        tags = ("autoslice", f"autoslice:{parent.id}")
        for part in sizes[1:]:
            piece = replace(ticket, quantity=part, extra={**ticket.extra, "tags": tags})
            try:
                order = self.exchange.place(account, piece, id=self.next_order_id())
                children.append({"order_id": order.id})
            except Refusal as refusal:
                told = self.refused(refusal)
                body = json.loads(told.body)
                children.append(
                    {
                        "error": {
                            "code": told.status,
                            "error_type": body["error_type"],
                            "message": body["message"],
                            "data": None,
                        }
                    }
                )
        return success({"order_id": parent.id, "children": children})

    def _iceberg(self, ticket: Ticket, form: dict[str, Any]) -> Ticket:
        """Return the first leg. The others follow one by one, each when the one before is done."""
        legs, size = whole(form, "iceberg_legs"), whole(form, "iceberg_quantity")
        lot = ticket.instrument.lot
        if not 2 <= legs <= 10:
            raise BadInput("Invalid `iceberg_legs`.")
        if size % lot or not (legs - 1) * size < ticket.quantity <= legs * size:
            raise BadInput("Invalid `iceberg_quantity`.")
        return self._leg(ticket, 1, legs, size, ticket.quantity)

    def _leg(self, ticket: Ticket, leg: int, legs: int, size: int, total: int) -> Ticket:
        left = total - (leg - 1) * size
        iceberg = {
            "leg": leg,
            "legs": legs,
            "leg_quantity": size,
            "total_quantity": total,
            "remaining_quantity": max(left - size, 0),
        }
        extra = {**ticket.extra, "meta": {"iceberg": iceberg}}
        return replace(ticket, quantity=min(size, left), extra=extra)

    def follow_up(self, event: OrderEvent) -> None:
        """Do what an order of the exchange leads to: the stop of a cover order, the next leg of an
        iceberg.
        """
        order, extra = event.order, event.order.ticket.extra
        if event.row.stage is not Stage.COMPLETE:
            return
        if stop := extra.get("stop"):
            side = "SELL" if order.side == "BUY" else "BUY"
            ticket = Ticket(
                order.instrument,
                side,
                order.quantity,
                "SL-M",
                "MIS",
                trigger=stop,
                protection=AUTOMATIC_PROTECTION,
                tag=order.ticket.tag,
                extra={
                    "variety": "co",
                    "product": "CO",
                    "parent": order.id,
                    "api_key": extra["api_key"],
                },
            )
            self._place_or_drop(order.account, ticket)
        iceberg = extra.get("meta", {}).get("iceberg")
        if iceberg and iceberg["leg"] < iceberg["legs"] and iceberg["remaining_quantity"]:
            ticket = self._leg(
                order.ticket,
                iceberg["leg"] + 1,
                iceberg["legs"],
                iceberg["leg_quantity"],
                iceberg["total_quantity"],
            )
            self._place_or_drop(order.account, ticket)

    def _place_or_drop(self, account: Account, ticket: Ticket) -> str:
        """Place an order that no request waits for; return its id, or "" when it is refused."""
        try:
            return self.exchange.place(account, ticket, id=self.next_order_id()).id
        except Refusal:
            return ""

    # --- Books ------------------------------------------------------------------------------------

    @route("GET", "/orders", group="other")
    def orders(self, call: Call) -> Response:
        return success([order_row(order, row) for order, row in call.book()])

    @route("GET", "/orders/{order_id}", group="other")
    def history(self, call: Call) -> Response:
        known = {order.id: row for order, row in call.book()}
        order_id = call.params["order_id"]
        if order_id not in known:
            return error(404, "GeneralException", "Couldn't find that `order_id`.")
        order, last = call.account.orders[order_id], known[order_id]
        shown = []
        for row in order.rows:
            shown.append(order_row(order, row))
            if row is last:
                break
        return success(shown)

    @route("GET", "/trades", group="other")
    def trades(self, call: Call) -> Response:
        return success([self._trade(fill) for fill in call.trades()])

    @route("GET", "/orders/{order_id}/trades", group="other")
    def order_trades(self, call: Call) -> Response:
        order_id = call.params["order_id"]
        if order_id not in call.account.orders:
            return error(404, "GeneralException", "Couldn't find that `order_id`.")
        return success([self._trade(f) for f in call.trades() if f.order.id == order_id])

    def _trade(self, fill: Fill) -> dict[str, Any]:
        order = fill.order
        return {
            "trade_id": str(10_000_000 + int(fill.id)),
            "order_id": order.id,
            "exchange_order_id": order.exchange_id,
            "exchange": order.instrument.exchange,
            "tradingsymbol": order.instrument.symbol,
            "instrument_token": token_of(order.instrument),
            "transaction_type": order.side,
            "product": order.ticket.extra.get("product", order.product),
            "quantity": fill.quantity,
            "average_price": number(fill.price),
            "fill_timestamp": stamp(fill.at),
            "exchange_timestamp": stamp(fill.at),
            "order_timestamp": (stamp(fill.at) or "")[11:],
        }

    # --- GTT --------------------------------------------------------------------------------------

    @route("POST", "/gtt/triggers", group="other", fixed_ip=True)
    def place_gtt(self, call: Call) -> Response:
        gtt = self._gtt(call)
        gtt["id"] = self.next_number()
        gtt["created_at"] = gtt["updated_at"]
        self.gtts[gtt["id"]] = gtt
        return success({"trigger_id": gtt["id"]})

    @route("PUT", "/gtt/triggers/{id}", group="other", fixed_ip=True)
    def modify_gtt(self, call: Call) -> Response:
        old = self._own_gtt(call)
        if old["status"] != "active":
            raise BadInput("Only active triggers can be modified.")
        old |= self._gtt(call)
        return success({"trigger_id": old["id"]})

    @route("DELETE", "/gtt/triggers/{id}", group="other", fixed_ip=True)
    def delete_gtt(self, call: Call) -> Response:
        gtt = self._own_gtt(call)
        gtt["status"], gtt["updated_at"] = "deleted", stamp(self.clock.now())
        return success({"trigger_id": gtt["id"]})

    @route("GET", "/gtt/triggers", group="other")
    def list_gtts(self, call: Call) -> Response:
        mine = [g for g in self.gtts.values() if g["user_id"] == call.account.user_id]
        return success([self._gtt_row(gtt) for gtt in mine if gtt["status"] != "deleted"])

    @route("GET", "/gtt/triggers/{id}", group="other")
    def one_gtt(self, call: Call) -> Response:
        return success(self._gtt_row(self._own_gtt(call)))

    def _gtt(self, call: Call) -> dict[str, Any]:
        form = call.request.form
        kind = one_of(form, "type", ("single", "two-leg"))
        try:
            condition, orders = json.loads(form["condition"]), json.loads(form["orders"])
            values = [Decimal(str(value)) for value in condition["trigger_values"]]
            instrument = self.exchange.find(f"{condition['exchange']}:{condition['tradingsymbol']}")
        except (KeyError, TypeError, ValueError, InvalidOperation):
            raise BadInput("Invalid `condition` or `orders`.") from None
        legs = 1 if kind == "single" else 2
        if len(values) != legs or len(orders) != legs:
            raise BadInput("Invalid `trigger_values`.")
        for order in orders:
            self._gtt_ticket(order, instrument, self.api_key_of(call.request))
        now = self.clock.now()
        return {
            "user_id": call.account.user_id,
            "api_key": self.api_key_of(call.request),
            "parent_trigger": None,
            "type": kind,
            "updated_at": stamp(now),
            "expires_at": stamp(now + GTT_LIFE),
            "status": "active",
            "condition": {**condition, "instrument_token": token_of(instrument)},
            "orders": [{**order, "result": None} for order in orders],
            "meta": {},
        }

    def _gtt_ticket(self, order: dict[str, Any], instrument: Instrument, api_key: str) -> Ticket:
        return Ticket(
            instrument,
            one_of(order, "transaction_type", ("BUY", "SELL")),
            whole(order, "quantity"),
            one_of(order, "order_type", ("LIMIT",)),
            one_of(order, "product", ("CNC", "MIS", "NRML", "MTF")),
            price=price(order, "price"),
            extra={"variety": "regular", "api_key": api_key},
        )

    def _own_gtt(self, call: Call) -> dict[str, Any]:
        gtt = self.gtts.get(whole(call.params, "id"))
        if gtt is None or gtt["user_id"] != call.account.user_id:
            raise BadInput("Trigger not found.")
        return gtt

    def _gtt_row(self, gtt: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in gtt.items() if key != "api_key"}

    def watch_gtts(self, instrument: Instrument) -> None:
        """Place the orders of triggers that the last price has reached."""
        last = self.exchange.book(instrument).last
        for gtt in self.gtts.values():
            condition = gtt["condition"]
            if gtt["status"] != "active" or condition["instrument_token"] != token_of(instrument):
                continue
            values = [Decimal(str(value)) for value in condition["trigger_values"]]
            start = Decimal(str(condition.get("last_price", last)))
            for value, leg in zip(values, gtt["orders"], strict=True):
                if last <= value <= start or start <= value <= last:
                    self._fire(gtt, leg, instrument)
                    break

    def _fire(self, gtt: dict[str, Any], leg: dict[str, Any], instrument: Instrument) -> None:
        now, account = stamp(self.clock.now()), self.accounts[gtt["user_id"]]
        gtt["status"], gtt["updated_at"] = "triggered", now
        ticket = self._gtt_ticket(leg, instrument, gtt["api_key"])
        told = {"status": "success", "order_id": "", "rejection_reason": ""}
        try:
            told["order_id"] = self.exchange.place(account, ticket, id=self.next_order_id()).id
        except Refusal as refusal:
            told |= {"status": "failed", "rejection_reason": refusal_text(refusal)}
        leg["result"] = {
            "account_id": account.user_id,
            "exchange": instrument.exchange,
            "tradingsymbol": instrument.symbol,
            "validity": "DAY",
            "product": leg["product"],
            "order_type": leg["order_type"],
            "transaction_type": leg["transaction_type"],
            "quantity": leg["quantity"],
            "price": leg["price"],
            "meta": "",
            "timestamp": now,
            "triggered_at": float(self.exchange.book(instrument).last),
            "order_result": told,
        }
