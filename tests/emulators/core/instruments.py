"""What the emulated exchange lists: a small set for tests, the bundled list for a person.

Symbols are the exchange's own; a dialect adds its broker's decorations and keys.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

from brokerages.types import InstrumentKind
from marketdata import contracts

DATA = Path(__file__).resolve().parents[3] / "marketdata" / "data"
DERIVATIVE_KINDS = ("FUT", "CE", "PE")


@dataclass(frozen=True, slots=True)
class Instrument:
    """``token`` is the exchange's number, ``reference`` the previous close in rupees, ``lot`` and
    ``freeze`` are units. ``exchange`` is the segment's short name: NSE BSE NFO BFO CDS MCX.
    ``kind`` is EQ, INDEX, FUT, CE or PE.
    """

    exchange: str
    symbol: str
    kind: str
    token: int
    reference: Decimal
    name: str = ""
    isin: str = ""
    tick: Decimal = Decimal("0.05")
    lot: int = 1
    freeze: int | None = None
    expiry: date | None = None
    strike: Decimal | None = None
    underlying: str = ""
    band_percent: Decimal = Decimal(10)  # circuit limits around the previous close

    @property
    def key(self) -> str:
        return f"{self.exchange}:{self.symbol}"

    @property
    def is_option(self) -> bool:
        return self.kind in ("CE", "PE")

    @property
    def is_derivative(self) -> bool:
        return self.kind in DERIVATIVE_KINDS

    @property
    def is_index(self) -> bool:
        return self.kind == "INDEX"

    @property
    def lower_circuit(self) -> Decimal:
        return self._circuit(-1)

    @property
    def upper_circuit(self) -> Decimal:
        return self._circuit(1)

    def _circuit(self, sign: int) -> Decimal:
        if self.is_option:
            return self.tick if sign < 0 else self.reference * 20
        edge = self.reference * (100 + sign * self.band_percent) / 100
        return max(self.to_tick(edge), self.tick)

    def to_tick(self, price: Decimal) -> Decimal:
        return (price / self.tick).to_integral_value() * self.tick


def small_list(today: date) -> list[Instrument]:
    """Return the instruments that tests trade. RELIANCE and the rest have a tick of 0.05 and a
    previous close of 100, so that amounts can be counted in the head.
    """
    hundred = Decimal(100)

    def share(symbol: str, token: int, isin: str, name: str, exchange: str = "NSE") -> Instrument:
        return Instrument(exchange, symbol, "EQ", token, hundred, name, isin)

    expiry = contracts.monthly_expiry(today.year, today.month, 2, lambda day: False)
    if expiry < today:
        later = today.replace(day=1) + timedelta(days=32)
        expiry = contracts.monthly_expiry(later.year, later.month, 2, lambda day: False)
    month = f"{expiry:%y}{contracts.MONTHS[expiry.month - 1]}"
    terms = {
        "name": "NIFTY", "underlying": "NIFTY", "expiry": expiry, "lot": 65, "freeze": 1800,
    }  # fmt: skip
    listed = [
        share("RELIANCE", 2885, "INE002A01018", "RELIANCE INDUSTRIES"),
        share("INFY", 1594, "INE009A01021", "INFOSYS"),
        share("TCS", 11536, "INE467B01029", "TATA CONSULTANCY SERVICES"),
        share("SBIN", 3045, "INE062A01020", "STATE BANK OF INDIA"),
        share("M&M", 2031, "INE101A01026", "MAHINDRA & MAHINDRA"),
        share("RELIANCE", 500325, "INE002A01018", "RELIANCE INDUSTRIES", "BSE"),
        Instrument(
            "NSE", "NIFTY 50", "INDEX", 26000, Decimal(24800), "NIFTY 50", underlying="NIFTY"
        ),
        Instrument(
            "NSE",
            "NIFTY BANK",
            "INDEX",
            26009,
            Decimal(55300),
            "NIFTY BANK",
            underlying="BANKNIFTY",
        ),
        Instrument("BSE", "SENSEX", "INDEX", 1, Decimal(81200), "SENSEX", underlying="SENSEX"),
        Instrument("NFO", f"NIFTY{month}FUT", "FUT", 53001, Decimal(24850), **terms),
    ]
    for token, (strike, kind) in enumerate(
        ((24700, "CE"), (24700, "PE"), (24800, "CE"), (24800, "PE"), (24900, "CE"), (24900, "PE")),
        start=54001,
    ):
        listed.append(
            Instrument(
                "NFO",
                f"NIFTY{month}{strike}{kind}",
                kind,
                token,
                hundred,
                strike=Decimal(strike),
                **terms,
            )
        )
    return listed


def full_list(today: date) -> list[Instrument]:
    """Return the platform's bundled shares and indices, and the index contracts of ``today``, with
    the ticks, lots and freeze quantities of the exchanges.
    """
    bands = [
        contracts.TickBand(
            InstrumentKind(row["kind"]),
            Decimal(row["up_to"]) if row["up_to"] else None,
            Decimal(row["tick_size"]),
            date.fromisoformat(row["valid_from"]),
        )
        for row in _rows("tick_bands")
    ]

    def tick(kind: str, price: Decimal) -> Decimal:
        return contracts.tick_size(bands, InstrumentKind(kind), price, today)

    listed = []
    for row in _rows("equities"):
        price = Decimal(row["reference_price"])
        listed.append(
            Instrument(
                row["exchange"],
                row["symbol"],
                "EQ",
                int(row["exchange_token"]),
                price,
                row["name"],
                row["isin"],
                tick("EQ", price),
            )
        )
    references = {}
    for row in _rows("indices"):
        price = Decimal(row["reference_price"])
        references[row["underlying"]] = price
        listed.append(
            Instrument(
                row["exchange"],
                row["symbol"],
                "INDEX",
                int(row["exchange_token"]),
                price,
                row["name"],
                tick=Decimal(row["tick_size"]),
                underlying=row["underlying"],
            )
        )
    terms = [
        contracts.ContractTerms(
            row["underlying"], row["exchange"], int(row["expiry_weekday"]), row["weekly"] == "yes",
            Decimal(row["strike_interval"]), int(row["lot_size"]), int(row["freeze_quantity"]),
            date.fromisoformat(row["expiry_from"]),
            date.fromisoformat(row["expiry_to"]) if row["expiry_to"] else None, row["source"],
        )
        for row in _rows("contract_terms")
    ]  # fmt: skip
    made_today = contracts.contracts(terms, bands, references, today, lambda day: False)
    for number, made in enumerate(made_today, start=40001):
        reference = references[made.underlying]
        if made.strike is not None:
            reference = option_value(made.kind, reference, made.strike, made.tick_size)
        listed.append(
            Instrument(
                made.exchange,
                made.symbol,
                str(made.kind),
                number,
                reference,
                made.underlying,
                tick=made.tick_size,
                lot=made.lot_size,
                freeze=made.freeze_quantity,
                expiry=made.expiry,
                strike=made.strike,
                underlying=made.underlying,
            )
        )
    return listed


def option_value(kind: str, spot: Decimal, strike: Decimal, tick: Decimal) -> Decimal:
    """Return a plausible premium: what the option is worth today, and something for the time."""
    inside = max(spot - strike if kind == "CE" else strike - spot, Decimal(0))
    time_value = max(spot / 100 - abs(spot - strike) / 10, spot / 1000)
    return max(((inside + time_value) / tick).to_integral_value() * tick, tick)


def _rows(name: str) -> Iterable[dict[str, str]]:
    with (DATA / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
