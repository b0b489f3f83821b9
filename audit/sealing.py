"""The second stage of the log: one sealer chains the entries whose transactions have ended.

Writers take no lock and know nothing of the chain. An entry may become visible later than one with
a greater id, so the id alone would skip rows; but once a transaction id is below the oldest one
still running, no row of it can appear any more. Entries are sealed in the order (transaction, id)
up to there.
"""

import logging
from dataclasses import dataclass
from typing import Any

import msgspec
from django.db import connection, transaction
from django.utils import timezone

from audit import canonical, keys

logger = logging.getLogger(__name__)

LOCK = 0x5A0DA_5EA1
BATCH = 5000

# How PostgreSQL prints the columns of canonical.CONTENT so that their bytes are the signed ones.
CONTENT_SQL = """e.uid::text, to_char(e.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    e.user_id::text, e.actor_kind, e.actor_id::text, e.session_id::text, e.ip, e.action,
    e.object_type, e.object_id, e.changes::text, e.reason, e.request_id, e.app_version"""
CHANGES_AT = canonical.CONTENT.index("changes")

_CANDIDATES = f"""
    SELECT e.id, e.xact::text, e.mac, {CONTENT_SQL}
      FROM audit_auditentry e
     WHERE e.id > %(era)s
       AND (e.xact, e.id) > (%(xact)s::xid8, %(entry_id)s)
       AND e.xact < pg_snapshot_xmin(pg_current_snapshot())
     ORDER BY e.xact, e.id
     LIMIT %(limit)s
"""  # noqa: S608
_LAST = """
    SELECT seq, entry_id, xact::text, era, hash, pg_snapshot_xmin(pg_current_snapshot())::text
      FROM audit_auditseal ORDER BY seq DESC LIMIT 1
"""
_INSERT = """
    INSERT INTO audit_auditseal (seq, entry_id, xact, era, prev_hash, hash, key_id, sealed_at)
    SELECT seq, entry_id, xact::xid8, %(era)s, prev_hash, hash, %(key_id)s,
           %(sealed_at)s::timestamptz
      FROM unnest(%(seq)s::bigint[], %(entry_id)s::bigint[], %(xact)s::text[],
                  %(prev_hash)s::bytea[], %(hash)s::bytea[])
           AS t (seq, entry_id, xact, prev_hash, hash)
"""

_decode = msgspec.json.Decoder().decode


@dataclass(slots=True)
class Tail:
    """Where the chain ends."""

    seq: int = 0
    entry_id: int = 0
    xact: int = 0
    era: int = 0
    hash: bytes = canonical.GENESIS


def content_of(columns: Any) -> bytes:
    """Return the signed bytes of a row selected with ``CONTENT_SQL``."""
    row = list(columns)
    row[CHANGES_AT] = _decode(row[CHANGES_AT])
    return canonical.content_bytes_of_row(row)


def mac_is_valid(mac: bytes, content: bytes) -> bool:
    key = keys.find_key(bytes(mac[:4]).hex())
    return key is not None and canonical.entry_mac(key, content) == bytes(mac)


def seal(limit: int = BATCH) -> int:
    """Seal up to ``limit`` ended entries and return how many were sealed; 0 if another sealer is at
    it.

    An entry that no holder of the key has written is left out and logged; ``verify_audit`` names
    it.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [LOCK])
        if not cursor.fetchone()[0]:
            return 0
        return _extend(cursor, _tail(cursor), limit)


def _tail(cursor: Any) -> Tail:
    cursor.execute(_LAST)
    found = cursor.fetchone()
    if found is None:
        return Tail()
    seq, entry_id, xact, era, digest, oldest_running = found
    tail = Tail(seq, entry_id, int(xact), era, bytes(digest))
    if int(oldest_running) <= tail.xact:
        return _begin_era(cursor, tail, int(oldest_running))
    return tail


def _begin_era(cursor: Any, tail: Tail, next_xact: int) -> Tail:
    """Step over to the transaction ids of a new cluster, after sealing what the old one left."""
    _extend(cursor, tail, None, ended=True)
    cursor.execute(
        "SELECT max(id) FROM audit_auditentry WHERE xact >= %s::xid8 AND id > %s",
        [str(next_xact), tail.era],
    )
    tail.era = cursor.fetchone()[0] or tail.entry_id
    tail.xact = tail.entry_id = 0
    logger.warning("audit: transaction ids begin anew; era after entry %d", tail.era)
    return tail


def _extend(cursor: Any, tail: Tail, limit: int | None, *, ended: bool = False) -> int:
    sealed = 0
    query = (
        _CANDIDATES.replace("e.xact < pg_snapshot_xmin(pg_current_snapshot())", "true")
        if ended
        else _CANDIDATES
    )
    while limit is None or sealed < limit:
        size = BATCH if limit is None else min(BATCH, limit - sealed)
        cursor.execute(
            query,
            {"era": tail.era, "xact": str(tail.xact), "entry_id": tail.entry_id, "limit": size},
        )
        rows = cursor.fetchall()
        sealed += _append(cursor, tail, rows)
        if len(rows) < size:
            break
    return sealed


def _append(cursor: Any, tail: Tail, rows: list[Any]) -> int:
    key, sealed_at = keys.signing_key(), timezone.now()
    at = canonical.utc_text(sealed_at)
    links: dict[str, list[Any]] = {
        "seq": [], "entry_id": [], "xact": [], "prev_hash": [], "hash": [],
    }  # fmt: skip
    for entry_id, xact_text, mac, *columns in rows:
        content = content_of(columns)
        tail.entry_id, tail.xact = entry_id, int(xact_text)
        if not mac_is_valid(mac, content):
            logger.critical("audit: entry %d was not written by this application", entry_id)
            continue
        tail.seq += 1
        place = canonical.position(tail.seq, entry_id, tail.xact, tail.era, at)
        digest = canonical.seal_hash(key, tail.hash, place, content)
        links["seq"].append(tail.seq)
        links["entry_id"].append(entry_id)
        links["xact"].append(xact_text)
        links["prev_hash"].append(tail.hash)
        links["hash"].append(digest)
        tail.hash = digest
    if links["seq"]:
        cursor.execute(
            _INSERT,
            {**links, "era": tail.era, "key_id": canonical.key_id(key), "sealed_at": sealed_at},
        )
    return len(links["seq"])
