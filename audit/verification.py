"""Does the log show everything that happened, unchanged? Names what is broken."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from django.db import connection
from django.utils import timezone

from audit import canonical, keys
from audit.anchors import anchors_read
from audit.sealing import CONTENT_SQL, content_of, mac_is_valid

CHUNK = 20_000
MOST_FINDINGS = 20
# Clocks of several machines, and transactions that take a while, may put times out of order by
# this.
CLOCK_TOLERANCE_SECONDS = 300


class Break(StrEnum):
    EDITED = "edited"  # the entry is not what was written
    DELETED = "deleted"  # the seal is there, the entry is not
    MISSING = "missing"  # seals of the chain are gone
    REWRITTEN = "rewritten"  # the seal is not one of ours, or stands in another place
    FORGED = "forged"  # an entry that no holder of the key wrote, or that was put in afterwards
    TRUNCATED = "truncated"  # an anchor knows of seals that are gone from the end
    ANCHOR = "anchor"  # an anchor and the chain disagree
    CLOCK = "clock"  # time ran backwards
    UNPROTECTED = "unprotected"  # a guard of the tables is off


@dataclass(frozen=True, slots=True)
class Finding:
    kind: Break
    message: str
    seq: int | None = None
    entry_id: int | None = None


@dataclass(slots=True)
class Verification:
    """What a walk found; ``ok`` if nothing is broken. Rows newer than the chain are unsealed, not
    broken.
    """

    checked: int = 0
    last_seq: int = 0
    unsealed: int = 0
    unsealed_seconds: float = 0.0  # age of the oldest unsealed entry
    seconds: float = 0.0
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.findings

    @property
    def full(self) -> bool:
        return len(self.findings) >= MOST_FINDINGS


_CHAIN = f"""
    SELECT s.seq, s.entry_id, s.xact::text, s.era, s.prev_hash, s.hash, s.key_id,
           extract(epoch FROM s.sealed_at)::bigint,
           to_char(s.sealed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
           e.id, e.xact::text, e.mac, extract(epoch FROM e.at)::bigint, {CONTENT_SQL}
      FROM audit_auditseal s LEFT JOIN audit_auditentry e ON e.id = s.entry_id
     WHERE s.seq > %s AND s.seq <= %s
     ORDER BY s.seq
"""  # noqa: S608
_LEFT_OUT = """
    SELECT e.id FROM audit_auditentry e
     WHERE (e.id <= %(era)s OR (e.xact, e.id) <= (%(xact)s::xid8, %(entry_id)s))
       AND NOT EXISTS (SELECT 1 FROM audit_auditseal s WHERE s.entry_id = e.id)
     ORDER BY e.id LIMIT %(limit)s
"""
_UNSEALED = f"""
    SELECT e.id, e.at, e.mac, {CONTENT_SQL} FROM audit_auditentry e
     WHERE e.id > %(era)s AND (e.xact, e.id) > (%(xact)s::xid8, %(entry_id)s)
     ORDER BY e.xact, e.id
"""  # noqa: S608
_GUARDS = """
    SELECT wanted.tab || '.' || wanted.name
      FROM (VALUES ('audit_auditentry', 'audit_entry_no_change'),
                   ('audit_auditentry', 'audit_entry_no_truncate'),
                   ('audit_auditseal', 'audit_seal_no_change'),
                   ('audit_auditseal', 'audit_seal_no_truncate')
           ) AS wanted (tab, name)
     WHERE NOT EXISTS (SELECT 1 FROM pg_trigger t WHERE t.tgrelid = wanted.tab::regclass
                          AND t.tgname = wanted.name AND t.tgenabled IN ('O', 'A'))
    UNION ALL
    SELECT wanted.tab || '.' || wanted.col || ' (unique)'
      FROM (VALUES ('audit_auditentry', 'uid'), ('audit_auditentry', 'id'),
                   ('audit_auditseal', 'seq'), ('audit_auditseal', 'entry_id')) AS wanted (tab, col)
     WHERE NOT EXISTS (SELECT 1 FROM pg_index i JOIN pg_attribute a
                           ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
                        WHERE i.indrelid = wanted.tab::regclass AND a.attname = wanted.col
                          AND i.indisunique AND i.indisvalid AND i.indnatts = 1)
     ORDER BY 1
"""


def verify(first: int | None = None, last: int | None = None) -> Verification:
    """Check the seals ``first`` to ``last`` (whole chain, unsealed rows and guards, if not given).

    Work stops at 20 findings: after a break, what follows is seldom news.
    """
    started = time.perf_counter()
    result = Verification()
    walk = _Walk(result, (first or 1) - 1)
    stop = last if last is not None else _last_seq()
    for row in _rows(walk.seq, stop):
        walk.step(row)
        if result.full:
            break
    walk.finish(stop)
    if last is None and not result.full:
        walk.truncation()
        if first is None:
            _left_out(result, walk)
        _unsealed(result, walk)
        _guards(result)
    result.seconds = time.perf_counter() - started
    return result


def first_broken(first: int | None = None, last: int | None = None) -> Finding | None:
    return next(iter(verify(first, last).findings), None)


def _last_seq() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT coalesce(max(seq), 0) FROM audit_auditseal")
        return int(cursor.fetchone()[0])


def _rows(seq: int, stop: int) -> Iterator[Any]:
    while seq < stop:
        with connection.cursor() as cursor:
            cursor.execute(_CHAIN, [seq, min(seq + CHUNK, stop)])
            yield from cursor.fetchall()
        seq += CHUNK


class _Walk:
    """One pass along the chain: what was expected next, and what came."""

    def __init__(self, result: Verification, after: int) -> None:
        self.result = result
        self.seq = after
        self.hash: bytes | None = canonical.GENESIS if after == 0 else _hash_of(after)
        self.xact, self.entry_id, self.era = "0", 0, 0
        self.sealed_at = self.newest_at = 0  # seconds since 1970
        self.subkeys: dict[str, bytes | None] = {}
        self.anchors: dict[int, list[Any]] = {}
        for anchor in anchors_read():
            if anchor.genuine:
                self.anchors.setdefault(anchor.seq, []).append(anchor)
            else:
                self._found(Break.ANCHOR, f"anchor {anchor.where} was not signed by a key of ours")

    def _found(
        self, kind: Break, message: str, seq: int | None = None, entry: int | None = None
    ) -> None:
        if not self.result.full:
            self.result.findings.append(Finding(kind, message, seq, entry))

    def step(self, row: Any) -> None:
        (seq, sealed_id, xact, era, previous, digest, key_id, sealed_at, sealed_text,
         entry_id, entry_xact, mac, at, *columns) = row  # fmt: skip
        if seq != self.seq + 1:
            self._gap(self.seq + 1, seq - 1)
        elif self.hash is not None and previous != self.hash:
            self._found(
                Break.REWRITTEN,
                f"seal {seq} (entry {sealed_id}) does not follow seal {seq - 1}",
                seq, sealed_id,
            )  # fmt: skip
        if entry_id is None:
            self._found(
                Break.DELETED, f"entry {sealed_id} was deleted (seal {seq})", seq, sealed_id
            )
        else:
            content = content_of(columns)
            subkey = self._subkey(key_id)
            place = canonical.position(seq, sealed_id, int(entry_xact), era, sealed_text)
            if subkey is None:
                self._found(
                    Break.REWRITTEN,
                    f"seal {seq} (entry {sealed_id}) names the unknown key {key_id}",
                    seq,
                    sealed_id,
                )
            elif canonical.link(subkey, previous, place, content) != digest or entry_xact != xact:
                self._mismatch(seq, sealed_id, mac_is_valid(mac, content))
            self._clock(seq, sealed_id, sealed_at, at)
        for anchor in self.anchors.get(seq, ()):
            if anchor.hash != bytes(digest).hex():
                self._found(
                    Break.ANCHOR,
                    f"seal {seq} (entry {sealed_id}) is not the one of anchor {anchor.where}",
                    seq, sealed_id,
                )  # fmt: skip
        self.seq, self.hash = seq, digest
        self.xact, self.entry_id, self.era = xact, sealed_id, era
        self.result.checked += 1
        self.result.last_seq = seq

    def _mismatch(self, seq: int, entry_id: int, genuine: bool) -> None:
        if genuine:
            self._found(
                Break.REWRITTEN,
                f"entry {entry_id} is genuine but not what seal {seq} was made for:"
                " rows were swapped, or the seal was rewritten",
                seq, entry_id,
            )  # fmt: skip
        else:
            self._found(
                Break.EDITED,
                f"entry {entry_id} is not what was written (seal {seq})",
                seq,
                entry_id,
            )

    def _subkey(self, key_id: str) -> bytes | None:
        """Return the sealing key of this id, looked up once a walk; None if it is not ours."""
        if key_id not in self.subkeys:
            key = keys.find_key(key_id)
            self.subkeys[key_id] = canonical.subkey(key, "seal") if key else None
        return self.subkeys[key_id]

    def _clock(self, seq: int, entry_id: int, sealed_at: int, at: int) -> None:
        latest = max(self.sealed_at - sealed_at, self.newest_at - at, at - sealed_at)
        if latest > CLOCK_TOLERANCE_SECONDS:
            self._found(
                Break.CLOCK,
                f"time ran backwards at entry {entry_id} (seal {seq})",
                seq,
                entry_id,
            )
        # The clock as it now is: a step back is told once, not at every later row.
        self.sealed_at, self.newest_at = sealed_at, at

    def _gap(self, first: int, last: int) -> None:
        which = f"seal {first} is" if first == last else f"seals {first} to {last} are"
        self._found(Break.MISSING, f"{which} missing from the chain", first)

    def finish(self, stop: int) -> None:
        if self.seq < stop and not self.result.full:
            self._gap(self.seq + 1, stop)

    def truncation(self) -> None:
        """Compare the chain's end with the anchors beyond it."""
        beyond = [seq for seq in self.anchors if seq > self.seq]
        if beyond:
            where = self.anchors[max(beyond)][0].where
            self._found(
                Break.TRUNCATED,
                f"the chain ends at seal {self.seq}, but anchor {where} knows seal {max(beyond)}: "
                f"seal {self.seq + 1} and what followed were cut off",
                self.seq + 1,
            )

    @property
    def position(self) -> dict[str, Any]:
        return {
            "era": self.era,
            "xact": self.xact,
            "entry_id": self.entry_id,
            "limit": MOST_FINDINGS,
        }


def _hash_of(seq: int) -> bytes | None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT hash FROM audit_auditseal WHERE seq = %s", [seq])
        found = cursor.fetchone()
    return bytes(found[0]) if found else None


def _left_out(result: Verification, walk: _Walk) -> None:
    """Rows before the chain's end that are not part of it: put in afterwards, or refused."""
    with connection.cursor() as cursor:
        cursor.execute(_LEFT_OUT, walk.position)
        for (entry_id,) in cursor.fetchall():
            message = f"entry {entry_id} is older than the chain's end and not part of it"
            result.findings.append(Finding(Break.FORGED, message, None, entry_id))


def _unsealed(result: Verification, walk: _Walk) -> None:
    oldest: datetime | None = None
    with connection.cursor() as cursor:
        cursor.execute(_UNSEALED, walk.position)
        while rows := cursor.fetchmany(CHUNK):
            for entry_id, at, mac, *columns in rows:
                result.unsealed += 1
                oldest = at if oldest is None else min(oldest, at)
                if not mac_is_valid(mac, content_of(columns)) and not result.full:
                    message = (
                        f"entry {entry_id} (not sealed yet) was not written by this application"
                    )
                    result.findings.append(Finding(Break.FORGED, message, None, entry_id))
    if oldest is not None:
        result.unsealed_seconds = max(0.0, (timezone.now() - oldest).total_seconds())


def _guards(result: Verification) -> None:
    with connection.cursor() as cursor:
        cursor.execute(_GUARDS)
        for (name,) in cursor.fetchall():
            message = f"the guard {name} is missing or switched off"
            result.findings.append(Finding(Break.UNPROTECTED, message))
