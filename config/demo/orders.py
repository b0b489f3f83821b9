"""Steps: the lives that an order can have."""

import secrets
from decimal import Decimal
from typing import Any

from config.demo.market import book_side
from config.demo.report import Failed, expect, expect_equal
from config.demo.run import Run

QUANTITY = 20
SOLD = 8
BOOK_TICKS = 20  # more than a book of five levels is wide
# Shares whose book of five levels a demo account can pay for; the cheapest book is taken.
PARTIAL_CANDIDATES = (
    "NSE:ITC",
    "NSE:ONGC",
    "NSE:COALINDIA",
    "NSE:POWERGRID",
    "NSE:NTPC",
    "NSE:WIPRO",
    "NSE:TATASTEEL",
)


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
    """An order for twice the displayed book fills in parts; what is left is cancelled."""
    instrument, asks = _smallest_book(run)
    shown = sum(quantity for _, quantity in asks)
    tick = Decimal(instrument["tick_size"])
    placed = run.place(
        symbol=instrument["symbol"],
        side="BUY",
        quantity=2 * shown,
        order_type="LIMIT",
        price=_text(asks[-1][0] + 5 * tick),
        product="MIS",
    )
    part = run.socket.order(placed["id"], "PARTIALLY_FILLED")
    run.api.call("DELETE", f"/orders/{placed['id']}", status=(202, 409))
    ended = run.socket.order(placed["id"], "CANCELLED", "FILLED")
    expect(
        0 < part["filled_quantity"] < part["quantity"] == 2 * shown,
        f"a part of {2 * shown} filled",
        part["filled_quantity"],
    )
    run.orders["partial"] = ended
    symbol = instrument["symbol"].partition(":")[2]
    first, end = part["filled_quantity"], f"{ended['status']} at {ended['filled_quantity']}"
    return f"{first} of {2 * shown} {symbol}, then {end}"


def _smallest_book(run: Run) -> tuple[dict[str, Any], list[tuple[Decimal, int]]]:
    """Return the candidate whose sellers ask for the least in all, and their levels."""
    found = []
    for symbol in PARTIAL_CANDIDATES:
        name = symbol.partition(":")[2]
        rows = run.api.get("/instruments", params={"q": name})["results"]
        for row in rows:
            if row["symbol"] == symbol:
                asks = book_side(run.quote(row), "sell")
                found.append((sum(price * quantity for price, quantity in asks), row, asks))
    if not found:
        raise Failed("shares for the partial fill", "none of the candidates is listed")
    _, instrument, asks = min(found, key=lambda entry: entry[0])
    return instrument, asks


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
    bought = Decimal(run.orders["market buy"]["average_price"])
    gain = SOLD * (Decimal(filled["average_price"]) - bought)
    return f"{SOLD} at ₹{filled['average_price']}: about ₹{gain:,.2f} realised"


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
    return f"{placed['quantity']} {symbol.partition(':')[2]} sold, realised ₹{left['realised_pnl']}"


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
