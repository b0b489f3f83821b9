"""From a broker's list to the tables, as statements of one transaction: stage, match, merge.

Whoever reads meanwhile sees the rows as they were, then as they are: never an empty table. Nothing
is guessed: a row that contradicts what is known of an instrument is left out and counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import IO, Any

from django.db import connection

from marketdata.contracts import Expiry, contract_prefix
from marketdata.instrument_rows import COLUMNS, EXAMPLES, Tally, monthly

PATIENCE_SECONDS = 60  # for one statement; requests are allowed less
_CHUNK = 1 << 20
_MANY = 1000


@dataclass(frozen=True, slots=True)
class Merged:
    """What a list changed. ``listed`` rows are in use at the broker now."""

    listed: int
    matched: int
    created: int
    changed: int
    retired: int


_STAGE = """
CREATE TEMPORARY TABLE listed (
    n int GENERATED ALWAYS AS IDENTITY, exchange text, segment text, kind text, symbol text,
    broker_symbol text, broker_token text, exchange_token text, name text, isin text,
    tick_size numeric(8, 4), lot_size int, freeze_quantity int, expiry date, strike numeric(12, 2),
    underlying text, instrument_id bigint, how smallint, key text, reason text
)
"""

# Terms name a contract; its number is given to another one after its expiry.
_MATCH_CONTRACTS = """
UPDATE listed l SET instrument_id = i.id, how = 1 FROM marketdata_instrument i
WHERE l.expiry IS NOT NULL AND i.exchange = l.exchange AND i.underlying = l.underlying
  AND i.expiry = l.expiry AND i.kind = l.kind AND coalesce(i.strike, -1) = coalesce(l.strike, -1)
"""

_MATCH_NUMBER_AND_ISIN = """
UPDATE listed l SET instrument_id = i.id, how = 1 FROM marketdata_instrument i
WHERE l.kind = 'EQ' AND l.isin <> '' AND l.exchange_token <> '' AND i.kind = 'EQ'
  AND i.exchange = l.exchange AND i.exchange_token = l.exchange_token AND i.isin = l.isin
"""

# A share that was renamed: its ISIN must name one instrument here, and one row there.
_MATCH_ISIN = """
WITH ours AS (
    SELECT exchange, isin, min(id) AS id FROM marketdata_instrument
    WHERE kind = 'EQ' AND isin <> '' AND is_active GROUP BY exchange, isin HAVING count(*) = 1
), theirs AS (
    SELECT exchange, isin, min(n) AS n FROM listed
    WHERE kind = 'EQ' AND isin <> '' GROUP BY exchange, isin HAVING count(*) = 1
)
UPDATE listed l SET instrument_id = ours.id, how = 2 FROM ours JOIN theirs USING (exchange, isin)
WHERE l.n = theirs.n AND l.instrument_id IS NULL
"""

# An ISIN changes with the face value; the exchange's number then stays.
_MATCH_SYMBOL = """
UPDATE listed l SET instrument_id = i.id, how = 3 FROM marketdata_instrument i
WHERE l.kind = 'EQ' AND l.instrument_id IS NULL AND i.kind = 'EQ' AND i.exchange = l.exchange
  AND i.symbol = l.symbol
  AND (l.isin = '' OR i.isin = '' OR i.isin = l.isin
       OR (l.exchange_token <> '' AND i.exchange_token = l.exchange_token))
"""

# Brokers write index names with and without spaces, or say the name that contracts carry.
_MATCH_INDEX = """
UPDATE listed l SET instrument_id = i.id, how = 1 FROM marketdata_instrument i
WHERE l.kind = 'INDEX' AND l.instrument_id IS NULL AND i.kind = 'INDEX' AND i.exchange = l.exchange
  AND {ours} = replace(l.symbol, ' ', '')
"""
_INDEX_NAMES = ("replace(upper(i.symbol), ' ', '')", "replace(upper(i.underlying), ' ', '')")

_NAME_OTHERS = "UPDATE listed SET key = symbol WHERE expiry IS NULL AND instrument_id IS NULL"
_NAME_CONTRACTS = """
UPDATE listed l SET key = p.prefix
  || CASE WHEN l.kind = 'FUT' THEN 'FUT' ELSE trim_scale(l.strike)::text || l.kind END
FROM unnest(%s::text[], %s::text[], %s::date[], %s::bool[], %s::text[])
     AS p (exchange, underlying, expiry, is_future, prefix)
WHERE l.instrument_id IS NULL AND l.exchange = p.exchange AND l.underlying = p.underlying
  AND l.expiry = p.expiry AND (l.kind = 'FUT') = p.is_future
