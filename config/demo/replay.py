"""Steps on recorded candles: the quotes move as the file says, and a trade is made on them.

The file is read here once more, by its own few lines: what the platform plays is compared with it.
"""

import csv
import time
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

from config.demo import figures, market, orders, sign_in
from config.demo.arithmetic import shown
from config.demo.client import Live
from config.demo.report import Failed, expect, expect_equal
from config.demo.run import Run, Step

INDEX = "NSE:NIFTY 50"
SECONDS = 10.0
LEAST_TICKS = 12

Bar = tuple[Decimal, Decimal, Decimal, Decimal]


def recorded_day(path: Path, speed: int) -> tuple[tuple[str, Step], ...]:
    """Return the steps of a demo on the candles in ``path``, played ``speed`` times as fast."""
    day = RecordedDay(path, speed)
    return (
        ("Health", sign_in.health),
        ("Sign up", sign_in.sign_up),
        ("Connect the paper broker", market.connect),
        ("Read the recording", day.read),
        ("Quotes follow the recording", day.watch),
        ("MARKET buy on it", day.buy),
        ("Wait for another price", day.wait),
        ("MARKET sell on it", day.sell),
        ("Fills add up to the orders", figures.fills),
        ("Positions, to the paisa", figures.positions),
        ("Funds, to the paisa", figures.funds),
        ("Profit and loss, to the paisa", figures.profit),
        ("Audit chain", figures.audit_chain),
    )


class RecordedDay:
    """The steps that know the file."""

    def __init__(self, path: Path, speed: int) -> None:
        self.path, self.speed = path, speed
        self.tracks: dict[str, list[Bar]] = {}  # by symbol

    def read(self, run: Run) -> str:
        """Find out which instruments are played, and take one that can be traded."""
        recorded = _tracks(self.path)
        played = _played(run, recorded)
        for row, last in played:
            name = next((n for n in (row["symbol"], row["trading_symbol"]) if n in recorded), None)
            if name is None:
                name = next((n for n, bars in recorded.items() if last in _prices(bars)), None)
            if name is not None:
                self.tracks[row["symbol"]] = recorded[name]
                if row["is_tradable"] and not run.instrument:
                    run.symbol, run.instrument = row["symbol"], row
        expect(bool(self.tracks), "instruments of the recording with quotes", sorted(recorded))
        expect(bool(run.instrument), "one that can be traded", sorted(self.tracks))
        minutes = len(next(iter(self.tracks.values())))
        return f"{', '.join(self.tracks)}: {minutes} minutes at {self.speed} times their speed"

    def watch(self, run: Run) -> str:
        """Every price that comes stands in the file, in the file's order and at the asked speed."""
        run.live = live = Live(run.api.url, run.api.access_token)
        live.subscribe("orders")
        live.subscribe("quotes", symbols=list(self.tracks))
        started = time.monotonic()
        live.until("ticks", lambda _: time.monotonic() - started > SECONDS, SECONDS + 5)
        notes = []
        for symbol, bars in self.tracks.items():
            ticks = [m for m in live.messages if m["type"] == "quote" and m["symbol"] == symbol]
            expect(len(ticks) >= LEAST_TICKS, f"{LEAST_TICKS} ticks of {symbol}", len(ticks))
            expect_equal("source", "replay", ticks[0]["source"])
            prices = [Decimal(tick["last_price"]) for tick in ticks]
            minutes = _minutes_played(symbol, bars, prices)
            # One second of play is `speed` seconds of the recording.
            wanted = SECONDS * self.speed / 60
            expect(minutes >= wanted * 0.6, f"{wanted:.0f} minutes in {SECONDS:.0f} s", minutes)
            notes.append(f"{symbol.partition(':')[2]} {prices[0]} to {prices[-1]}")
        return "; ".join(notes)

    def buy(self, run: Run) -> str:
        return self._trade(run, "BUY")

    def wait(self, run: Run) -> str:
        """Wait until the best bid is another than the price paid."""
        paid = Decimal(run.orders["BUY"]["average_price"])

        def moved(message: dict[str, Any]) -> bool:
            quoted = message.get("symbol") == run.symbol and message.get("bid")
            return bool(quoted and Decimal(message["bid"]) != paid)

        run.socket.messages.clear()
        bid = run.socket.until("another price", moved, seconds=30.0)["bid"]
        return f"bid ₹{bid} after ₹{paid}"

    def sell(self, run: Run) -> str:
        note = self._trade(run, "SELL")
        bought, sold = (Fraction(run.orders[side]["average_price"]) for side in ("BUY", "SELL"))
        gain = run.orders["SELL"]["quantity"] * (sold - bought)
        return f"{note}: {shown(gain)} realised"

    def _trade(self, run: Run, side: str) -> str:
        """Trade one lot; the price paid must lie in the recorded range, give or take the book."""
        lot = run.instrument["lot_size"]
        placed = run.place(side=side, quantity=lot, order_type="MARKET")
        filled = run.orders[side] = run.socket.order(placed["id"], "FILLED")
        price = Decimal(filled["average_price"])
        bars = self.tracks[run.symbol]
        lowest, highest = min(bar[2] for bar in bars), max(bar[1] for bar in bars)
        room = orders.BOOK_TICKS * Decimal(run.instrument["tick_size"])
        expect(
            lowest - room <= price <= highest + room,
            f"a price between {lowest} and {highest}",
            price,
        )
        return f"{lot} {run.symbol.partition(':')[2]} at ₹{price}"


def _tracks(path: Path) -> dict[str, list[Bar]]:
    """Return open, high, low and close of each minute, by symbol or by the columns' prefix."""
    found: dict[str, list[Bar]] = {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            for column in row:
                if column == "open" or column.endswith("_open"):
                    prefix = column.removesuffix("open")
                    name = row["symbol"] if "symbol" in row else prefix.removesuffix("_")
                    opening, high, low, close = (
                        Decimal(row[prefix + part]) for part in ("open", "high", "low", "close")
                    )
                    found.setdefault(name, []).append((opening, high, low, close))
    return found


def _prices(bars: list[Bar]) -> set[Decimal]:
    return {price for bar in bars for price in bar}


def _played(run: Run, recorded: dict[str, list[Bar]]) -> list[tuple[dict[str, Any], Decimal]]:
    """Return every instrument that may be meant and is being played, with its price."""
    rows = run.api.all("/instruments", q="NIFTY", limit="200") if "nifty" in recorded else []
    for name in recorded:
        rows += run.api.get("/instruments", params={"q": name.rpartition(":")[2]})["results"]
    by_symbol = {row["symbol"]: row for row in rows}
    symbols = sorted(by_symbol)
    played = []
    for start in range(0, len(symbols), 400):
        body = [{"symbol": symbol} for symbol in symbols[start : start + 400]]
        for symbol, quote in run.api.post("/ltp-quote", body)["data"].items():
            if quote.get("source") == "replay":
                played.append((by_symbol[symbol], Decimal(quote["last_price"])))
    return played


def _minutes_played(symbol: str, bars: list[Bar], prices: list[Decimal]) -> int:
    """Return over how many recorded minutes ``prices`` run, each found after the one before it.

    Raises:
        Failed: a price is not in the file where it would have to be.
    """
    first = last = None
    at = 0
    for price in prices:
        while at < len(bars) and price not in bars[at]:
            at += 1
        if at == len(bars):
            raise Failed(f"prices of {symbol} in the order of the recording", price)
        first, last = (at if first is None else first), at
    return (last or 0) - (first or 0)
