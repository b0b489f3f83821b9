"""Steps: the lives that an order can have."""

import secrets
from decimal import Decimal
from fractions import Fraction
from typing import Any

from config.demo.arithmetic import shown
from config.demo.market import book_side
from config.demo.report import expect, expect_equal
from config.demo.run import Run

QUANTITY = 20
SOLD = 8
BOOK_TICKS = 20  # more than a book of five levels is wide
PARTIAL = "NSE:INFY"
PARTIAL_TRIES = 5
INTRADAY_MARGIN = Decimal("0.20")


def preview(run: Run) -> str:
    body = {"symbol": run.symbol, "side": "BUY", "quantity": QUANTITY, "order_type": "MARKET"}
    found = run.api.post("/orders/preview", body)
    expect(found["denied"] is None, "an order that would be taken", found)
    expect(
        Decimal(found["margin_required"]) == Decimal(found["estimated_value"]),
        "all of the price as margin for delivery",
        found,
    )
    before = run.api.get("/orders")["results"]
    expect_equal("orders after a preview", [], before)
    return f"₹{found['margin_required']} needed, ₹{found['available_funds']} available"


def market_buy(run: Run) -> str:
    placed = run.place(side="BUY", quantity=QUANTITY, order_type="MARKET")
    filled = run.socket.order(placed["id"], "FILLED")
    expect_equal("filled quantity", QUANTITY, filled["filled_quantity"])
    run.orders["market buy"] = filled
    return f"{QUANTITY} at ₹{filled['average_price']}, FILLED over the socket"


def limit_buy(run: Run) -> str:
    """A buy 2 % below the best bid rests."""
    price = below(run, run.quote(), 2)
    body = {"side": "BUY", "quantity": 3, "order_type": "LIMIT", "price": price}
    key = f"demo-{secrets.token_hex(8)}"
    placed = run.place(key=key, **body)
    run.orders["limit buy"] = run.socket.order(placed["id"], "OPEN") | {"key": key, "body": body}
    return f"3 at ₹{price}, OPEN"


def replay(run: Run) -> str:
    first = run.orders["limit buy"]
    again = run.place(key=first["key"], **first["body"])
    expect_equal("the order of the first request", first["id"], again["id"])
    expect_equal(
        "header Idempotent-Replayed", "true", run.api.last.headers.get("idempotent-replayed")
    )
    return "the same order, Idempotent-Replayed: true"


def reused_key(run: Run) -> str:
    first = run.orders["limit buy"]
    body = {"symbol": run.symbol, **first["body"], "quantity": 4}
    headers = {"Idempotency-Key": first["key"]}
    error = run.api.refused("POST", "/orders", 422, json=body, headers=headers)
    return f"422 {error['code']}"


def stop_loss(run: Run) -> str:
    """A stop 3 % below the market waits for its trigger."""
    trigger, price = (below(run, run.quote(), percent) for percent in (3, 4))
    placed = run.place(side="SELL", quantity=5, order_type="SL", trigger_price=trigger, price=price)
    run.orders["stop loss"] = run.socket.order(placed["id"], "TRIGGER_PENDING")
    return f"5 below ₹{trigger}, TRIGGER_PENDING"


def modify(run: Run) -> str:
    order = run.orders["limit buy"]
    price = below(run, run.quote(), 3)
    run.api.call(
        "PATCH", f"/orders/{order['id']}", status=202, json={"price": price, "quantity": 2}
    )
    run.socket.until(
        "the new terms",
        lambda m: (
            m.get("order", {}).get("id") == order["id"]
            and (m["order"]["price"], m["order"]["quantity"]) == (price, 2)
        ),
    )
    return f"now 2 at ₹{price}"


def cancel(run: Run) -> str:
    for name in ("limit buy", "stop loss"):
        order = run.orders[name]["id"]
        run.api.call("DELETE", f"/orders/{order}", status=202)
        run.orders[name] = run.socket.order(order, "CANCELLED")
    run.api.refused("DELETE", f"/orders/{order}", 409)
    return "both CANCELLED; a second cancel is 409"


def partial_fill(run: Run) -> str:
    """An order for more than the book shows fills in part; what is left is cancelled."""
    instrument = run.find(PARTIAL)
    for _ in range(PARTIAL_TRIES):
        placed = run.place(**_larger_than_the_book(run, instrument))
        part = run.socket.order(placed["id"], "PARTIALLY_FILLED", "OPEN", "FILLED")
        run.api.call("DELETE", f"/orders/{placed['id']}", status=(202, 409))
        ended = run.orders["partial"] = run.socket.order(placed["id"], "CANCELLED", "FILLED")
        if (
            part["status"] == "PARTIALLY_FILLED"
        ):  # else the market had moved away from the book read
            break
    filled, wanted = part["filled_quantity"], placed["quantity"]
    expect(0 < filled < wanted, f"a part of {wanted} filled", filled)
    return f"{filled} of {wanted} INFY, then {ended['status']} at {ended['filled_quantity']}"


