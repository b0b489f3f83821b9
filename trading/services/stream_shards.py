"""Which of several processes serves which connections: locks in PostgreSQL, which end with the
process that holds them.

Connections fall into shards by their id. A process holds the locks of its shards on one connection
to the database, and a lock that says it is there. Each takes its fair part of the shards, gives up
what is more when another one comes, and takes what is free when one has gone.
"""

from __future__ import annotations

from uuid import UUID

from django.db import connection as database

SHARDS = 64
_CLASS, _PRESENT = 0x5A0DA, 10_000  # the first number is ours alone; the second is above all shards

_COUNT = """
SELECT count(DISTINCT pid) FROM pg_locks
WHERE locktype = 'advisory' AND granted AND classid = %s AND objid = %s
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


def shard_of(connection_id: UUID) -> int:
    return connection_id.int % SHARDS


class Shards:
    """The shards of this process. Used from one thread, whose database connection holds them."""

    def __init__(self) -> None:
        self.held: set[int] = set()
        self._session: object = None

    def balance(self) -> set[int]:
        """Take, keep or give up shards; return those held now.

        Raises:
            DatabaseError: PostgreSQL is away, and all locks with it. What was held stays in `held`
                until it is known to be another's: two that serve one connection do no harm.
        """
        with database.cursor() as cursor:
            if self._session is not database.connection:  # a new one, which holds nothing yet
                for name, seconds in (("idle", 5), ("interval", 2), ("count", 3)):
                    cursor.execute(f"SET tcp_keepalives_{name} = {seconds}")  # a lost machine
                cursor.execute("SELECT pg_advisory_lock_shared(%s, %s)", [_CLASS, _PRESENT])
                wanted, self.held = self.held, set()
                self._session = database.connection
                self.held = {shard for shard in sorted(wanted) if self._take(cursor, shard)}
            cursor.execute(_COUNT, [_CLASS, _PRESENT])
            present = max(cursor.fetchone()[0], 1)
            fair = -(-SHARDS // present)
            for shard in sorted(self.held)[fair:]:
                cursor.execute("SELECT pg_advisory_unlock(%s, %s)", [_CLASS, shard])
                self.held.discard(shard)
            for shard in range(SHARDS):
                if len(self.held) >= fair:
                    break
                if shard not in self.held and self._take(cursor, shard):
                    self.held.add(shard)
        return set(self.held)

    def release(self) -> None:
        """Give up everything. Raises as `balance`."""
        self.held.clear()
        if self._session is database.connection and database.connection is not None:
            with database.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock_all()")
        self._session = None

    def _take(self, cursor: object, shard: int) -> bool:
        cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", [_CLASS, shard])  # type: ignore[attr-defined]
        return bool(cursor.fetchone()[0])  # type: ignore[attr-defined]
