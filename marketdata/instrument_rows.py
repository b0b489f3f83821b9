"""A broker's instrument list on its way to the database: each row checked, written as text for
COPY. No database.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import IO

from brokerages.types import Exchange, InstrumentKind, InstrumentRecord

COLUMNS = (
    "exchange", "segment", "kind", "symbol", "broker_symbol", "broker_token", "exchange_token",
    "name", "isin", "tick_size", "lot_size", "freeze_quantity", "expiry", "strike", "underlying",
)  # fmt: skip
"""What `spool` writes of a row, in this order."""

EXAMPLES = 5  # of each kind of row that cannot be used
_IN_MEMORY = 32 * 1024 * 1024
_MAX_WHOLE = 2_147_483_647
_CONTRACTS = frozenset({InstrumentKind.FUT, InstrumentKind.CE, InstrumentKind.PE})
_LENGTHS = (
    ("symbol", 40), ("broker_symbol", 80), ("broker_token", 64), ("exchange_token", 24),
    ("isin", 12), ("underlying", 40),
)  # fmt: skip
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": " ", "\n": " ", "\r": " ", "\0": None})
_FINEST_TICK, _FINEST_STRIKE = Decimal("0.0001"), Decimal("0.01")


@dataclass(slots=True)
class Tally:
    """Rows that were read, and those that cannot be used: how many by reason, with examples."""

    rows: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    expiries: set[tuple[str, str, date, bool]] = field(default_factory=set)

    def skip(self, reason: str, name: str, count: int = 1) -> None:
        self.skipped[reason] += count
        shown = self.examples.setdefault(reason, [])
        if len(shown) < EXAMPLES:
            shown.append(name)


def spool(records: Iterable[InstrumentRecord], today: date) -> tuple[IO[bytes], Tally]:
    """Read the list to its end into a temporary file of COPY text; return it, rewound, and the
    tally.

    A list is read before the database is touched: a slow download holds no lock. ``today`` is the
    trading day: contracts that expired before it are left out.
    """
    file: IO[bytes] = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - the caller closes
    tally = Tally()
    for line in _lines(records, today, tally):
        file.write(line)
    file.seek(0)
    return file, tally


def _lines(records: Iterable[InstrumentRecord], today: date, tally: Tally) -> Iterator[bytes]:
    for record in records:
        tally.rows += 1
        reason = why_unusable(record, today)
        if reason is not None:
            tally.skip(reason, f"{record.exchange}:{record.broker_symbol}"[:100])
            continue
        if record.expiry is not None:
            is_future = record.kind is InstrumentKind.FUT
            tally.expiries.add((record.exchange, record.underlying, record.expiry, is_future))
        yield _line(record)


def why_unusable(record: InstrumentRecord, today: date) -> str | None:
    """Return a stable word for what is wrong with a row, else None."""
    if not record.symbol or not record.broker_symbol:
        return "no_symbol"
    if any(len(getattr(record, name)) > length for name, length in _LENGTHS):
        return "too_long"
    if not 1 <= record.lot_size <= _MAX_WHOLE:
        return "lot_size"
    tick = record.tick_size
    if not 0 < tick < 10_000 or tick % _FINEST_TICK:
        return "tick_size"
    if record.kind not in _CONTRACTS:
        return None if record.expiry is None else "expiry"
    if record.expiry is None or not record.underlying:
        return "contract_terms"
    if record.expiry < today:
        return "expired"
    if record.kind is not InstrumentKind.FUT:
        strike = record.strike
        if strike is None or not 0 < strike < 10_000_000_000 or strike % _FINEST_STRIKE:
            return "strike"
    return None


def _line(record: InstrumentRecord) -> bytes:
    freeze = record.freeze_quantity
    option = record.kind in (InstrumentKind.CE, InstrumentKind.PE)
    fields = (
        record.exchange.value,
        record.segment.value,
        record.kind.value,
        _text(record.symbol.upper()),
        _text(record.broker_symbol),
        _text(record.broker_token),
        _text(record.exchange_token),
        _text(record.name[:120]),
        _text(record.isin.upper()),
        str(record.tick_size),
        str(record.lot_size),
        r"\N" if not freeze or freeze > _MAX_WHOLE else str(freeze),
        r"\N" if record.expiry is None else record.expiry.isoformat(),
        str(record.strike) if option else r"\N",
        _text(record.underlying.upper()),
    )
    return ("\t".join(fields) + "\n").encode("utf-8", "replace")


def _text(text: str) -> str:
    return text.translate(_ESCAPES) if text else text


def monthly(expiries: Iterable[tuple[str, str, date, bool]]) -> set[tuple[str, str, date, bool]]:
    """Return those of (exchange, underlying, day, is future) that are the last of their month: the
    monthly contracts.
    """
    last: dict[tuple[str, str, int, int, bool], date] = {}
    every = list(expiries)
    for exchange, underlying, day, is_future in every:
        month = (exchange, underlying, day.year, day.month, is_future)
        last[month] = max(day, last.get(month, day))
    return {
        (exchange, underlying, day, is_future)
        for exchange, underlying, day, is_future in every
        if day == last[exchange, underlying, day.year, day.month, is_future]
    }


DERIVATIVES_OF = {Exchange.NSE: Exchange.NFO, Exchange.BSE: Exchange.BFO}
"""Where the contracts on an exchange's shares and indices are listed."""