def _larger_than_the_book(run: Run, instrument: dict[str, Any]) -> dict[str, Any]:
    """Return a LIMIT buy for half as much again as the sellers show up to its price."""
    levels, funds = book_side(run.quote(instrument), "sell"), run.funds()
    room = BOOK_TICKS  # for the market to rise before the order is there: all five levels fill
    while len(levels) > 1 and _cost(levels) > funds:  # an account that cannot pay for all five
        levels.pop()
        room = 0
    price = levels[-1][0] + room * Decimal(instrument["tick_size"])
    return {
        "symbol": PARTIAL,
        "side": "BUY",
        "quantity": _wanted(levels),
        "order_type": "LIMIT",
        "price": _text(price),
        "product": "MIS",
    }


def _wanted(levels: list[tuple[Decimal, int]]) -> int:
    """Return half as much again as the levels show."""
    return sum(quantity for _, quantity in levels) * 3 // 2


def _cost(levels: list[tuple[Decimal, int]]) -> Decimal:
    """Return the margin for an order that is larger than these levels, with something to spare."""
    return _wanted(levels) * levels[-1][0] * INTRADAY_MARGIN * Decimal("1.05")


def rejected(run: Run) -> str:
    """An order beyond the funds goes to the broker, which refuses it."""
    price = Decimal(run.quote()["last_price"])
    quantity = int(run.starting_funds / price) + QUANTITY
    placed = run.place(side="BUY", quantity=quantity, order_type="MARKET")
    order = run.socket.order(placed["id"], "REJECTED")
    expect_equal("code", "insufficient_funds", order["status_code"])
    expect(bool(order["status_message"]), "a reason", order)
    run.orders["rejected"] = order
    return str(order["status_message"])


def denied(run: Run) -> str:
    """A price between two ticks is refused before anything is stored or sent."""
    price = Decimal(below(run, run.quote(), 2)) + Decimal(run.instrument["tick_size"]) / 2
    body = {
        "symbol": run.symbol,
        "side": "BUY",
        "quantity": 1,
        "order_type": "LIMIT",
        "price": str(price.normalize()),
    }
    headers = {"Idempotency-Key": f"demo-{secrets.token_hex(8)}"}
    error = run.api.refused("POST", "/orders", 422, "tick_size", json=body, headers=headers)
    return f"422 {error['code']}: {error['message']}"


def sell_part(run: Run) -> str:
    placed = run.place(side="SELL", quantity=SOLD, order_type="MARKET")
    filled = run.socket.order(placed["id"], "FILLED")
    run.orders["sell"] = filled
    bought, sold = (Fraction(run.orders[name]["average_price"]) for name in ("market buy", "sell"))
    return f"{SOLD} at {shown(sold)}: {shown(SOLD * (sold - bought))} realised"


def exit_position(run: Run) -> str:
    """Leave the intraday position of the partial fill."""
    symbol = run.orders["partial"]["symbol"]
    position = position_of(run, symbol)
    placed = run.api.post(f"/positions/{position['id']}/exit", {}, status=201)
    expect_equal("side of the exit", "SELL", placed["side"])
    expect_equal("quantity of the exit", position["quantity"], placed["quantity"])
    run.orders["exit"] = run.socket.order(placed["id"], "FILLED", seconds=20.0)
    left = position_of(run, symbol)
    expect_equal("units left", 0, left["quantity"])
    run.api.refused("POST", f"/positions/{position['id']}/exit", 409, json={})
    sold = f"{placed['quantity']} {symbol.partition(':')[2]} sold"
    return f"{sold}, {shown(left['realised_pnl'])} realised"


def position_of(run: Run, symbol: str) -> dict[str, Any]:
    """Return the user's position in ``symbol``."""
    found = [p for p in run.api.get("/positions")["results"] if p["symbol"] == symbol]
    expect(len(found) == 1, f"a position in {symbol}", found)
    position: dict[str, Any] = found[0]
    return position


def below(run: Run, quote: dict[str, Any], percent: int) -> str:
    """Return a price ``percent`` below the best bid, on a tick."""
    best, tick = book_side(quote, "buy")[0][0], Decimal(run.instrument["tick_size"])
    return _text(best * (100 - percent) / 100 // tick * tick)


def _text(price: Decimal) -> str:
    """Return a price with two decimals at least, as the platform writes it."""
    text = f"{price:.4f}"
    return text[:-2] if text.endswith("00") else text
