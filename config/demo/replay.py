"""Steps on recorded candles: the quotes move as the file says, and a trade is made on them.

The file is read here once more, by its own few lines: what the platform plays is compared with it.
"""

import csv
import time
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import quote

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
        """Find the instruments that are played, and take one that can be traded."""
        for name, bars in _tracks(self.path).items():
            symbol = _symbol(run, name)
            self.tracks[symbol] = bars
            found = run.api.get(f"/instruments/{quote(symbol)}")
            if found["is_tradable"] and not run.instrument:
                run.symbol, run.instrument = symbol, found
        expect(bool(run.instrument), "an instrument that can be traded", sorted(self.tracks))
        minutes = max(map(len, self.tracks.values()))
        return f"{minutes} minutes, {self.speed} times as fast, {run.symbol} to trade"

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


def _symbol(run: Run, name: str) -> str:
    """Return which instrument a column's prefix, or a symbol in the file, stands for.

    Raises:
        Failed: no option is being played.
    """
    if name == "nifty":
        return INDEX
    if name not in ("call", "put"):
        return name if ":" in name else f"NSE:{name}"
    path = f"/instruments/{quote(INDEX)}"
    expiry = run.api.get(f"{path}/expiries")["results"][-1]
    chain = run.api.get(f"{path}/option-chain", params={"expiry": expiry})["results"]
    played = [strike[name]["symbol"] for strike in chain if strike[name]["last_price"] is not None]
    expect(len(played) == 1, f"one {name} of {expiry} that is played", played)
    return str(played[0])


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
