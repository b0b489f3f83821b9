"""Kite's books of a day: the orders as ours, and whose fills the trades are. Pure.

Source: https://kite.trade/docs/connect/v3/orders/.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from brokerages.adapters.zerodha.mapping import (
    TRADED,
    given_tags,
    id_of,
    order_report,
    status_of,
    tag_of,
)
from brokerages.adapters.zerodha.values import TICK_OF_TICKS, each, whole
from brokerages.types import ZERO, FillReport, OrderReport, ReportedStatus

S = ReportedStatus

_LIVE = frozenset(
    {S.RECEIVED, S.OPEN, S.TRIGGER_PENDING, S.PARTIALLY_FILLED, S.PENDING_CANCEL, S.UNKNOWN}
)


@dataclass(frozen=True, slots=True)
class Owner:
    """The order that a row belongs to: itself, or the first leg of an iceberg."""

    broker_order_id: str
    client_order_id: str


@dataclass(frozen=True, slots=True)
class OrderBook:
    """A read of the day's orders. ``owners`` tells by a row's id whose fills its are, ``tagged``
    finds an order's id by any of its tags. With ``unread`` rows the read is not complete.
    """

    reports: tuple[OrderReport, ...]
    owners: Mapping[str, Owner]
    tagged: Mapping[str, str]
    live_legs: Mapping[str, str]  # by the first leg's id: the leg that rests now
    unread: int

    def find(self, broker_order_id: str) -> OrderReport | None:
        return next((r for r in self.reports if r.broker_order_id == broker_order_id), None)

    def find_tagged(self, tag: str) -> OrderReport | None:
        """Return the order that carries ``tag``, in its ``tag`` or among its ``tags``."""
        found = self.find(self.tagged.get(tag, ""))
        return found and replace(found, client_order_id=tag)


def order_book(rows: Any, now: datetime) -> OrderBook:
    """Read ``GET /orders``. The legs of an iceberg, each a row of its own, become one order under
    the id of its first leg, which is the one that the placement returned.

    Raises:
        ValueError: not a book, or nothing of it can be read.
    """

    def keyed(row: Mapping[str, Any]) -> tuple[tuple[str, ...], Mapping[str, Any]] | None:
        if row["exchange"] not in TRADED:
            return None
        order_report(row, now)  # a row that cannot be read is found here
        if _iceberg(row) and tag_of(row):
            return ("iceberg", tag_of(row), str(row["tradingsymbol"])), row
        return ("order", id_of(row["order_id"])), row

    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    read, unread = each(rows, keyed)
    for key, row in read:
        groups.setdefault(key, []).append(row)
    merged, unmerged = each(list(groups.values()), lambda group: (_merged(group, now), group))
    owners: dict[str, Owner] = {}
    tagged: dict[str, str] = {}
    live_legs: dict[str, str] = {}
    for report, group in merged:
        for row in group:
            number = id_of(row["order_id"])
            owners[number] = Owner(report.broker_order_id, report.client_order_id)
            for tag in given_tags(row):
                tagged.setdefault(tag, report.broker_order_id)
            if status_of(row) in _LIVE:
                live_legs[report.broker_order_id] = number
    reports = tuple(report for report, _ in merged)
    return OrderBook(reports, owners, tagged, live_legs, unread + unmerged)


def is_leg(row: Mapping[str, Any]) -> bool:
    """Return whether the row is one leg of an iceberg: alone it does not tell the order's state."""
    return bool(_iceberg(row)) or row.get("variety") == "iceberg"


def fills_of_orders(fills: Iterable[FillReport], owners: Mapping[str, Owner]) -> list[FillReport]:
    """Return fills with the tags of their orders, and those of an iceberg's legs as the fills of
    its first.
    """
    found = []
    for fill in fills:
        owner = owners.get(fill.broker_order_id, Owner(fill.broker_order_id, ""))
        found.append(
            replace(
                fill,
                broker_order_id=owner.broker_order_id,
                client_order_id=owner.client_order_id,
            )
        )
    return found


def _merged(group: list[Mapping[str, Any]], now: datetime) -> OrderReport:
    """Return one order of its rows, and leave these in the order of their legs."""
    group.sort(key=lambda row: whole(_iceberg(row).get("leg", 1)))
    reports = [order_report(row, now) for row in group]
    first, last = reports[0], reports[-1]
    terms = _iceberg(group[-1])
    if not terms:
        return last
    total = whole(terms.get("total_quantity") or sum(r.quantity or 0 for r in reports))
    filled = sum(r.filled_quantity for r in reports)
    value = sum((r.filled_quantity * (r.average_price or ZERO) for r in reports), ZERO)
    live = next((r.status for r in reversed(reports) if r.status in _LIVE), None)
    if live is not None:
        status = S.PARTIALLY_FILLED if live is S.OPEN and filled else live
    elif filled >= total:
        status = S.FILLED
    elif last.status is S.FILLED:
        status = S.PARTIALLY_FILLED  # the next leg is on its way
    else:
        status = last.status
    return replace(
        last,
        broker_order_id=first.broker_order_id,
        status=status,
        quantity=total,
        filled_quantity=filled,
        average_price=(value / filled).quantize(TICK_OF_TICKS) if filled else None,
        exchange_order_id=first.exchange_order_id,
    )


def _iceberg(row: Mapping[str, Any]) -> Mapping[str, Any]:
    meta = row.get("meta")
    leg = meta.get("iceberg") if isinstance(meta, Mapping) else None
    return leg if isinstance(leg, Mapping) else {}
