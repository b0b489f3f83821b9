"""Reading a broker's instrument list: who reads it, when it is due, and what must be refused.

The list is fetched through the newest open session of any user of the broker: it is the same for
all. It is read to its end before the database is touched.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from datetime import time as clock
from typing import Any

from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from brokerages.base import BrokerAdapter
from brokerages.errors import BrokerError
from brokerages.registry import BROKER_NAMES, adapter_class
from brokerages.selectors import connections_with_session
from brokerages.services import adapter_for
from brokerages.types import InstrumentRecord
from marketdata import broker_refs, selectors
from marketdata.calendar import IST, trading_date
from marketdata.errors import InstrumentListRefused
from marketdata.instrument_merge import Merged, merge
from marketdata.instrument_rows import Tally, spool
from marketdata.models import BrokerInstrument, InstrumentSync
from marketdata.services import LOAD_LOCK

logger = logging.getLogger(__name__)

State = InstrumentSync.State

DUE_AT = clock(8, 30)  # in India: brokers rebuild their lists between six and eight
LEAST_SHARE = 0.8  # a list with fewer of the rows in use is not believed
LEASE = timedelta(minutes=5)  # then whoever reads a list is taken for dead
SESSIONS_TRIED = 3


def brokers_with_lists() -> list[str]:
    """Return the names of the brokers that say what they list."""
    return [name for name in BROKER_NAMES if adapter_class(name).capabilities.lists_instruments]


def is_due(broker: str, now: datetime) -> bool:
    """Whether the list of today (from 08:30 in India) was not read yet."""
    day = trading_date(now)
    since = datetime.combine(day, DUE_AT, IST)
    if since > now:
        since -= timedelta(days=1)
    done = InstrumentSync.objects.filter(broker=broker, state=State.DONE)
    return not done.filter(started_at__gte=since.astimezone(UTC)).exists()


def instruments_sync(broker: str) -> InstrumentSync | None:
    """Read the broker's list and bring our rows to it; None if another process is at it.

    Safe to repeat and to run twice at once. A list that is refused, or cannot be read, changes
    nothing; the row that is returned says why.
    """
    run = _start(broker)
    if run is None:
        return None
    try:
        records = _first_readable(broker, lambda adapter: adapter.fetch_instruments())
    except BrokerError as e:
        return _failed(run, e.message)
    return _load(run, records)


def records_load(broker: str, records: Iterable[InstrumentRecord]) -> InstrumentSync | None:
    """Bring our rows to a list at hand, as `instruments_sync` does with a broker's."""
    run = _start(broker)
    return None if run is None else _load(run, records)


def _load(run: InstrumentSync, records: Iterable[InstrumentRecord]) -> InstrumentSync:
    started = time.monotonic()
    try:
        file, tally = spool(records, trading_date(run.started_at))
        with closing(file):
            read = time.monotonic()
            with transaction.atomic():
                with connection.cursor() as cursor:
                    cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOAD_LOCK])
                _require_most(run.broker, tally, run.started_at)
                done = merge(run.broker, file, tally, timezone.now())
                if done.listed == 0:
                    raise InstrumentListRefused("No row of the list can be used.")
                _finish(run, tally, done, seconds=(read - started, time.monotonic() - read))
    except (BrokerError, InstrumentListRefused) as e:
        return _failed(run, str(e))
    except Exception as e:
        _failed(run, f"Internal error: {type(e).__name__}.")
        raise
    selectors.clear_tables()
    broker_refs.clear()
    return run


def _first_readable(
    broker: str, read: Callable[[BrokerAdapter], Iterable[InstrumentRecord]]
) -> Iterable[InstrumentRecord]:
    """Return what ``read`` gives through the first session that works.

    Raises:
        BrokerError: none does; the error of the last one.
    """
    error: BrokerError = BrokerError("No session of this broker is open.", broker=broker)
    for connection_id in connections_with_session(broker)[:SESSIONS_TRIED]:
        try:
            records = iter(read(adapter_for(connection_id)))
            first = next(records, None)
        except BrokerError as e:
            error = e
            continue
        return _rest(first, records)
    raise error


def _rest(
    first: InstrumentRecord | None, records: Iterable[InstrumentRecord]
) -> Iterable[InstrumentRecord]:
    if first is not None:
        yield first
    yield from records


def _require_most(broker: str, tally: Tally, now: datetime) -> None:
    """Refuse a list that lacks a fifth of what is in use: it was cut off, or is not the list."""
    in_use = (
        BrokerInstrument.objects.filter(broker=broker, is_active=True)
        .exclude(instrument__expiry__lt=trading_date(now))
        .count()
    )
    usable = tally.rows - sum(tally.skipped.values())
    if usable < LEAST_SHARE * in_use:
        raise InstrumentListRefused(
            f"The list has {usable} usable rows of {tally.rows}; {in_use} are in use."
        )


def _start(broker: str) -> InstrumentSync | None:
    now = timezone.now()
    running = InstrumentSync.objects.filter(broker=broker, state=State.RUNNING)
    running.filter(lease_until__lt=now).update(
        state=State.FAILED, finished_at=now, error="It did not come to its end."
    )
    try:
        with transaction.atomic():
            return InstrumentSync.objects.create(
                broker=broker, state=State.RUNNING, started_at=now, lease_until=now + LEASE
            )
    except IntegrityError:
        return None


def _finish(
    run: InstrumentSync, tally: Tally, done: Merged, *, seconds: tuple[float, float]
) -> None:
    run.state, run.finished_at = State.DONE, timezone.now()
    run.rows, run.matched, run.created = tally.rows, done.matched, done.created
    run.changed, run.retired = done.changed, done.retired
    run.report = {
        "listed": done.listed,
        "skipped": dict(tally.skipped),
        "examples": tally.examples,
        "read_ms": round(seconds[0] * 1000),
        "merge_ms": round(seconds[1] * 1000),
    }
    # one that lost its lease meanwhile did the work all the same; its row says so again
    run.save()
    logger.info("instruments of %s: %s", run.broker, summary(run))


def _failed(run: InstrumentSync, error: str) -> InstrumentSync:
    run.state, run.finished_at, run.error = State.FAILED, timezone.now(), error
    run.save(update_fields=["state", "finished_at", "error"])
    logger.warning("instruments of %s were not loaded: %s", run.broker, error)
    return run


def summary(run: InstrumentSync) -> str:
    """Return one line for people: what was read and what came of it."""
    if run.state != State.DONE:
        return run.error or run.state
    left: dict[str, Any] = run.report.get("skipped", {})
    skipped = ", ".join(f"{count} {reason}" for reason, count in sorted(left.items())) or "none"
    return (
        f"{run.rows} rows; {run.matched} known, {run.created} new, {run.changed} written,"
        f" {run.retired} retired; left out: {skipped}"
    )
