"""Instruments as one broker knows them: its own words, lot, tick and freeze quantity.

Kept in the process, since every order of a real broker needs one: looked up once, and forgotten
when the broker's list was read again (looked at once a minute). Brokers that list nothing of their
own (paper) take the platform's references as they are: no query.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from django.db import DatabaseError

from brokerages.registry import UnknownBroker, adapter_class
from brokerages.types import InstrumentRef
from marketdata.errors import NotAtBroker
from marketdata.models import BrokerInstrument, InstrumentSync
from marketdata.selectors import generation, ref_by_id, refs_by_ids, short_tick

CHECK_SECONDS = 60.0
UNKNOWN_SECONDS = 5.0  # how long a miss is believed: a first list may just be read

_FIELDS = (
    "instrument_id", "broker_symbol", "broker_token", "lot_size", "tick_size", "freeze_quantity",
    "is_active",
)  # fmt: skip


@dataclass(slots=True)
class _Known:
    """What this process looked up at one broker since its last list."""

    sync_id: int | None
    generation: int  # of the platform's own table, which the references are made from
    believed_until: float = 0.0
    refs: dict[int, tuple[InstrumentRef, bool]] = field(default_factory=dict)
    unknown: dict[int, float] = field(default_factory=dict)  # until when it is believed


_brokers: dict[str, _Known] = {}
_lock = threading.Lock()


def clear() -> None:
    """Forget what this process keeps."""
    with _lock:
        _brokers.clear()


def lists_own(broker: str) -> bool:
    """Whether the broker has names of its own for instruments, from a list of its own."""
    try:
        return adapter_class(broker).capabilities.lists_instruments
    except UnknownBroker:  # of an earlier version
        return False


def ref_at_broker(broker: str, instrument_id: int) -> InstrumentRef:
    """Return the reference that a new order at ``broker`` is placed with.

    Raises:
        NotAtBroker: the broker does not list it now, or its list was never read.
        UnknownInstrument: there is no such instrument at all.
    """
    if not lists_own(broker):
        return ref_by_id(instrument_id)
    found = _look_up(broker, [instrument_id]).get(instrument_id)
    if found is not None and found[1]:
        return found[0]
    raise why_not_at_broker(broker, instrument_id)


def ref_of_order(broker: str, instrument_id: int) -> InstrumentRef:
    """Return the reference of an order that exists: also of one that the broker's latest list no
    longer has, since it must be possible to cancel it.
    """
    if not lists_own(broker):
        return ref_by_id(instrument_id)
    found = _look_up(broker, [instrument_id]).get(instrument_id)
    return ref_by_id(instrument_id) if found is None else found[0]


def refs_at_broker(broker: str, instrument_ids: Iterable[int]) -> dict[int, InstrumentRef]:
    """Return the references by id; instruments that the broker does not list are left out."""
    ids = list(dict.fromkeys(instrument_ids))
    if not lists_own(broker):
        return refs_by_ids(ids)
    return {pk: ref for pk, (ref, active) in _look_up(broker, ids).items() if active}


def why_not_at_broker(broker: str, instrument_id: int) -> NotAtBroker:
    """Return the error for an instrument that the broker does not list."""
    ref, label = ref_by_id(instrument_id), adapter_class(broker).label
    known = _brokers.get(broker)
    if known is None or known.sync_id is None:
        return NotAtBroker(
            f"The instrument list of {label} is not loaded yet. It is read after the first login;"
            " try again in a minute.",
            code="instruments_not_loaded",
        )
    return NotAtBroker(f"{label} does not list {ref.key}.", code="instrument_not_at_broker")


def _look_up(broker: str, ids: Iterable[int]) -> dict[int, tuple[InstrumentRef, bool]]:
    known = _current(broker)
    found: dict[int, tuple[InstrumentRef, bool]] = {}
    missing: list[int] = []
    now = time.monotonic()
    for pk in ids:
        if (kept := known.refs.get(pk)) is not None:
            found[pk] = kept
        elif known.unknown.get(pk, 0.0) <= now:
            missing.append(pk)
    if not missing:
        return found
    refs = refs_by_ids(missing)
    rows = BrokerInstrument.objects.filter(broker=broker, instrument_id__in=missing)
    for row in rows.values(*_FIELDS):
        pk = row["instrument_id"]
        kept = known.refs[pk] = (_ref(refs[pk], row), row["is_active"])
        found[pk] = kept
    if len(known.unknown) > 100_000:
        known.unknown.clear()
    known.unknown.update({pk: now + UNKNOWN_SECONDS for pk in missing if pk not in found})
    return found


def _ref(ref: InstrumentRef, row: dict[str, Any]) -> InstrumentRef:
    tick = row["tick_size"]
    return replace(
        ref,
        broker_symbol=row["broker_symbol"],
        broker_token=row["broker_token"],
        lot_size=row["lot_size"] or ref.lot_size,
        tick_size=ref.tick_size if tick is None else short_tick(tick),
        freeze_quantity=row["freeze_quantity"] or ref.freeze_quantity,
    )


def _current(broker: str) -> _Known:
    now, table = time.monotonic(), generation()
    known = _brokers.get(broker)
    if known is not None and known.generation == table and now < known.believed_until:
        return known
    with _lock:
        known = _brokers.get(broker)
        try:
            latest = _latest_sync(broker)
        except DatabaseError:
            if known is None:
                raise
            latest = known.sync_id  # go on with what there is
        if known is None or (known.sync_id, known.generation) != (latest, table):
            known = _brokers[broker] = _Known(latest, table)
        known.believed_until = now + (CHECK_SECONDS if latest else UNKNOWN_SECONDS)
    return known


def _latest_sync(broker: str) -> int | None:
    done = InstrumentSync.objects.filter(broker=broker, state=InstrumentSync.State.DONE)
    return done.order_by("-id").values_list("pk", flat=True).first()
