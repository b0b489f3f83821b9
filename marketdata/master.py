"""All that a broker lists, read a part at a time: no cursor is held while a slow client reads."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec

from audit.sql import Row, Statement
from brokerages.registry import adapter_class
from marketdata.broker_refs import lists_own
from marketdata.errors import NotAtBroker
from marketdata.models import InstrumentSync
from marketdata.selectors import short_tick

PART = 2000
COLUMNS = (
    "symbol", "exchange", "segment", "trading_symbol", "exchange_token", "instrument_type", "name",
    "isin", "underlying", "expiry", "strike", "tick_size", "lot_size", "freeze_quantity",
    "broker_symbol", "broker_token",
)  # fmt: skip

_OF_BROKER = Statement("""
SELECT i.id, i.exchange || ':' || i.symbol, i.exchange, i.segment, i.symbol, i.exchange_token,
    i.kind, i.name, i.isin, i.underlying, i.expiry, i.strike, coalesce(b.tick_size, i.tick_size),
    coalesce(b.lot_size, i.lot_size), coalesce(b.freeze_quantity, i.freeze_quantity),
    b.broker_symbol, b.broker_token
FROM marketdata_brokerinstrument b JOIN marketdata_instrument i ON i.id = b.instrument_id
WHERE b.broker = %s AND b.is_active AND b.instrument_id > %s ORDER BY b.instrument_id LIMIT %s
""")
_OURS = Statement("""
SELECT id, exchange || ':' || symbol, exchange, segment, symbol, exchange_token, kind, name, isin,
    underlying, expiry, strike, tick_size, lot_size, freeze_quantity, symbol, exchange_token
FROM marketdata_instrument WHERE is_active AND NOT broker_listed AND id > %s ORDER BY id LIMIT %s
""")
_encoder = msgspec.json.Encoder()


def require_list(broker: str) -> None:
    """Check that the broker's list was read.

    Raises:
        NotAtBroker: it was not, yet.
    """
    done = InstrumentSync.objects.filter(broker=broker, state=InstrumentSync.State.DONE)
    if lists_own(broker) and not done.exists():
        raise NotAtBroker(
            f"The instrument list of {adapter_class(broker).label} is not loaded yet. It is read"
            " after the first login; try again in a minute.",
            code="instruments_not_loaded",
        )


def master_json(broker: str) -> Iterator[bytes]:
    """Yield the list as one JSON object, in parts."""
    before = b'{"status":"success","data":['
    for rows in _parts(broker):
        objects = (_encoder.encode(dict(zip(COLUMNS, row, strict=True))) for row in rows)
        yield before + b",".join(objects)
        before = b","
    yield b"]}" if before == b"," else before + b"]}"


def master_csv(broker: str) -> Iterator[bytes]:
    """Yield the list as CSV, in parts; the first line names the columns."""
    yield (",".join(COLUMNS) + "\r\n").encode()
    for rows in _parts(broker):
        text = io.StringIO()
        csv.writer(text).writerows(rows)
        yield text.getvalue().encode()


def _parts(broker: str) -> Iterator[list[list[Any]]]:
    own, last = lists_own(broker), 0
    while True:
        rows = _OF_BROKER.rows([broker, last, PART]) if own else _OURS.rows([last, PART])
        if not rows:
            return
        last = rows[-1][0]
        yield [_shown(row) for row in rows]


def _shown(row: Row) -> list[Any]:
    values = list(row[1:])
    strike: Decimal | None = values[10]
    values[10] = None if strike is None else f"{strike:.2f}"
    values[11] = f"{short_tick(values[11]):f}"
    return values