"""

_DROP_TWINS = """
WITH ranked AS (
    SELECT n, row_number() OVER (
        PARTITION BY coalesce(instrument_id::text, exchange || ':' || key)
        ORDER BY how, (broker_symbol <> symbol), n
    ) AS place FROM listed
)
UPDATE listed l SET reason = 'twice' FROM ranked r WHERE r.n = l.n AND r.place > 1
"""

# The name belongs to another instrument here: which one is meant, a person has to say.
_DROP_CONFLICTS = """
UPDATE listed l SET reason = 'conflict' FROM marketdata_instrument i
WHERE l.instrument_id IS NULL AND l.reason IS NULL AND i.exchange = l.exchange AND i.symbol = l.key
"""
_DROP_LONG = """
UPDATE listed SET reason = 'too_long' WHERE instrument_id IS NULL AND length(key) > 40
"""

_CREATE = """
INSERT INTO marketdata_instrument (
    exchange, segment, symbol, name, isin, kind, underlying, exchange_token, tick_size, lot_size,
    freeze_quantity, expiry, strike, is_tradable, has_derivatives, industry, reference_price,
    is_active, broker_listed, created_at, updated_at
)
SELECT exchange, segment, key,
    CASE WHEN expiry IS NOT NULL THEN left(underlying || to_char(expiry, ' DD Mon YYYY ')
        || coalesce(trim_scale(strike)::text || ' ', '') || kind, 120)
    WHEN name = '' THEN key ELSE name END,
    isin, kind, underlying, exchange_token, tick_size, lot_size, freeze_quantity, expiry, strike,
    kind <> 'INDEX', false, '', NULL, true, true, %(now)s, %(now)s
FROM listed WHERE instrument_id IS NULL AND reason IS NULL
"""
_LINK_CREATED = """
UPDATE listed l SET instrument_id = i.id, how = 9 FROM marketdata_instrument i
WHERE l.instrument_id IS NULL AND l.reason IS NULL AND i.exchange = l.exchange AND i.symbol = l.key
"""

# What was known only in part, is listed again, or is known from this broker alone.
_COMPLETE = """
UPDATE marketdata_instrument i SET
    isin = w.isin, exchange_token = w.exchange_token, freeze_quantity = w.freeze_quantity,
    tick_size = w.tick_size, lot_size = w.lot_size, is_active = true, updated_at = %(now)s
FROM (
    SELECT i.id,
        CASE WHEN l.isin <> '' AND (i.isin = '' OR i.broker_listed) THEN l.isin ELSE i.isin END
            AS isin,
        CASE WHEN l.exchange_token <> '' AND l.kind <> 'INDEX'
              AND (i.exchange_token = '' OR i.broker_listed OR length(i.exchange_token) = 16)
             THEN l.exchange_token ELSE i.exchange_token END AS exchange_token,
        CASE WHEN i.broker_listed AND NOT o.elsewhere
             THEN coalesce(l.freeze_quantity, i.freeze_quantity) ELSE i.freeze_quantity END
            AS freeze_quantity,
        CASE WHEN i.broker_listed AND NOT o.elsewhere THEN l.tick_size ELSE i.tick_size END
            AS tick_size,
        CASE WHEN i.broker_listed AND NOT o.elsewhere THEN l.lot_size ELSE i.lot_size END
            AS lot_size
    FROM listed l JOIN marketdata_instrument i ON i.id = l.instrument_id
    LEFT JOIN (
        SELECT DISTINCT instrument_id, true AS elsewhere FROM marketdata_brokerinstrument
        WHERE is_active AND broker <> %(broker)s
    ) b ON b.instrument_id = i.id
    CROSS JOIN LATERAL (SELECT coalesce(b.elsewhere, false) AS elsewhere) o
    WHERE l.reason IS NULL AND l.how < 9
) w
WHERE i.id = w.id AND (
    (i.isin, i.exchange_token, i.freeze_quantity, i.tick_size, i.lot_size)
    IS DISTINCT FROM (w.isin, w.exchange_token, w.freeze_quantity, w.tick_size, w.lot_size)
    OR NOT i.is_active
)
"""

_MERGE = """
MERGE INTO marketdata_brokerinstrument b
USING (
    SELECT l.instrument_id, l.broker_symbol, l.broker_token,
        nullif(l.lot_size, i.lot_size) AS lot_size, nullif(l.tick_size, i.tick_size) AS tick_size,
        nullif(l.freeze_quantity, i.freeze_quantity) AS freeze_quantity
    FROM listed l JOIN marketdata_instrument i ON i.id = l.instrument_id WHERE l.reason IS NULL
) l ON b.broker = %(broker)s AND b.instrument_id = l.instrument_id
WHEN MATCHED AND (b.broker_symbol, b.broker_token, b.lot_size, b.tick_size, b.freeze_quantity,
        b.is_active) IS DISTINCT FROM
    (l.broker_symbol, l.broker_token, l.lot_size, l.tick_size, l.freeze_quantity, true)
THEN UPDATE SET broker_symbol = l.broker_symbol, broker_token = l.broker_token,
    lot_size = l.lot_size, tick_size = l.tick_size, freeze_quantity = l.freeze_quantity,
    is_active = true, seen_at = %(now)s
