"""The data files that come with the platform, read into plain values. No database."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import date, time
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from brokerages.types import InstrumentKind
from marketdata.calendar import Phase, SessionRow
from marketdata.contracts import ContractTerms, TickBand

FOLDER = Path(__file__).parent / "data"


def rows(name: str) -> Iterator[dict[str, str]]:
    """Yield the rows of ``<name>.csv``."""
    with (FOLDER / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


@cache
def tick_bands() -> tuple[TickBand, ...]:
    return tuple(
        TickBand(
            kind=InstrumentKind(row["kind"]),
            up_to=Decimal(row["up_to"]) if row["up_to"] else None,
            tick_size=Decimal(row["tick_size"]),
            valid_from=date.fromisoformat(row["valid_from"]),
        )
        for row in rows("tick_bands")
    )


@cache
def contract_terms() -> tuple[ContractTerms, ...]:
    return tuple(
        ContractTerms(
            underlying=row["underlying"],
            exchange=row["exchange"],
            expiry_weekday=int(row["expiry_weekday"]),
            weekly=row["weekly"] == "yes",
            strike_interval=Decimal(row["strike_interval"]),
            lot_size=int(row["lot_size"]),
            freeze_quantity=int(row["freeze_quantity"]),
            expiry_from=date.fromisoformat(row["expiry_from"]),
            expiry_to=date.fromisoformat(row["expiry_to"]) if row["expiry_to"] else None,
            source=row["source"],
        )
        for row in rows("contract_terms")
    )


@cache
def session_rows() -> tuple[tuple[SessionRow, str], ...]:
    """Return the rows of the calendar, each with its source."""
    return tuple(
        (
            SessionRow(
                group=row["group"],
                phase=Phase(row["phase"]),
                opens=_time(row["opens"]),
                closes=_time(row["closes"]),
                valid_from=date.fromisoformat(row["valid_from"]),
                valid_to=date.fromisoformat(row["valid_to"]),
                weekdays=row["weekdays"],
                special=row["special"] == "yes",
                note=row["note"],
            ),
            row["source"],
        )
        for row in rows("sessions")
    )


def session_values(row: SessionRow, source: str) -> dict[str, Any]:
    """Return a row of the calendar as the fields of its table."""
    return {
        "group": row.group,
        "phase": row.phase,
        "opens": row.opens,
        "closes": row.closes,
        "valid_from": row.valid_from,
        "valid_to": row.valid_to,
        "weekdays": row.weekdays,
        "special": row.special,
        "note": row.note,
        "source": source,
    }


def _time(text: str) -> time | None:
    return time.fromisoformat(text) if text else None
