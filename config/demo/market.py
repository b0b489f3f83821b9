"""Steps: brokers, instruments, quotes and their stream."""

from datetime import datetime
from decimal import Decimal
from typing import Any

from config.demo.client import Live
from config.demo.report import expect, expect_equal
from config.demo.run import Run

TICKS = 5
TICK_SECONDS = 15.0


def brokers(run: Run) -> str:
    found = run.api.get("/brokers")["results"]
    names = [broker["name"] for broker in found]
    expect("paper" in names, "the paper broker", names)
    return ", ".join(names)


def hours(run: Run) -> str:
    """Go on only while shares can be traded."""
    found = run.api.get("/calendar")
    groups = {group["group"]: group for group in found["groups"]}
    following = groups["EQUITY_FNO"]["next_session"]
    expect(groups["EQUITY_FNO"]["is_open"], "an open market for shares", f"next: {following}")
    return "open round the clock" if found["always_open"] else "open by the exchange's calendar"


def connect(run: Run) -> str:
    body = {
        "brokerage": "paper",
        "api_url": "",
        "api_key": "",
        "api_secret": "",
        "request_token": "",
    }
    connection = run.api.post("/dashboard/activate-brokerage", body, status=(200, 201))
    run.connection_id = connection["id"]
    expect_equal("state of the session", "ACTIVE", connection["session"]["state"])
    run.starting_funds = run.funds()
    expect(run.starting_funds > 0, "cash to trade with", run.starting_funds)
    return f"paper, session ACTIVE, ₹{run.starting_funds:,.2f} of play money"


def search(run: Run) -> str:
    run.instrument = run.find(run.symbol)
    return f"{run.symbol}: {run.instrument['name']}, tick ₹{run.instrument['tick_size']}"


def quote(run: Run) -> str:
    found = run.quote()
    bids, asks = book_side(found, "buy"), book_side(found, "sell")
    expect(bool(bids and asks), "a book with both sides", found)
    expect(bids[0][0] < asks[0][0], "a bid below the ask", (bids[0], asks[0]))
    best, levels = f"₹{bids[0][0]} / ₹{asks[0][0]}", f"{len(bids)}+{len(asks)} levels"
    return f"last ₹{found['last_price']}, best {best}, {levels}"


def book_side(found: dict[str, Any], side: str) -> list[tuple[Decimal, int]]:
    """Return price and quantity of each displayed level of the buyers' or the sellers' side."""
    return [(Decimal(level["price"]), level["quantity"]) for level in found["depth"][side]]


def follow(run: Run) -> str:
    """Listen to the user's own events."""
    run.live = live = Live(run.api.url, run.api.access_token)
    for channel in ("orders", "positions", "notifications"):
        live.subscribe(channel)
    return "orders, positions, notifications"


def stream(run: Run) -> str:
    """Watch the quote over the socket until several ticks came, each at its own time."""
    follow(run)
    live = run.socket
    live.subscribe("quotes", symbols=[run.symbol])

    def ticks() -> list[dict[str, Any]]:
        return [m for m in live.messages if m["type"] == "quote" and m["symbol"] == run.symbol]

    live.until(f"{TICKS} ticks of {run.symbol}", lambda _: len(ticks()) >= TICKS, TICK_SECONDS)
    times = [datetime.fromisoformat(tick["at"]) for tick in ticks()]
    expect(times == sorted(times), "ticks in the order of their times", list(map(str, times)))
    prices = [Decimal(tick["last_price"]) for tick in ticks()]
    expect(all(price > 0 for price in prices), "prices above zero", prices)
    live.send(type="unsubscribe", channel="quotes", symbols=[run.symbol])
    return f"{TICKS} ticks: " + " ".join(f"{price}" for price in prices[:TICKS])