WHEN NOT MATCHED THEN INSERT (broker, instrument_id, broker_symbol, broker_token, lot_size,
    tick_size, freeze_quantity, is_active, seen_at)
    VALUES (%(broker)s, l.instrument_id, l.broker_symbol, l.broker_token, l.lot_size, l.tick_size,
        l.freeze_quantity, true, %(now)s)
"""

_RETIRE = """
UPDATE marketdata_brokerinstrument b SET is_active = false
WHERE b.broker = %(broker)s AND b.is_active AND NOT EXISTS (
    SELECT FROM listed l WHERE l.instrument_id = b.instrument_id AND l.reason IS NULL
)
"""
_RETIRE_INSTRUMENTS = """
UPDATE marketdata_instrument i SET is_active = false, updated_at = %(now)s
WHERE i.broker_listed AND i.is_active AND NOT EXISTS (
    SELECT FROM marketdata_brokerinstrument b WHERE b.instrument_id = i.id AND b.is_active
)
"""
# Shares with contracts leave continuous trading for the closing auction.
_MARK_DERIVATIVES = """
UPDATE marketdata_instrument i SET has_derivatives = true, updated_at = %(now)s
WHERE i.broker_listed AND i.kind = 'EQ' AND i.exchange = 'NSE' AND NOT i.has_derivatives
  AND EXISTS (SELECT FROM listed l WHERE l.kind = 'FUT' AND l.exchange = 'NFO'
              AND l.underlying = i.symbol)
"""


def merge(broker: str, file: IO[bytes], tally: Tally, now: datetime) -> Merged:
    """Bring the tables to what the spooled list says. Call in a transaction that holds the lock of
    instrument loads; rows that cannot be used are added to ``tally``.
    """
    with connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL statement_timeout = '{PATIENCE_SECONDS}s'")
        cursor.execute(_STAGE)
        with cursor.copy(f"COPY listed ({', '.join(COLUMNS)}) FROM STDIN") as copy:
            while chunk := file.read(_CHUNK):
                copy.write(chunk)
        cursor.execute("ANALYZE listed")
        for statement in (_MATCH_CONTRACTS, _MATCH_NUMBER_AND_ISIN, _MATCH_ISIN, _MATCH_SYMBOL):
            cursor.execute(statement)
        for ours in _INDEX_NAMES:
            cursor.execute(_MATCH_INDEX.format(ours=ours))
        cursor.execute(_NAME_OTHERS)
        cursor.execute(_NAME_CONTRACTS, _prefixes(tally))
        for statement in (_DROP_TWINS, _DROP_CONFLICTS, _DROP_LONG):
            cursor.execute(statement)
        cursor.execute(
            "SELECT reason, count(*), (array_agg(exchange || ':' || broker_symbol ORDER BY n))[:%s]"
            " FROM listed WHERE reason IS NOT NULL GROUP BY reason",
            [EXAMPLES],
        )
        for reason, count, names in cursor.fetchall():
            tally.skip(reason, names[0], count)
            tally.examples[reason] = (tally.examples[reason] + names[1:])[:EXAMPLES]
        values: dict[str, Any] = {"broker": broker, "now": now}
        cursor.execute(
            "SELECT count(*) FROM listed WHERE reason IS NULL AND instrument_id IS NOT NULL"
        )
        matched = int(cursor.fetchone()[0])
        created = _count(cursor, _CREATE, values)
        _analyze(cursor, "marketdata_instrument", created)
        cursor.execute(_LINK_CREATED)
        cursor.execute("ANALYZE listed")
        cursor.execute(_COMPLETE, values)
        changed = _count(cursor, _MERGE, values)
        _analyze(cursor, "marketdata_brokerinstrument", changed)
        retired = _count(cursor, _RETIRE, values)
        cursor.execute(_RETIRE_INSTRUMENTS, values)
        cursor.execute(_MARK_DERIVATIVES, values)
        cursor.execute("DROP TABLE listed")
    return Merged(matched + created, matched, created, changed, retired)


def _analyze(cursor: Any, table: str, written: int) -> None:
    """Let what follows be planned for the table as it is now: plans for the small one it was a
    moment ago would take minutes.
    """
    if written > _MANY:
        cursor.execute(f"ANALYZE {table}")


def _count(cursor: Any, statement: str, values: dict[str, Any]) -> int:
    cursor.execute(statement, values)
    return int(cursor.rowcount)


def _prefixes(tally: Tally) -> list[list[Any]]:
    """Return what the symbols of each expiry begin with, as columns."""
    last = monthly(tally.expiries)
    rows: list[tuple[str, str, date, bool, str]] = [
        (*found, contract_prefix(found[1], Expiry(found[2], found in last)))
        for found in sorted(tally.expiries)
    ]
    return [list(column) for column in zip(*rows, strict=True)] or [[], [], [], [], []]
